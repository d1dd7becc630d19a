// One socket of a flow: what it reads goes to its peer, and while the peer takes no more it does not read.

import { Socket } from 'node:net'
import { isReset, socketOptions, unsent } from './handle.ts'
import type { Reading, SocketSettings } from './handle.ts'
import { pin, readBuffer, stage, unpin } from './scratch.ts'
import type { Slab } from './scratch.ts'

/** The flow a side belongs to. */
export interface Pair {
  now(): number
  /** Bytes are in the buffer of the side; false stops its reading. */
  read(side: Side, length: number): boolean
  connected(side: Side): void
  /** The other end has said that it sends no more. */
  finished(side: Side): void
  /** All that was pending has been taken, and the source may be read again. */
  drained(side: Side, now: number): void
  broke(side: Side, error: NodeJS.ErrnoException): void
}

export class Side extends Socket {
  readonly pair: Pair
  peer: Side | null = null
  /** When a byte was last read from or written to this socket. */
  movedAt = 0
  /** Bytes have been written that the kernel has yet to take. */
  blocked = false
  /** The other end has sent its last byte. */
  eof = false
  #slab: Slab | null = null
  #unsent = 0

  constructor(pair: Pair, settings: SocketSettings<Side>) {
    super(socketOptions(settings))
    this.pair = pair
    this.on('drain', onDrain)
    // After `end` this comes instead.
    this.on('finish', onDrain)
    this.on('end', onEnd)
    this.on('error', onError)
  }

  /** Starts reading, or goes on after it was stopped. */
  start(): void {
    this.read(0)
  }

  /** Sends the first `length` bytes of the read buffer on; false when a part of them is left pending. */
  relay(length: number, now: number): boolean {
    this.write(stage(length))
    if (this.writableLength === 0) {
      this.movedAt = now
      return true
    }
    this.#slab = pin(length)
    this.#block(length, now)
    return false
  }

  /** Sends `bytes`, which nobody changes any more; false when a part of them is left pending. */
  send(bytes: Uint8Array, now: number): boolean {
    this.write(bytes)
    this.movedAt = now
    if (this.writableLength === 0) return true
    this.#block(bytes.length, now)
    return false
  }

  /** Notes whether the kernel has taken more of what is pending since this was last asked. */
  look(now: number): void {
    const left = unsent(this)
    if (left < this.#unsent) this.movedAt = now
    this.#unsent = left
  }

  /** Closes the descriptor at once, on demand with a reset; what the kernel has taken is still delivered. */
  close(reset = false): void {
    this.#release()
    this.peer = null
    if (this.destroyed) return
    // libuv refuses to reset a socket while its shutdown is under way; unix sockets know no reset.
    const shuttingDown = this.writableEnded && !this.writableFinished
    if (!reset || this.connecting || shuttingDown || !isTcp(this)) this.destroy()
    else this.resetAndDestroy()
  }

  /** What was pending has been taken. */
  drained(): void {
    // Every write is followed by 'drain', also those that left nothing pending.
    if (!this.blocked || this.destroyed) return
    const now = this.pair.now()
    this.#release()
    this.movedAt = now
    this.pair.drained(this, now)
  }

  #block(length: number, now: number): void {
    this.blocked = true
    this.#unsent = unsent(this)
    if (this.#unsent < length) this.movedAt = now
  }

  #release(): void {
    this.blocked = false
    if (this.#slab) unpin(this.#slab)
    this.#slab = null
  }
}

const RESET: NodeJS.ErrnoException = Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' })

/** How a relaying socket reads. */
export const RELAYING: Reading<Side> = { buffer: readBuffer, callback: onBytes }

/** Reads into `room()`, asked before every read, and into the common buffer when that gives none. */
export function readingInto(room: () => Uint8Array | undefined): Reading<Side> {
  return { buffer: () => room() ?? readBuffer, callback: onBytes }
}

function onBytes(this: Side, length: number): boolean {
  return this.pair.read(this, length)
}

/** For `connect` of a side that dials. */
export function onConnect(this: Side): void {
  this.pair.connected(this)
}

function onDrain(this: Side): void {
  this.drained()
}

function onEnd(this: Side): void {
  // Where bytes were waiting to be read, libuv tells a reset as an end. Once our own end has gone out, a socket
  // that was ended properly has no peer either.
  if (!this.writableEnded && isReset(this)) return this.pair.broke(this, RESET)
  this.eof = true
  this.pair.finished(this)
}

function onError(this: Side, error: NodeJS.ErrnoException): void {
  this.pair.broke(this, error)
}

function isTcp(socket: Socket): boolean {
  return socket.localFamily !== undefined
}

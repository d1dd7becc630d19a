// A session's own socket, connected to its backend.

import type { RemoteInfo, Socket } from 'node:dgram'
import type { HostPort } from '../../core/address.ts'
import { bindNow, dialCode, MOST_UNSENT, originFor, socketFor } from './udp.ts'

/** Whose line it is. */
export interface Caller {
  connected(): void
  /** There is no line: the system's word for why. */
  failed(code: string): void
  /** A datagram of the backend. */
  response(bytes: Uint8Array): void
  /** What became of datagrams, and the one that was not sent for it. False: it is to be sent all the same. */
  broke(code: string, bytes: Uint8Array | null): boolean
  /** A datagram was dropped. */
  unsent(): void
}

const NOBODY = { address: '', port: 0 }

export class Line {
  readonly #caller: Caller
  readonly #socket: LineSocket
  /** Where datagrams of the backend come from, as the system writes it. */
  #peer = NOBODY
  #sending = 0
  /** What was sent last, until the kernel has taken it. */
  #last: Uint8Array | null = null
  #open = true

  /** Connects to `to`, and says how that went when its caller is done. */
  constructor(caller: Caller, to: HostPort, source: string | undefined) {
    this.#caller = caller
    this.#socket = Object.assign(socketFor(to.host), { line: this })
    this.#socket.on('message', onMessage)
    const wrong = bindNow(this.#socket, originFor(to.host, source))
    this.#socket.on('error', onError)
    if (wrong) process.nextTick(() => this.#connected(wrong))
    else this.#connect(to)
  }

  /** Sends a datagram, or drops it. */
  send(bytes: Uint8Array): void {
    if (this.#sending >= MOST_UNSENT) return this.#caller.unsent()
    this.#sending++
    this.#last = bytes
    this.#socket.send(bytes, this.#sent)
  }

  /** Sends a datagram among others: each is known by its own call. */
  sendAmong(bytes: Uint8Array): void {
    this.#socket.send(bytes, (error) => {
      if (error) this.#refused(error, bytes)
    })
  }

  /** Twice is fine. */
  close(): void {
    if (!this.#open) return
    this.#open = false
    this.#last = null
    this.#socket.close()
  }

  received(bytes: Uint8Array, { address, port }: RemoteInfo): void {
    // A stranger may have sent to the port before it was connected.
    if (port !== this.#peer.port || address !== this.#peer.address) return
    if (this.#open) this.#caller.response(bytes)
  }

  broke(error: NodeJS.ErrnoException): void {
    if (this.#open) this.#caller.broke(error.code ?? 'UNKNOWN', null)
  }

  #connect({ host, port }: HostPort): void {
    const done = (error?: NodeJS.ErrnoException) => this.#connected(error)
    try {
      // Given the error too, which its type does not say.
      this.#socket.connect(port, host, done)
    } catch (error) {
      process.nextTick(done, error) // A port out of range.
    }
  }

  #connected(error: NodeJS.ErrnoException | undefined): void {
    if (!this.#open) return
    if (error) return this.#caller.failed(dialCode(error))
    this.#peer = this.#socket.remoteAddress()
    this.#caller.connected()
  }

  readonly #sent = (error: Error | null): void => {
    const last = this.#last
    this.#last = null
    // Where several were on their way, nobody knows which one it was.
    const known = this.#sending-- === 1
    if (!error || !this.#open) return
    if (last && known) this.#refused(error, last)
    else this.#caller.unsent()
  }

  /** A call may tell what became of an earlier datagram instead of sending this one (udp(7), "Error handling"). */
  #refused(error: NodeJS.ErrnoException, bytes: Uint8Array): void {
    if (!this.#open) return
    const { code = 'UNKNOWN' } = error
    if (this.#caller.broke(code, bytes)) return
    this.#socket.send(bytes, (error) => {
      if (error && this.#open) this.#caller.unsent()
    })
  }
}

type LineSocket = Socket & { line: Line }

function onMessage(this: LineSocket, bytes: Uint8Array, from: RemoteInfo): void {
  this.line.received(bytes, from)
}

function onError(this: LineSocket, error: NodeJS.ErrnoException): void {
  this.line.broke(error)
}

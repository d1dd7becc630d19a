// Those who send datagrams in a test: clients that ask, backends that answer.

import { createSocket } from 'node:dgram'
import type { Socket } from 'node:dgram'
import { once } from 'node:events'
import type { Test } from 'tap'
import type { HostPort } from '../../src/core/address.ts'
import { until } from './until.ts'

/** Longest a datagram is waited for. */
const LIMIT_MS = 10_000

/** A datagram that came in, and from where. */
export interface Heard {
  readonly bytes: Buffer
  readonly from: HostPort
}

/** A socket of datagrams, everything it has heard, and the words to send. */
export class Talker {
  readonly socket: Socket
  readonly address: HostPort
  readonly heard: Heard[] = []
  #closed = false

  constructor(socket: Socket) {
    this.socket = socket
    const { address, port } = socket.address()
    this.address = { host: address, port }
    socket.on('message', (bytes, { address: host, port }) => this.heard.push({ bytes, from: { host, port } }))
  }

  get port(): number {
    return this.address.port
  }

  /** What came in, in order. */
  get texts(): string[] {
    return this.heard.map(({ bytes }) => bytes.toString('latin1'))
  }

  /** The ports it was spoken to from, each once: of a backend these are its sessions. */
  get callers(): number[] {
    return [...new Set(this.heard.map(({ from }) => from.port))]
  }

  /** Resolves when the system has taken all of `what`, in this order. A port is one of this talker's own host. */
  async say(to: number | HostPort, ...what: readonly (string | Uint8Array)[]): Promise<this> {
    const { host, port } = typeof to === 'number' ? { host: this.address.host, port: to } : to
    const sent = what.map(
      (each) =>
        new Promise<void>((resolve, reject) =>
          this.socket.send(bytesOf(each), port, host, (error) => (error ? reject(error) : resolve())),
        ),
    )
    await Promise.all(sent)
    return this
  }

  /** Resolves when so many datagrams have come in. */
  async hears(count: number): Promise<this> {
    const wanted = `${count} datagrams at port ${this.port}`
    await new Promise<void>((resolve, reject) => {
      const look = () => {
        if (this.heard.length < count) return
        clearTimeout(timer)
        this.socket.off('message', look)
        resolve()
      }
      const fail = () => reject(new Error(`waited ${LIMIT_MS} ms for: ${wanted}, got ${this.heard.length}`))
      const timer = setTimeout(fail, LIMIT_MS)
      this.socket.on('message', look)
      look()
    })
    return this
  }

  /** Sends `text` and resolves with the datagram that is the next to come in. */
  async asks(to: number | HostPort, text: string): Promise<string> {
    const next = this.heard.length
    await this.say(to, text)
    await this.hears(next + 1)
    return this.texts[next]!
  }

  /**
   * Sends `text` again and again until a datagram comes in that ends with it, and resolves with that: on the way
   * datagrams may get lost.
   */
  async insists(to: number | HostPort, text: string): Promise<string> {
    const next = this.heard.length
    const answer = () => this.texts.slice(next).find((each) => each.endsWith(text))
    let tries = 0
    await until(
      async () => {
        if (tries++ % 4 === 0) await this.say(to, text)
        return answer() !== undefined
      },
      `an answer to ${JSON.stringify(text)}, asked again and again`,
    )
    return answer()!
  }

  /** Nobody is there any more: the system tells whoever sends to it. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    const closed = once(this.socket, 'close')
    this.socket.close()
    await closed
  }
}

export interface Place {
  readonly host?: string
  readonly port?: number
  /** Room for what has not been read yet. */
  readonly buffer?: number
}

/** Binds to a free port of 127.0.0.1, unless told otherwise; closed at the test's end. */
export async function talker(t: Test, { host = '127.0.0.1', port = 0, buffer }: Place = {}): Promise<Talker> {
  const socket = createSocket({
    type: host.includes(':') ? 'udp6' : 'udp4',
    ...(buffer && { recvBufferSize: buffer }),
  })
  socket.bind(port, host)
  await once(socket, 'listening')
  const made = new Talker(socket)
  t.teardown(() => made.close())
  return made
}

/** Several of them. */
export function talkers(t: Test, count: number, place: Place = {}): Promise<Talker[]> {
  return Promise.all(Array.from({ length: count }, () => talker(t, place)))
}

/** What a backend says to a datagram: any number of them. */
export type Reply = (heard: Heard) => readonly (string | Uint8Array)[]

/** Everything comes back as it came. */
export const echo: Reply = ({ bytes }) => [bytes]

/** A backend that answers at once. */
export async function answering(t: Test, reply: Reply = echo, place: Place = {}): Promise<Talker> {
  const made = await talker(t, place)
  made.socket.on('message', (bytes, { address: host, port }) => {
    const from = { host, port }
    // An answer that cannot be sent is lost, as any other.
    void made.say(from, ...reply({ bytes, from })).catch(() => {})
  })
  return made
}

/** A backend that answers with its name and what it was asked: `a:PING`. */
export function named(t: Test, name: string, place: Place = {}): Promise<Talker> {
  return answering(t, ({ bytes }) => [`${name}:${bytes.toString('latin1')}`], place)
}

/** A port where nobody is. */
export async function deadEnd(host = '127.0.0.1'): Promise<HostPort> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4').bind(0, host)
  await once(socket, 'listening')
  const { port } = socket.address()
  await new Promise<void>((resolve) => socket.close(resolve))
  return { host, port }
}

function bytesOf(what: string | Uint8Array): Uint8Array {
  return typeof what === 'string' ? Buffer.from(what, 'latin1') : what
}

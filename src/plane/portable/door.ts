// One socket that clients send to: whose a datagram is, and the way back.

import type { RemoteInfo, Socket } from 'node:dgram'
import { canonicalIp } from '../../core/ip.ts'
import type { Session } from './session.ts'
import { MOST_UNSENT } from './udp.ts'

/** What the doors of one listening share. */
export interface Hall {
  /** Clients are told apart by their address alone. */
  readonly byIp: boolean
  now(): number
  /** The first datagram of somebody who has no session here. */
  stranger(door: Door, key: string, bytes: Uint8Array, from: RemoteInfo): void
  /** An answer could not be sent. */
  unsent(): void
  complain(door: Door, problem: string): void
}

export class Door {
  /** Which of the binds it belongs to, and the address it is bound to. */
  readonly bind: number
  readonly ip: string
  readonly port: number
  /** Those whose next datagram is theirs. */
  readonly sessions = new Map<string, Session>()
  readonly #hall: Hall
  readonly #socket: Socket
  #sending = 0
  #open = true

  constructor(hall: Hall, bind: number, socket: Socket) {
    const { address, port } = socket.address()
    this.bind = bind
    this.ip = canonicalIp(address)
    this.port = port
    this.#hall = hall
    this.#socket = socket
    socket.on('message', (bytes, from) => this.take(bytes, from))
    socket.on('error', (error) => hall.complain(this, error.message))
  }

  /** A datagram of a client. */
  take(bytes: Uint8Array, from: RemoteInfo): void {
    const { address, port } = from
    const key = this.#hall.byIp ? address : `${address}/${port}`
    const session = this.sessions.get(key)
    if (session) session.request(bytes, port, this.#hall.now())
    else this.#hall.stranger(this, key, bytes, from)
  }

  /** Sends an answer. */
  send(bytes: Uint8Array, port: number, address: string): void {
    if (!this.#open || this.#sending >= MOST_UNSENT) return this.#hall.unsent()
    this.#sending++
    this.#socket.send(bytes, port, address, this.#sent)
  }

  /** Resolves when its address is free. */
  close(): Promise<void> {
    this.#open = false
    return new Promise((resolve) => this.#socket.close(() => resolve()))
  }

  readonly #sent = (error: Error | null): void => {
    this.#sending--
    if (error) this.#hall.unsent()
  }
}

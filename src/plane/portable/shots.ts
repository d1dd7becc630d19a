// Fire and forget: datagrams that no answer is relayed to leave by one socket for each family.

import type { Socket } from 'node:dgram'
import type { HostPort } from '../../core/address.ts'
import { bindNow, dialCode, MOST_UNSENT, originFor, SHARED, socketFor } from './udp.ts'

/** Answers come all the same: the less room for them, the fewer have to be read. The system makes it its least. */
const LEAST_BUFFER = 1

export class Shots {
  readonly #source: string | undefined
  readonly #unsent: () => void
  readonly #sockets: (Socket | undefined)[] = [undefined, undefined]
  #sending = 0

  /** They leave from `source` where that is of the family; `unsent` is called for each that did not. */
  constructor(source: string | undefined, unsent: () => void) {
    this.#source = source
    this.#unsent = unsent
  }

  /** Makes sure that `send` to there has a socket: undefined, or the system's word for why it has none. */
  ready({ host, port }: HostPort): string | undefined {
    if (port < 1 || port > 65535) return 'EINVAL'
    const family = familyOf(host)
    if (this.#sockets[family]) return undefined
    const socket = socketFor(host, { ...SHARED, recvBufferSize: LEAST_BUFFER })
    const wrong = bindNow(socket, originFor(host, this.#source))
    if (wrong) {
      socket.close()
      return dialCode(wrong)
    }
    socket.on('error', () => {}) // It tells of one of many backends, and nobody waits for that.
    this.#sockets[family] = socket
    return undefined
  }

  /** Sends to where is `ready`. */
  send(bytes: Uint8Array, { host, port }: HostPort): void {
    if (this.#sending >= MOST_UNSENT) return this.#unsent()
    this.#sending++
    this.#sockets[familyOf(host)]!.send(bytes, port, host, this.#sent)
  }

  /** Twice is fine. */
  close(): void {
    for (const socket of this.#sockets.splice(0)) socket?.close()
  }

  readonly #sent = (error: Error | null): void => {
    this.#sending--
    if (error) this.#unsent()
  }
}

/** 0 is IPv4, 1 is IPv6. */
function familyOf(host: string): number {
  return Number(host.includes(':'))
}

// What a session has carried, and how much of it its backends' rows know of.

import type { Rows } from './rows.ts'

export class Tally {
  /** Bytes and datagrams of the backend, and of the client. */
  rx = 0
  tx = 0
  responses = 0
  requests = 0
  readonly #rows: Rows
  #txCounted = 0
  #requestsCounted = 0

  constructor(rows: Rows) {
    this.#rows = rows
  }

  /** A datagram of the client; no row has it before `settle`. */
  request(length: number): void {
    this.requests++
    this.tx += length
  }

  /** All that the client has sent is that backend's, but for what was another's before. */
  settle(row: number): void {
    this.#rows.tx[row]! += this.tx - this.#txCounted
    this.#rows.requests[row]! += this.requests - this.#requestsCounted
    this.#txCounted = this.tx
    this.#requestsCounted = this.requests
  }

  /** A datagram of that backend. */
  response(length: number, row: number): void {
    this.responses++
    this.rx += length
    this.#rows.rx[row]! += length
    this.#rows.responses[row]!++
  }
}

// Bytes, datagrams and connections of each backend, read from the plane's counters, and rates of bytes.

import { NOTHING_COUNTED } from './backend.ts'
import type { Counters } from './backend.ts'
import type { Table } from './columns.ts'

/** What was carried. Bytes; whole bytes a second over the last two seconds. */
export interface Carried {
  readonly rx: number
  readonly tx: number
  /** Datagrams of clients, and of backends. */
  readonly requests: number
  readonly responses: number
  readonly rxSecond: number
  readonly txSecond: number
}

// The line of a row: counters when the backend got it, as another may have had it before; counters one and
// two seconds ago; rates.
const [BASE_RX, BASE_TX, BASE_CONNECTS, BASE_REQUESTS, BASE_RESPONSES] = [0, 1, 2, 3, 4]
const [RX_1, TX_1, RX_2, TX_2, RX_RATE, TX_RATE, LINE] = [5, 6, 7, 8, 9, 10, 11]
const FIRST_ROOM = 16

export class Traffic {
  #counters: Counters = NOTHING_COUNTED
  #columns: Table
  /** One line a row; numbers of their own would be garbage every second. */
  #lines = new Float64Array(FIRST_ROOM * LINE)
  #rows = 0
  #total = new Float64Array(LINE)

  constructor(columns: Table) {
    this.#columns = columns
  }

  /** From now on counters are read from `counters`, which start at 0. */
  readFrom(counters: Counters): void {
    this.#counters = counters
  }

  /** A backend has got this row. */
  open(row: number): void {
    this.#rows = Math.max(this.#rows, row + 1)
    if (this.#rows * LINE > this.#lines.length) {
      const roomier = new Float64Array(this.#lines.length * 2)
      roomier.set(this.#lines)
      this.#lines = roomier
    }
    const { rx, tx, requests, responses } = this.#read(row)
    const line = [rx, tx, this.#counters.connects(row), requests, responses, rx, tx, rx, tx, 0, 0]
    this.#lines.set(line, row * LINE)
    this.#columns.bandwidth[row] = 0
  }

  /** What the backend of this row has carried since it was discovered. */
  of(row: number): Carried {
    const line = this.#lines.subarray(row * LINE, (row + 1) * LINE)
    const { rx, tx, requests, responses } = this.#read(row)
    return {
      rx: rx - line[BASE_RX]!,
      tx: tx - line[BASE_TX]!,
      requests: requests - line[BASE_REQUESTS]!,
      responses: responses - line[BASE_RESPONSES]!,
      ...rates(line),
    }
  }

  /** Dials of this row's backend that succeeded. */
  connects(row: number): number {
    return this.#counters.connects(row) - this.#lines[row * LINE + BASE_CONNECTS]!
  }

  /** What all backends have carried since the server listens, also those that are gone. */
  total(): Carried {
    const sum = { rx: 0, tx: 0, requests: 0, responses: 0 }
    for (let row = 0; row < this.#rows; row++) {
      const { rx, tx, requests, responses } = this.#read(row)
      sum.rx += rx
      sum.tx += tx
      sum.requests += requests
      sum.responses += responses
    }
    return { ...sum, ...rates(this.#total) }
  }

  /** Called once a second: rates look two seconds back. */
  tick(): void {
    let rx = 0
    let tx = 0
    for (let row = 0; row < this.#rows; row++) {
      const rowRx = this.#counters.rx(row)
      const rowTx = this.#counters.tx(row)
      rx += rowRx
      tx += rowTx
      advance(this.#lines, row * LINE, rowRx, rowTx)
      this.#columns.bandwidth[row] = this.#lines[row * LINE + RX_RATE]! + this.#lines[row * LINE + TX_RATE]!
    }
    advance(this.#total, 0, rx, tx)
  }

  #read(row: number) {
    const counters = this.#counters
    return {
      rx: counters.rx(row),
      tx: counters.tx(row),
      requests: counters.requests(row),
      responses: counters.responses(row),
    }
  }
}

function advance(lines: Float64Array, at: number, rx: number, tx: number): void {
  lines[at + RX_RATE] = Math.floor((rx - lines[at + RX_2]!) / 2)
  lines[at + TX_RATE] = Math.floor((tx - lines[at + TX_2]!) / 2)
  lines[at + RX_2] = lines[at + RX_1]!
  lines[at + TX_2] = lines[at + TX_1]!
  lines[at + RX_1] = rx
  lines[at + TX_1] = tx
}

function rates(line: Float64Array): Pick<Carried, 'rxSecond' | 'txSecond'> {
  return { rxSecond: line[RX_RATE]!, txSecond: line[TX_RATE]! }
}

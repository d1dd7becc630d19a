// Bytes and connections of each backend, read from the plane's counters, and their rates.

import { NOTHING_COUNTED } from './backend.ts'
import type { Counters } from './backend.ts'
import type { Table } from './columns.ts'

/** What was carried. Bytes; whole bytes a second over the last two seconds. */
export interface Carried {
  readonly rx: number
  readonly tx: number
  readonly rxSecond: number
  readonly txSecond: number
}

export class Traffic {
  #counters: Counters = NOTHING_COUNTED
  #columns: Table
  #meters: (Meter | undefined)[] = []
  #total = new Meter(NOTHING_COUNTED, 0)

  constructor(columns: Table) {
    this.#columns = columns
  }

  /** From now on counters are read from `counters`, which start at 0. */
  readFrom(counters: Counters): void {
    this.#counters = counters
  }

  /** A backend has got this row. */
  open(row: number): void {
    this.#meters[row] = new Meter(this.#counters, row)
  }

  /** The backend of this row is gone. */
  close(row: number): void {
    this.#meters[row] = undefined
    this.#columns.bandwidth[row] = 0
  }

  /** What the backend of this row has carried since it was discovered. */
  of(row: number): Carried {
    const { base, rxSecond, txSecond } = this.#meters[row]!
    return {
      rx: this.#counters.rx(row) - base.rx,
      tx: this.#counters.tx(row) - base.tx,
      rxSecond,
      txSecond,
    }
  }

  /** Dials of this row's backend that succeeded. */
  connects(row: number): number {
    return this.#counters.connects(row) - this.#meters[row]!.base.connects
  }

  /** What all backends have carried since the server listens, also those that are gone. */
  total(): Carried {
    const { rxSecond, txSecond } = this.#total
    return { ...this.#sum(), rxSecond, txSecond }
  }

  /** Called once a second: rates look two seconds back. */
  tick(): void {
    for (let row = 0; row < this.#meters.length; row++) {
      const meter = this.#meters[row]
      if (!meter) continue
      meter.tick(this.#counters.rx(row), this.#counters.tx(row))
      this.#columns.bandwidth[row] = meter.rxSecond + meter.txSecond
    }
    const { rx, tx } = this.#sum()
    this.#total.tick(rx, tx)
  }

  #sum(): { rx: number; tx: number } {
    let rx = 0
    let tx = 0
    for (let row = 0; row < this.#meters.length; row++) {
      rx += this.#counters.rx(row)
      tx += this.#counters.tx(row)
    }
    return { rx, tx }
  }
}

/** Two samples back, one a second, and where counting began: another may have had the row before. */
class Meter {
  readonly base: { readonly rx: number; readonly tx: number; readonly connects: number }
  rxSecond = 0
  txSecond = 0
  #rx: [number, number]
  #tx: [number, number]

  constructor(counters: Counters, row: number) {
    this.base = { rx: counters.rx(row), tx: counters.tx(row), connects: counters.connects(row) }
    this.#rx = [this.base.rx, this.base.rx]
    this.#tx = [this.base.tx, this.base.tx]
  }

  tick(rx: number, tx: number): void {
    this.rxSecond = Math.floor((rx - this.#rx[1]) / 2)
    this.txSecond = Math.floor((tx - this.#tx[1]) / 2)
    this.#rx = [rx, this.#rx[0]]
    this.#tx = [tx, this.#tx[0]]
  }
}

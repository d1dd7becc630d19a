// What a pool knows of its backends as numbers: one typed array a fact, one index a backend.

import type { Columns } from '../balance/balancer.ts'

const FIRST_ROOM = 16

/** Bit flags of `Table.where`: in which of its group's lists a row stands. */
export const MEMBER = 1
export const ELECTABLE = 2

export class Table implements Columns {
  readonly text: string[] = []
  weight = new Float64Array(FIRST_ROOM)
  slots = new Int32Array(FIRST_ROOM)
  limit = new Int32Array(FIRST_ROOM)
  bandwidth = new Float64Array(FIRST_ROOM)
  /** How far a returning backend has come back: 1 is wholly. */
  ramp = new Float64Array(FIRST_ROOM)
  /** Of the elections it wins, the part it serves: what its weight cannot say. */
  chance = new Float64Array(FIRST_ROOM)
  /** MEMBER, ELECTABLE or both. */
  where = new Uint8Array(FIRST_ROOM)
  #free: number[] = []

  /** A row for a backend known by `text`: one given back, or a new one; all its columns at their start. */
  take(text: string): number {
    const row = this.#free.pop() ?? this.text.length
    if (row >= this.weight.length) this.#grow()
    this.text[row] = text
    this.weight[row] = 1
    this.ramp[row] = this.chance[row] = 1
    this.slots[row] = this.limit[row] = this.bandwidth[row] = this.where[row] = 0
    return row
  }

  /** Gives a row back; nobody may hold it any more. */
  release(row: number): void {
    this.#free.push(row)
  }

  #grow(): void {
    const room = this.weight.length * 2
    this.weight = enlarge(this.weight, new Float64Array(room))
    this.slots = enlarge(this.slots, new Int32Array(room))
    this.limit = enlarge(this.limit, new Int32Array(room))
    this.bandwidth = enlarge(this.bandwidth, new Float64Array(room))
    this.ramp = enlarge(this.ramp, new Float64Array(room))
    this.chance = enlarge(this.chance, new Float64Array(room))
    this.where = enlarge(this.where, new Uint8Array(room))
  }
}

function enlarge<T extends Float64Array | Int32Array | Uint8Array>(from: T, to: T): T {
  to.set(from)
  return to
}

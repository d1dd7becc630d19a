// The backends of one priority, and which of them may be elected now.
//
//     live       a  b  c  d     discovered, healthy, not ejected or draining, its name resolved
//     members    a  b     d     … without weight 0 while a sibling has more
//     rows       a        d     … and not full: what an election chooses from

import type { Electable } from '../balance/balancer.ts'
import { ELECTABLE, MEMBER } from './columns.ts'
import type { Table } from './columns.ts'
import { SortedRows } from './sorted.ts'

export class Group implements Electable {
  readonly priority: number
  readonly columns: Table
  version = 0
  /** Weight of every live row, 0 as it stands. */
  #live = new Map<number, number>()
  /** How many of them are above 0. */
  #weighted = 0
  #everybody: SortedRows
  #members: SortedRows
  #rows: SortedRows
  #nextVersion: () => number

  /** `nextVersion` gives a number no group of the pool has had. */
  constructor(priority: number, columns: Table, nextVersion: () => number) {
    this.priority = priority
    this.columns = columns
    this.#nextVersion = nextVersion
    this.#everybody = new SortedRows(columns.text)
    this.#members = new SortedRows(columns.text)
    this.#rows = new SortedRows(columns.text)
  }

  get rows(): Int32Array {
    return this.#rows.rows
  }

  get members(): Int32Array {
    return this.#members.rows
  }

  has(row: number): boolean {
    return (this.columns.where[row]! & ELECTABLE) !== 0
  }

  /** Live backends, the full and the weightless among them. */
  get live(): number {
    return this.#live.size
  }

  /** A backend has become live, or its effective weight is now `weight`. */
  set(row: number, weight: number): void {
    const before = this.#live.get(row)
    if (before === weight) return this.fill(row)
    this.#live.set(row, weight)
    this.#everybody.insert(row)
    this.#reweigh(row, before ?? 0, weight)
  }

  /** A backend is live no more. */
  delete(row: number): void {
    const before = this.#live.get(row)
    if (before === undefined) return
    this.#live.delete(row)
    this.#everybody.remove(row)
    this.#leave(row)
    this.#reweigh(row, before, 0)
  }

  /** Reads the columns again: the row may have turned full or free. */
  fill(row: number): void {
    const { where, slots, limit } = this.columns
    if (!(where[row]! & MEMBER)) return
    const full = limit[row]! > 0 && slots[row]! >= limit[row]!
    if (full === !(where[row]! & ELECTABLE)) return
    if (full) {
      where[row]! &= ~ELECTABLE
      this.#rows.remove(row)
    } else {
      where[row]! |= ELECTABLE
      this.#rows.insert(row)
    }
  }

  #reweigh(row: number, before: number, after: number): void {
    const hadWeights = this.#weighted > 0
    this.#weighted += Number(after > 0) - Number(before > 0)
    const hasWeights = this.#weighted > 0
    // The first weight puts the weightless out, the last one to go lets them in, each counting as 1.
    if (hadWeights !== hasWeights) this.#placeAll(hasWeights)
    else if (this.#live.has(row)) this.#place(row, hasWeights)
    this.version = this.#nextVersion()
  }

  #place(row: number, hasWeights: boolean): void {
    const nominal = this.#live.get(row)!
    this.columns.weight[row] = hasWeights ? nominal : 1
    if (hasWeights && nominal === 0) return this.#leave(row)
    this.columns.where[row]! |= MEMBER
    this.#members.insert(row)
    this.fill(row)
  }

  /** The same for everybody, in one pass: single moves of ten thousand would hold clients up. */
  #placeAll(hasWeights: boolean): void {
    const { where, weight, slots, limit } = this.columns
    for (const row of this.#everybody.rows) {
      const nominal = this.#live.get(row)!
      weight[row] = hasWeights ? nominal : 1
      const full = limit[row]! > 0 && slots[row]! >= limit[row]!
      where[row] = hasWeights && nominal === 0 ? 0 : full ? MEMBER : MEMBER | ELECTABLE
    }
    this.#members.assign(this.#everybody.rows.filter((row) => where[row]! & MEMBER))
    this.#rows.assign(this.#everybody.rows.filter((row) => where[row]! & ELECTABLE))
  }

  #leave(row: number): void {
    this.columns.where[row] = 0
    this.#members.remove(row)
    this.#rows.remove(row)
  }
}

/** `electable` without the rows of `passed`; costs a copy of its rows. */
export function without(electable: Electable, passed: readonly number[]): Electable {
  let rows = electable.rows.slice()
  for (const row of passed) {
    const at = rows.indexOf(row)
    if (at >= 0) rows = rows.copyWithin(at, at + 1).subarray(0, -1)
  }
  return {
    rows,
    members: electable.members,
    version: electable.version,
    has: (row) => electable.has(row) && !passed.includes(row),
    columns: electable.columns,
  }
}

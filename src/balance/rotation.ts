// Who is due next: earliest deadline first, at a cost that hardly grows with the backends.
//
//   weight 2   due at   .3    .8   1.3   1.8       a step of 1/2
//   weight 1   due at      .6         1.6          a step of 1
//   turns               a  b  a    a  b  a
//
// Whoever is due first serves and is due again one step later. Everyone keeps a phase of their own in their
// step, so equal weights never bunch up.

import type { Columns, Electable } from './balancer.ts'

/** Turns that may fall to full backends before the electable alone are looked at. */
const MOST_PASSES = 32

/** Weights beyond these count as these: deadlines are floats, and a step must not get lost in them. */
const LEAST_WEIGHT = 1e-3
const MOST_WEIGHT = 1e9

/** What 0 counts as beside other weights: due when nobody else can be. */
const NEXT_TO_NONE = 1e-12

/** Deadlines are counted from zero again beyond this, for the same reason. */
const LATEST = 1e6

/** Multiples of the golden ratio, modulo 1, spread evenly however many there are. */
const GOLDEN = (Math.sqrt(5) - 1) / 2

export class Rotation {
  /** Members; everything below is by place in this. */
  readonly #rows: Int32Array
  readonly #step: Float64Array
  readonly #due: Float64Array
  /** What the heap is ordered by: `#due`, or an earlier one where a turn was taken without the heap. */
  readonly #key: Float64Array
  /** A binary heap of places. */
  readonly #heap: Int32Array
  readonly #places: Int32Array
  #now = 0

  /** A rotation of the members that takes over from `before`; newcomers come in somewhere in their step, by `chance`. */
  constructor({ members, columns }: Electable, chance: number, before?: Rotation) {
    const count = members.length
    this.#rows = members.slice()
    this.#step = stepsOf(members, columns)
    this.#places = new Int32Array(highest(members) + 1).fill(-1)
    this.#due = new Float64Array(count)
    for (let place = 0; place < count; place++) {
      const row = members[place]!
      this.#places[row] = place
      this.#due[place] = (before?.ahead(row) ?? (chance + place * GOLDEN) % 1) * this.#step[place]!
    }
    this.#key = this.#due.slice()
    this.#heap = members.map((_row, place) => place)
    for (let i = (count >> 1) - 1; i >= 0; i--) this.#sink(i)
  }

  /** How far ahead a row's next turn is, in steps from 0 to 1; undefined when it has no place here. */
  ahead(row: number): number | undefined {
    const place = this.#places[row] ?? -1
    if (place < 0) return undefined
    const ahead = (this.#due[place]! - this.#now) / this.#step[place]!
    return ahead >= 0 && ahead <= 1 ? ahead : undefined
  }

  /** The row whose turn it is. */
  next(electable: Electable): number {
    for (let i = 0; i < MOST_PASSES; i++) {
      const place = this.#heap[0]!
      const row = this.#rows[place]!
      const serves = this.#key[place] === this.#due[place] && electable.has(row)
      if (serves) this.#now = Math.max(this.#now, this.#due[place]!)
      if (this.#key[place] === this.#due[place]) this.#advance(place)
      this.#key[place] = this.#due[place]!
      this.#sink(0)
      if (serves) return row
    }
    return this.#nextOfRows(electable.rows)
  }

  /** Linear in rows, which are few when this is reached: one of them would have been due. */
  #nextOfRows(rows: Int32Array): number {
    let first = this.#places[rows[0]!]!
    for (let i = 1; i < rows.length; i++) {
      const place = this.#places[rows[i]!]!
      if (this.#due[place]! < this.#due[first]!) first = place
    }
    this.#now = Math.max(this.#now, this.#due[first]!)
    this.#advance(first)
    return this.#rows[first]!
  }

  /** To the next turn after now: turns missed while full are not made up for, and the phase stays. */
  #advance(place: number): void {
    const step = this.#step[place]!
    const missed = Math.floor(Math.max(this.#now - this.#due[place]!, 0) / step)
    this.#due[place]! += (missed + 1) * step
    if (this.#now > LATEST) this.#rebase()
  }

  #rebase(): void {
    for (let place = 0; place < this.#due.length; place++) {
      this.#due[place]! -= this.#now
      this.#key[place]! -= this.#now
    }
    this.#now = 0
  }

  #sink(from: number): void {
    const heap = this.#heap
    const key = this.#key
    const place = heap[from]!
    let at = from
    for (let child = 2 * at + 1; child < heap.length; child = 2 * at + 1) {
      if (child + 1 < heap.length && key[heap[child + 1]!]! < key[heap[child]!]!) child++
      if (key[heap[child]!]! >= key[place]!) break
      heap[at] = heap[child]!
      at = child
    }
    heap[at] = place
  }
}

/** One over the weight; when all weights are 0 they count as 1. */
function stepsOf(members: Int32Array, { weight }: Columns): Float64Array {
  const steps = new Float64Array(members.length)
  const equal = members.every((row) => weight[row] === 0)
  for (let place = 0; place < steps.length; place++) {
    const share = equal ? 1 : weight[members[place]!]!
    steps[place] = 1 / (share > 0 ? Math.min(Math.max(share, LEAST_WEIGHT), MOST_WEIGHT) : NEXT_TO_NONE)
  }
  return steps
}

function highest(rows: Int32Array): number {
  return rows.reduce((most, row) => Math.max(most, row), 0)
}

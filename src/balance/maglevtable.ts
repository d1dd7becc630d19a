// The table of Maglev: every backend has its own order of preference among the entries, and they take turns
// at claiming the first that is free (Eisenbud et al., NSDI 2016, section 3.4).
//
//   preferences   a: 3 0 4 1 2     b: 0 2 4 1 3     c: 3 4 0 1 2
//   entries       0:b  1:a  2:b  3:a  4:c                         turns: a b c a b
//
// Built from text and weight in the order of text, so every instance that sees the same backends builds the
// same. Few members: at once. Many: some of it in each election, and the table before serves meanwhile.

import type { Electable } from './balancer.ts'
import { FNV_BASIS, fnvText, spread } from './fnv.ts'

/** Entries, primes: at least 100 a member up to FEW members, a bounded number beyond. */
const FEW = 655
const ENTRIES = 65_537
const MANY_ENTRIES = 262_139

/** Preferences looked at in one election: a fraction of a millisecond. */
const SLICE = 100_000

const FREE = -1

export class MaglevTable {
  /** Of all members; 0 when none has more, and they are equal. */
  readonly weight: number
  #serving: Int32Array | undefined
  #filling: Filling | undefined

  constructor(electable: Electable, before?: MaglevTable) {
    this.weight = electable.members.reduce((sum, row) => sum + electable.columns.weight[row]!, 0)
    if (before) this.#serving = before.#serving
    this.#filling = new Filling(electable)
    if (electable.members.length <= FEW) this.#fill(Infinity)
  }

  /** A row for each entry; of other members than now while the table is built; undefined while there is none at all. */
  rows(): Int32Array | undefined {
    if (this.#filling) this.#fill(SLICE)
    return this.#serving
  }

  #fill(looks: number): void {
    if (!this.#filling!.go(looks)) return
    this.#serving = this.#filling!.entries
    this.#filling = undefined
  }
}

/**
 * A table half done. A backend of weight w has its t-th turn in round t × heaviest ÷ w, rounded up; backends
 * are queued by the round of their next turn, so a round costs only those that have one.
 */
class Filling {
  readonly entries: Int32Array
  readonly #rows: Int32Array
  /** Rounds between two turns of a member. */
  readonly #pause: Float64Array
  readonly #turns: Int32Array
  /** Where in the table a member looks next, and how far it goes from there. */
  readonly #looksAt: Int32Array
  readonly #skip: Int32Array
  /** First and last member queued for a round, and the one behind a member. */
  readonly #first: Int32Array
  readonly #last: Int32Array
  readonly #behind: Int32Array
  #round = 1
  #left: number

  constructor({ members, columns: { text, weight } }: Electable) {
    const size = members.length <= FEW ? ENTRIES : MANY_ENTRIES
    this.entries = new Int32Array(size).fill(FREE)
    this.#rows = members.slice()
    this.#left = size
    this.#turns = new Int32Array(members.length)
    this.#looksAt = members.map((row) => spread(fnvText(text[row]!)) % size)
    this.#skip = members.map((row) => 1 + (spread(fnvText(text[row]!, ~FNV_BASIS)) % (size - 1)))
    this.#first = new Int32Array(size + 2).fill(-1)
    this.#last = new Int32Array(size + 2).fill(-1)
    this.#behind = new Int32Array(members.length)
    this.#pause = new Float64Array(members.length)
    const heaviest = members.reduce((most, row) => Math.max(most, weight[row]!), 0)
    for (let member = 0; member < members.length; member++) {
      this.#pause[member] = heaviest > 0 ? heaviest / weight[members[member]!]! : 1
      this.#queue(member)
    }
  }

  /** Goes on until done or `looks` preferences have been looked at; true when the table is full. */
  go(looks: number): boolean {
    let looked = 0
    while (this.#left > 0) {
      if (looked > looks) return false
      const member = this.#first[this.#round]!
      if (member < 0) {
        this.#round++
        continue
      }
      this.#first[this.#round] = this.#behind[member]!
      looked += this.#claim(member)
      this.#queue(member)
    }
    return true
  }

  /** The first free entry of the member's preference becomes its own; tells how many were looked at. */
  #claim(member: number): number {
    const size = this.entries.length
    const skip = this.#skip[member]!
    let at = this.#looksAt[member]!
    let looked = 1
    for (; this.entries[at] !== FREE; looked++) {
      at += skip
      if (at >= size) at -= size
    }
    this.entries[at] = this.#rows[member]!
    this.#looksAt[member] = at
    this.#left--
    return looked
  }

  /** The heaviest has a turn each round, so the table is full before a round numbered beyond its size. */
  #queue(member: number): void {
    const round = Math.ceil(++this.#turns[member]! * this.#pause[member]!)
    if (round >= this.#first.length) return
    const last = this.#last[round]!
    if (this.#first[round]! < 0) this.#first[round] = member
    else this.#behind[last] = member
    this.#behind[member] = -1
    this.#last[round] = member
  }
}

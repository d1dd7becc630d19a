// Tables that kinds build from a pool's members, kept for as long as the members stay the same.

import type { BalancerContext, Electable } from './balancer.ts'

/** A table nobody asked for in this time is dropped when another is built, in milliseconds. */
const KEPT_MS = 10_000

/** Tables of this many rows are kept at most, or two; each counts as FEWEST_ROWS or more. */
const MOST_ROWS = 16_384
const FEWEST_ROWS = 64

interface Kept<T> {
  readonly table: T
  readonly rows: number
  usedAt: number
}

/**
 * One table a version, built when first asked for. A server with several names or priority groups asks with
 * several versions in turn, so those used last are kept, bounded in time and in rows.
 */
export class Tables<T> {
  readonly #clock: BalancerContext['clock']
  readonly #build: (electable: Electable, before: T | undefined) => T
  /** Least recently used first. */
  readonly #kept = new Map<number, Kept<T>>()
  #rows = 0
  #version = NaN
  #current: Kept<T> | undefined

  /** `build` is given the table used last, for what it may take over. */
  constructor(clock: BalancerContext['clock'], build: (electable: Electable, before: T | undefined) => T) {
    this.#clock = clock
    this.#build = build
  }

  /** The table of these members. */
  of(electable: Electable): T {
    if (electable.version !== this.#version) this.#change(electable)
    return this.#current!.table
  }

  #change(electable: Electable): void {
    const { version } = electable
    const now = this.#clock.now()
    if (this.#current) this.#current.usedAt = now
    const kept = this.#kept.get(version)
    this.#kept.delete(version)
    this.#current = kept ?? this.#built(electable)
    this.#kept.set(version, this.#current)
    this.#current.usedAt = now
    this.#version = version
    if (!kept) this.#trim(now)
  }

  #built(electable: Electable): Kept<T> {
    const rows = Math.max(electable.members.length, FEWEST_ROWS)
    this.#rows += rows
    return { table: this.#build(electable, this.#current?.table), rows, usedAt: 0 }
  }

  #trim(now: number): void {
    for (const [version, { rows, usedAt }] of this.#kept) {
      if (this.#kept.size <= 2) return
      if (this.#rows <= MOST_ROWS && usedAt >= now - KEPT_MS) return
      this.#kept.delete(version)
      this.#rows -= rows
    }
  }
}

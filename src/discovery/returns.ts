// Backends that come and go: from the third return within a minute on, each waits before it is used again.

import { inSlices } from '../core/slices.ts'

/** Returns are counted within this time, in milliseconds. */
const WINDOW_MS = 60_000

/** The return that waits, and every further one. */
const THIRD = 3

/** More than this many at once are a source that names others all the time. */
const MOST = 100_000

interface Past {
  /** When it returned, the latest last; none older than the window. */
  returns: number[]
  /** When it was last seen to go or to come. */
  at: number
}

export class Returns {
  readonly #delayMs: number
  /** Backends that went within the last minute, and those that came back. */
  readonly #past = new Map<string, Past>()
  /** When each that waits may be used. */
  readonly #waiting = new Map<string, number>()

  /** Each waits for `delayMs`. */
  constructor(delayMs: number) {
    this.#delayMs = delayMs
  }

  /** How many wait. */
  get waiting(): number {
    return this.#waiting.size
  }

  waits(identity: string): boolean {
    return this.#waiting.has(identity)
  }

  /** Takes note of a list that follows another, at `now`, in slices. Resolves with those that begin to wait. */
  async note(
    before: ReadonlyMap<string, unknown>,
    next: ReadonlyMap<string, unknown>,
    now: number,
  ): Promise<readonly string[]> {
    await inSlices(this.#past, ([identity, { at }]) => {
      if (now - at >= WINDOW_MS) this.#past.delete(identity)
    })
    await inSlices(before.keys(), (identity) => {
      if (!next.has(identity)) this.#left(identity, now)
    })
    const late: string[] = []
    await inSlices(next.keys(), (identity) => {
      if (!before.has(identity) && this.#cameTooOften(identity, now)) late.push(identity)
    })
    return late
  }

  /** Lets those go whose time has come. */
  release(now: number): void {
    for (const [identity, until] of this.#waiting) if (until <= now) this.#waiting.delete(identity)
  }

  /** How long until the next may be used; undefined when none waits. */
  nextMs(now: number): number | undefined {
    if (this.#waiting.size === 0) return undefined
    let first = Infinity
    for (const until of this.#waiting.values()) first = Math.min(first, until)
    return Math.max(0, first - now)
  }

  #left(identity: string, now: number): void {
    this.#waiting.delete(identity)
    const past = this.#past.get(identity)
    if (past) past.at = now
    else if (this.#past.size < MOST) this.#past.set(identity, { returns: [], at: now })
  }

  #cameTooOften(identity: string, now: number): boolean {
    const past = this.#past.get(identity)
    if (!past) return false
    past.returns = [...past.returns.filter((at) => now - at < WINDOW_MS), now].slice(-THIRD)
    past.at = now
    if (past.returns.length < THIRD) return false
    this.#waiting.set(identity, now + this.#delayMs)
    return true
  }
}

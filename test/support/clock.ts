// A clock that moves when told to, and chance from a seed.

import type { Cancel, Clock } from '../../src/core/clock.ts'

/** Time stands still until `advance`; actions due meanwhile run in order of their time. */
export class FakeClock implements Clock {
  #now = 1000
  #seed: number
  #pending = new Set<{ at: number; action: () => void; everyMs: number }>()

  constructor(seed = 1) {
    this.#seed = seed
  }

  now = () => this.#now
  date = () => 1_700_000_000_000 + this.#now

  /** Actions waiting to run. */
  get pending(): number {
    return this.#pending.size
  }

  after = (ms: number, action: () => void): Cancel => this.#schedule(ms, action, 0)
  every = (ms: number, action: () => void): Cancel => this.#schedule(ms, action, ms)

  /** Mulberry32: small, seeded, good enough for distributions. */
  random = (): number => {
    this.#seed = (this.#seed + 0x6d2b79f5) | 0
    let t = Math.imul(this.#seed ^ (this.#seed >>> 15), 1 | this.#seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }

  /** Moves time by `ms`, running what falls due; promises get their turn after each action. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms
    for (;;) {
      await new Promise(setImmediate)
      const next = [...this.#pending].sort((a, b) => a.at - b.at)[0]
      if (!next || next.at > end) break
      this.#now = next.at
      if (next.everyMs) next.at += next.everyMs
      else this.#pending.delete(next)
      next.action()
    }
    this.#now = end
    await new Promise(setImmediate)
  }

  #schedule(ms: number, action: () => void, everyMs: number): Cancel {
    const entry = { at: this.#now + ms, action, everyMs }
    this.#pending.add(entry)
    return () => void this.#pending.delete(entry)
  }
}

// The same line a thousand times a second tells nothing: the first is logged, the rest are counted.

import type { Clock } from './clock.ts'

/** A kind of line is quiet again after this long without one. */
const QUIET_MS = 5_000
/** While it goes on, the count is told this often. */
const TELL_MS = 60_000

interface Burst {
  since: number
  last: number
  unsaid: number
}

export class Bursts {
  #log: (message: string) => void
  #clock: Pick<Clock, 'now'>
  #bursts = new Map<string, Burst>()

  constructor(log: (message: string) => void, clock: Pick<Clock, 'now'>) {
    this.#log = log
    this.#clock = clock
  }

  /** Logs the first `message` of a burst of its `kind`, and once a minute how many were left unsaid. */
  say(kind: string, message: () => string): void {
    const now = this.#clock.now()
    const burst = this.#bursts.get(kind)
    if (!burst || now - burst.last > QUIET_MS) {
      this.#bursts.set(kind, { since: now, last: now, unsaid: 0 })
      const missed = burst?.unsaid ? ` (${burst.unsaid} more like it before)` : ''
      return this.#log(message() + missed)
    }
    burst.last = now
    burst.unsaid++
    if (now - burst.since < TELL_MS) return
    this.#log(`${message()} (${burst.unsaid} more like it within a minute)`)
    burst.since = now
    burst.unsaid = 0
  }
}

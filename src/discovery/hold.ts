// Removals that cannot be true are held back for a while, and asked about again before they are believed.

import type { Found } from '../core/backend.ts'
import type { Clock } from '../core/clock.ts'
import { formatDuration } from '../core/duration.ts'
import type { Logger } from '../core/log.ts'
import { inSlices } from '../core/slices.ts'
import type { Backends } from './change.ts'

/** Which answers are held. */
export interface HoldRails {
  /** One that leaves fewer, where there were as many; 0 holds none. */
  readonly minBackends: number
  /** One that drops a larger share of five or more; undefined holds none. */
  readonly maxRemoval: number | undefined
  /** For so long; 0 holds none. */
  readonly removalHoldMs: number
}

/** Backends whose removal is not believed yet. */
export interface Held {
  /** Milliseconds since 1970. */
  readonly since: number
  /** How many would go. */
  readonly backends: number
}

/** What an answer comes to. */
export interface Judged {
  readonly backends: Backends
  /** How much longer something is held, in milliseconds: it is to be asked again then. */
  readonly heldMs?: number
}

/** Shares of fewer backends than this say nothing. */
const LEAST_TO_SHARE = 5

export class Hold {
  readonly #rails: HoldRails
  readonly #clock: Clock
  readonly #log: Logger
  /** `trusted` is what was believed when it began: the only backends it keeps. */
  #held:
    | { readonly trusted: Backends; readonly began: number; readonly since: number; missing: number }
    | undefined
  #count = 0

  constructor(rails: HoldRails, clock: Clock, log: Logger) {
    this.#rails = rails
    this.#clock = clock
    this.#log = log
  }

  /** Undefined while nothing is held. */
  get status(): Held | undefined {
    return this.#held && { since: this.#held.since, backends: this.#held.missing }
  }

  /** How often answers began to be held. */
  get count(): number {
    return this.#count
  }

  /** What to believe of the answer to a question asked at `askedAt`, after `believed`. In slices. */
  async judge(answer: Backends, believed: Backends, askedAt: number): Promise<Judged> {
    const trusted = this.#held?.trusted ?? believed
    const missing = await missingFrom(answer, trusted)
    const why = this.#objection(trusted.size, answer.size, missing.length)
    const heldMs = why ? this.#heldMs(why, trusted, missing.length, askedAt) : undefined
    if (heldMs === undefined) {
      if (this.#held) this.#log.info(why ? 'the removal is confirmed' : 'the missing backends are back')
      this.end()
      return { backends: answer }
    }
    // What is new or different is used at once: only removals wait.
    const together = new Map(answer)
    await inSlices(missing, (found) => void together.set(found.identity, found))
    return { backends: together, heldMs }
  }

  /** Holds nothing any more. */
  end(): void {
    this.#held = undefined
  }

  /** Why so many may not go at once; undefined when they may. */
  #objection(before: number, left: number, missing: number): string | undefined {
    const { minBackends, maxRemoval } = this.#rails
    if (missing === 0) return undefined
    if (maxRemoval !== undefined && before >= LEAST_TO_SHARE && missing > maxRemoval * before)
      return `${missing} of ${before} backends are missing in the answer, max_removal allows ${maxRemoval * 100}%`
    if (left < minBackends && before >= minBackends)
      return `the answer leaves ${left} of ${before} backends, min_backends is ${minBackends}`
    return undefined
  }

  /** How much longer to hold; undefined when the question was asked after the hold. */
  #heldMs(why: string, trusted: Backends, missing: number, askedAt: number): number | undefined {
    const { removalHoldMs } = this.#rails
    if (removalHoldMs === 0) return undefined
    const held = (this.#held ??= this.#begin(why, trusted))
    held.missing = missing
    const ends = held.began + removalHoldMs
    return askedAt >= ends ? undefined : Math.max(0, ends - this.#clock.now())
  }

  #begin(why: string, trusted: Backends) {
    this.#count++
    const time = formatDuration(this.#rails.removalHoldMs)
    this.#log.warn(`${why}: they stay for ${time} and the source is asked again`)
    return { trusted, began: this.#clock.now(), since: this.#clock.date(), missing: 0 }
  }
}

async function missingFrom(answer: Backends, before: Backends): Promise<Found[]> {
  const missing: Found[] = []
  await inSlices(before.values(), (found) => {
    if (!answer.has(found.identity)) missing.push(found)
  })
  return missing
}

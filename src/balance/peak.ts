// Moving averages that jump to every peak and fall back slowly.

import type { Clock } from '../core/clock.ts'

/** A measurement's share is 1/e after this long, in milliseconds; Finagle's default. */
const DECAY_MS = 10_000

/** Values are scaled back when they have grown by e to this power; a float holds e to the 700th. */
const MOST_GROWTH = 50

/** No measurement counts as less, in milliseconds: 0 stands for none. */
const LEAST_MS = 0.01

/**
 * A column of peak-sensitive, exponentially weighted moving averages, after Finagle's peak EWMA. All decay
 * towards 0 as time goes by, so that a slow backend is tried again. Values are kept scaled up by what they
 * would have decayed since a common moment: time passes without touching them, and their order is right.
 */
export class PeakAverage {
  readonly #clock: Pick<Clock, 'now'>
  #values = new Float64Array(0)
  #measuredAt = new Float64Array(0)
  #since: number

  constructor(clock: Pick<Clock, 'now'>) {
    this.#clock = clock
    this.#since = clock.now()
  }

  /** All averages, to be compared with each other only; 0 where nothing was measured. At least `length` of them. */
  scaled(length: number): Float64Array {
    this.#grow(length)
    return this.#values
  }

  /** Takes in a measurement. */
  add(at: number, ms: number): void {
    this.#grow(at + 1)
    const now = this.#clock.now()
    if (now - this.#since > MOST_GROWTH * DECAY_MS) this.#rescale(now)
    const growth = Math.exp((now - this.#since) / DECAY_MS)
    const decayed = this.#values[at]! / growth
    const fresh = Math.max(ms, LEAST_MS)
    const kept = Math.exp((this.#measuredAt[at]! - now) / DECAY_MS)
    this.#values[at] = Math.max(fresh, decayed + fresh * (1 - kept)) * growth
    this.#measuredAt[at] = now
  }

  clear(at: number): void {
    if (at < this.#values.length) this.#values[at] = 0
  }

  #rescale(now: number): void {
    const factor = Math.exp((this.#since - now) / DECAY_MS)
    for (let i = 0; i < this.#values.length; i++) this.#values[i]! *= factor
    this.#since = now
  }

  #grow(length: number): void {
    if (length <= this.#values.length) return
    this.#values = grown(this.#values, 2 * length)
    this.#measuredAt = grown(this.#measuredAt, 2 * length)
  }
}

function grown(values: Float64Array, length: number): Float64Array<ArrayBuffer> {
  const longer = new Float64Array(length)
  longer.set(values)
  return longer
}

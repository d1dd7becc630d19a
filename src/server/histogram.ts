// Counts of durations under fixed bounds, as Prometheus wants them.

/** Upper bounds in milliseconds: 100 µs to 10 s, the times a dial takes. */
export const CONNECT_BOUNDS = [
  0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000,
]
/** Upper bounds in milliseconds: 1 ms to a day, the times a flow lasts. */
export const DURATION_BOUNDS = [1, 5, 10, 50, 100, 500, 1e3, 5e3, 1e4, 6e4, 3e5, 9e5, 36e5, 864e5]
/** Upper bounds in milliseconds: 1 µs to 25 ms, the times a decision takes. */
export const DECISION_BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25]

export class Histogram {
  readonly bounds: readonly number[]
  /** One count a bound, not cumulative; the last is for what lies above all bounds. */
  readonly counts: Float64Array
  sumMs = 0
  #total = 0

  constructor(bounds: readonly number[]) {
    this.bounds = bounds
    this.counts = new Float64Array(bounds.length + 1)
  }

  get total(): number {
    return this.#total
  }

  record(ms: number): void {
    let at = 0
    while (at < this.bounds.length && ms > this.bounds[at]!) at++
    this.counts[at]!++
    this.sumMs += ms
    this.#total++
  }
}

// What a server counts besides bytes: refusals and ends by reason, elections, and how long things took.

import { ENDINGS, REFUSALS } from '../core/reasons.ts'
import type { Reason } from '../core/reasons.ts'
import type { FlowEnd } from '../plane/plane.ts'
import { CONNECT_BOUNDS, DECISION_BOUNDS, DURATION_BOUNDS, Histogram } from './histogram.ts'

export class Totals {
  /** Clients that came in, refused ones too. */
  arrived = 0
  /** Elections that found a backend. */
  elections = 0
  /** Elections after a failed dial that found another one. */
  redispatches = 0
  readonly #byReason = new Map<Reason, number>()
  readonly connect = new Histogram(CONNECT_BOUNDS)
  readonly duration = new Histogram(DURATION_BOUNDS)
  readonly decision = new Histogram(DECISION_BOUNDS)

  /** A client was refused as it came in: it never was a flow. */
  refused(reason: Reason): void {
    this.#count(reason)
  }

  /** A flow is over. */
  ended({ reason, connectMs, durationMs }: FlowEnd): void {
    this.#count(reason)
    if (connectMs >= 0) this.connect.record(connectMs)
    this.duration.record(durationMs)
  }

  /** Counts by refusal reason; reasons never seen are 0. */
  get refusals(): Record<string, number> {
    return this.#pick(REFUSALS)
  }

  /** Counts by flow-end reason; reasons never seen are 0. */
  get endings(): Record<string, number> {
    return this.#pick(ENDINGS)
  }

  #count(reason: Reason): void {
    this.#byReason.set(reason, (this.#byReason.get(reason) ?? 0) + 1)
  }

  #pick(reasons: readonly Reason[]): Record<string, number> {
    return Object.fromEntries(reasons.map((reason) => [reason, this.#byReason.get(reason) ?? 0]))
  }
}

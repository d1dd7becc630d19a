// How soon a hint may ask: at once, but a source that hints without end is asked four times a second.

/** Questions that hints may ask in a row, and how soon each is earned back. */
const BURST = 5
const EARN_MS = 250

/** Hints that come this close together are one: the first answer has what they tell of. */
const TOGETHER_MS = 20

/** The generic cell rate algorithm (ITU-T I.371): a burst is let through, the mean rate is kept. */
export class Hints {
  /** When the allowance is whole again. */
  #whole = -Infinity

  /** How long a hint of `now` has to wait when the last question was asked at `askedAt`, in milliseconds. */
  waitMs(now: number, askedAt: number): number {
    const allowed = this.#whole - (BURST - 1) * EARN_MS
    return Math.max(0, allowed - now, askedAt + TOGETHER_MS - now)
  }

  /** A hint has asked at `now`. */
  spend(now: number): void {
    this.#whole = Math.max(this.#whole, now) + EARN_MS
  }
}

// Consecutive results in, flips out.

import type { Result } from './check.ts'

/**
 * Counts results of one kind in a row. `unknown` neither counts nor interrupts.
 *
 *      passes 2, fails 3, up     results  P F F P F F F P F P P
 *                                flips                v       ^
 */
export class Streak {
  readonly #passes: number
  readonly #fails: number
  #up: boolean
  #counted = false
  /** Results in a row that contradict `#up`. */
  #against = 0

  /** Starts up or down with nothing counted; `passes` and `fails` are at least 1. */
  constructor(passes: number, fails: number, up: boolean) {
    this.#passes = passes
    this.#fails = fails
    this.#up = up
  }

  get up(): boolean {
    return this.#up
  }

  /** Up beyond doubt: a result has been counted, and the last one counted did not contradict it. */
  get settled(): boolean {
    return this.#up && this.#counted && this.#against === 0
  }

  /** Counts a result; true when it turned the state over. */
  flips(status: Result['status']): boolean {
    if (status === 'unknown') return false
    this.#counted = true
    if ((status === 'healthy') === this.#up) {
      this.#against = 0
      return false
    }
    if (++this.#against < (this.#up ? this.#fails : this.#passes)) return false
    this.#against = 0
    this.#up = !this.#up
    return true
  }
}

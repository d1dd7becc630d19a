// How many checks run at once, in the whole process.

import { quiet } from '../core/slices.ts'

/** Checks are started for this long at once, in milliseconds; the rest waits for a quiet loop. */
const SLICE_MS = 1

/** One check that wants to run; resolves when it is over and never rejects. */
export type Job = () => Promise<void>

/** Lets checks in, first come first served. One for the process. */
export class Gate {
  readonly #limit: number
  readonly #waiting = new Set<Job>()
  #running = 0
  #opening = false
  /** Checks that began later than they should have; monitors count here. */
  late = 0

  constructor(limit = 1000) {
    this.#limit = limit
  }

  /** Checks under way. */
  get running(): number {
    return this.#running
  }

  /** Checks that are due and wait for room. */
  get waiting(): number {
    return this.#waiting.size
  }

  /** Starts `job` in a later turn of the event loop, when there is room. */
  enter(job: Job): void {
    this.#waiting.add(job)
    this.#open()
  }

  /** Forgets a job that has not been started; another one is left alone. */
  leave(job: Job): void {
    this.#waiting.delete(job)
  }

  #open(): void {
    if (this.#opening || this.#waiting.size === 0 || this.#running >= this.#limit) return
    this.#opening = true
    void quiet().then(() => {
      this.#opening = false
      this.#start()
    })
  }

  #start(): void {
    const began = performance.now()
    for (const job of this.#waiting) {
      if (this.#running >= this.#limit || performance.now() - began > SLICE_MS) break
      this.#waiting.delete(job)
      this.#running++
      void job().finally(() => {
        this.#running--
        this.#open()
      })
    }
    this.#open()
  }
}

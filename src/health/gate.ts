// How many checks run at once, in the whole process.

import { descriptorLimit } from '../core/descriptors.ts'
import { quiet } from '../core/slices.ts'

/** Checks are started for this long at once, in milliseconds; the rest waits for a quiet loop. */
const SLICE_MS = 1

/**
 * One check that wants to run; resolves when it is over and never rejects. It may call `aside` when nobody answers
 * it: it holds a descriptor then and does nothing else, and others are let in for it.
 */
export type Job = (aside: () => void) => Promise<void>

/** Checks aside, as a multiple of the limit, and as a part of the descriptors this process may have. */
const ASIDE = 9
const DESCRIPTORS = 0.25

/** Lets checks in, first come first served. One for the process. */
export class Gate {
  readonly #limit: number
  readonly #mostAside: number
  readonly #waiting = new Set<Job>()
  #running = 0
  #aside = 0
  #opening = false
  /** Checks that began later than they should have; monitors count here. */
  late = 0

  constructor(limit = 1000) {
    this.#limit = limit
    this.#mostAside = Math.min(ASIDE * limit, DESCRIPTORS * descriptorLimit())
  }

  /** Checks under way, those aside among them. */
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

  /** True for a job that has entered and not been started. */
  awaits(job: Job): boolean {
    return this.#waiting.has(job)
  }

  /** Forgets a job that has not been started; another one is left alone. */
  leave(job: Job): void {
    this.#waiting.delete(job)
  }

  get #full(): boolean {
    return this.#running - this.#aside >= this.#limit
  }

  #open(): void {
    if (this.#opening || this.#waiting.size === 0 || this.#full) return
    this.#opening = true
    void quiet().then(() => {
      this.#opening = false
      this.#start()
    })
  }

  #start(): void {
    const began = performance.now()
    for (const job of this.#waiting) {
      if (this.#full || performance.now() - began > SLICE_MS) break
      this.#waiting.delete(job)
      this.#run(job)
    }
    this.#open()
  }

  #run(job: Job): void {
    let counts = true
    const aside = () => {
      if (!counts || this.#aside >= this.#mostAside) return
      counts = false
      this.#aside++
      this.#open()
    }
    this.#running++
    void job(aside).finally(() => {
      if (!counts) this.#aside--
      counts = false
      this.#running--
      this.#open()
    })
  }
}

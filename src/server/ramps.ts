// Backends that have come back: their share of new flows grows from a little to the whole.
//
//      share  1 ┤        ┌──      a step every twentieth of slow_start
//               │   ┌────┘        one timer for all, and none while nobody ramps
//          0.05 ┤───┘
//               └── back ──── whole

import type { Cancel, Clock } from '../core/clock.ts'
import { inSlices } from '../core/slices.ts'
import type { Backend } from '../pool/backend.ts'

const STEPS = 20

/** However short the ramp, its steps take this long. */
const SHORTEST_STEP_MS = 50

export class Ramps {
  readonly #wholeMs: number
  readonly #clock: Clock
  readonly #apply: (backend: Backend, share: number) => void
  /** Backends that were in and are out. */
  readonly #out = new Set<number>()
  /** When those that ramp came back. */
  readonly #since = new Map<Backend, number>()
  #ticking: Cancel | undefined

  /** `apply` is told each new share, above 0 to 1; with `wholeMs` 0 it never is. */
  constructor(wholeMs: number, clock: Clock, apply: (backend: Backend, share: number) => void) {
    this.#wholeMs = wholeMs
    this.#clock = clock
    this.#apply = apply
  }

  /** A backend that could serve no longer can. */
  leaves({ id }: Backend): void {
    if (this.#wholeMs > 0) this.#out.add(id)
  }

  /** A backend can serve; only one that could before ramps. */
  returns(backend: Backend): void {
    if (!this.#out.delete(backend.id)) return
    this.#since.set(backend, this.#clock.now())
    this.#apply(backend, 1 / STEPS)
    const stepMs = Math.max(SHORTEST_STEP_MS, this.#wholeMs / STEPS)
    this.#ticking ??= this.#clock.every(stepMs, () => void this.#tick())
  }

  /** The backend is as new; its share is not told any more. */
  forget(backend: Backend): void {
    this.#out.delete(backend.id)
    this.#end(backend)
  }

  /** Forgets everybody. */
  stop(): void {
    this.#out.clear()
    this.#since.clear()
    this.#rest()
  }

  /** In slices: all of thousands may come back at once. */
  async #tick(): Promise<void> {
    const now = this.#clock.now()
    await inSlices(this.#since, ([backend, since]) => {
      const share = Math.min(1, (now - since) / this.#wholeMs)
      if (share === 1) this.#end(backend)
      this.#apply(backend, Math.max(1 / STEPS, share))
    })
  }

  #end(backend: Backend): void {
    this.#since.delete(backend)
    if (this.#since.size === 0) this.#rest()
  }

  #rest(): void {
    this.#ticking?.()
    this.#ticking = undefined
  }
}

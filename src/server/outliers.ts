// Ejects backends because of how real flows fare, for a growing time, and never many of them.
//
//      failures in a row ─► ejected ─── ejection_time × n ───► a check that does not fail ─► back

import type { Failure, OutlierSettings } from '../config/server.ts'
import type { Cancel, Clock } from '../core/clock.ts'
import type { DialFault, FlowEnd } from '../plane/plane.ts'
import type { Backend } from '../pool/backend.ts'

/** An ejection with `max_ejection_time` unset. */
const LONGEST_MS = 300_000

export interface OutlierEvents {
  /** Backends discovered now, and those an election could choose from. */
  counts(): { readonly discovered: number; readonly fit: number }
  /** It is out for `ms` at least. */
  ejected(backend: Backend, ms: number, why: Failure): void
  /** Its time is over. True when a check is on its way, whose result decides. */
  recheck(backend: Backend): boolean
  /** It may serve again. */
  returned(backend: Backend): void
}

/** What is known of a backend that has failed; of others there is nothing. */
interface Tally {
  readonly backend: Backend
  /** Failed dials in a row, broken by one that succeeds. */
  dials: number
  /** Flows that went wrong in a row, broken by a byte from the backend. */
  flows: number
  /** Ejections in a row: it was in for less time between them than it had been out. */
  ejections: number
  lastMs: number
  returnedAt: number
  /** Ends its time; undefined while it is in, or waits for a check. */
  cancel: Cancel | undefined
}

export class Outliers {
  readonly #settings: OutlierSettings
  readonly #clock: Clock
  readonly #events: OutlierEvents
  readonly #counted: ReadonlySet<Failure>
  readonly #tallies = new Map<number, Tally>()
  /** In the order they were ejected. */
  readonly #out = new Set<Tally>()
  readonly #ejections = new Map<Failure, number>()

  constructor(settings: OutlierSettings, clock: Clock, events: OutlierEvents) {
    this.#settings = settings
    this.#clock = clock
    this.#events = events
    this.#counted = new Set(settings.failures)
  }

  /** Ejections so far, by the failure that was one too many. */
  get ejections(): Readonly<{ [reason in Failure]?: number }> {
    return Object.fromEntries(this.#settings.failures.map((each) => [each, this.#ejections.get(each) ?? 0]))
  }

  /** A dial failed, and it was the backend's fault. */
  dialFailed(backend: Backend, why: DialFault): void {
    const failure = why === 'timeout' ? 'timeout' : 'refused'
    if (this.#counts(backend, failure)) this.#full(backend, failure, ++this.#tally(backend).dials)
  }

  /** A dial succeeded. */
  connected({ id }: Backend): void {
    const tally = this.#tallies.get(id)
    if (tally) tally.dials = 0
  }

  /** The backend has sent a byte. */
  answered({ id }: Backend): void {
    const tally = this.#tallies.get(id)
    if (tally) tally.flows = 0
  }

  /** A flow that had been given the backend is over. */
  ended(backend: Backend, end: FlowEnd): void {
    const failure = failureOf(end)
    if (failure && this.#counts(backend, failure)) this.#full(backend, failure, ++this.#tally(backend).flows)
  }

  /** A check of the backend ended: what does not say it is down brings it back, once its time is over. */
  checked({ id }: Backend, failed: boolean): void {
    const tally = this.#tallies.get(id)
    if (tally && !failed && !tally.cancel && this.#out.has(tally)) this.#return(tally)
  }

  /** Discovery names the backend no more. */
  forget({ id }: Backend): void {
    const tally = this.#tallies.get(id)
    if (!tally) return
    tally.cancel?.()
    this.#out.delete(tally)
    this.#tallies.delete(id)
  }

  /**
   * Fewer are discovered, or fit: whoever has been out longest returns until no more are out than may be. When
   * nobody else is left to elect, the first that is out for nothing else returns too.
   */
  trim(): void {
    for (const tally of this.#out) {
      const { healthy, standing } = tally.backend
      const needed = this.#events.counts().fit === 0 && healthy && standing === 'out'
      if (!needed && this.#out.size <= this.#most()) continue
      tally.cancel?.()
      this.#return(tally)
    }
  }

  stop(): void {
    for (const { cancel } of this.#tallies.values()) cancel?.()
    this.#tallies.clear()
    this.#out.clear()
  }

  /** What fails while it is out, down or draining says nothing new. */
  #counts({ standing }: Backend, failure: Failure): boolean {
    return standing === 'in' && this.#counted.has(failure)
  }

  #tally(backend: Backend): Tally {
    let tally = this.#tallies.get(backend.id)
    if (!tally) {
      const none = { dials: 0, flows: 0, ejections: 0, lastMs: 0, returnedAt: 0, cancel: undefined }
      this.#tallies.set(backend.id, (tally = { backend, ...none }))
    }
    return tally
  }

  /** Ejects when there are enough failures in a row, and room. */
  #full(backend: Backend, why: Failure, inARow: number): void {
    if (inARow < this.#settings.consecutive_failures) return
    if (this.#out.size >= this.#most() || this.#events.counts().fit <= 1) return
    const { ejection_time, max_ejection_time = Math.max(LONGEST_MS, ejection_time) } = this.#settings
    const tally = this.#tally(backend)
    const now = this.#clock.now()
    tally.ejections = now - tally.returnedAt > tally.lastMs ? 1 : tally.ejections + 1
    tally.lastMs = Math.min(ejection_time * tally.ejections, max_ejection_time)
    tally.dials = tally.flows = 0
    tally.cancel = this.#clock.after(tally.lastMs, () => this.#served(tally))
    this.#out.add(tally)
    this.#ejections.set(why, (this.#ejections.get(why) ?? 0) + 1)
    this.#events.ejected(backend, tally.lastMs, why)
  }

  /** How many may be out now: one whatever the percentage, unless that is 0. */
  #most(): number {
    const { max_ejected_percent } = this.#settings
    const most = Math.floor((this.#events.counts().discovered * max_ejected_percent) / 100)
    return max_ejected_percent > 0 ? Math.max(1, most) : 0
  }

  #served(tally: Tally): void {
    tally.cancel = undefined
    if (!this.#events.recheck(tally.backend)) this.#return(tally)
  }

  #return(tally: Tally): void {
    tally.cancel = undefined
    tally.returnedAt = this.#clock.now()
    this.#out.delete(tally)
    this.#events.returned(tally.backend)
  }
}

/**
 * What a flow says against its backend. A client that sent nothing and left says nothing, and neither does a
 * backend that answered anything at all.
 */
export function failureOf({ reason, connectMs, rx, tx }: FlowEnd): Failure | undefined {
  if (connectMs < 0 || rx > 0) return undefined
  if (reason === 'backend-reset') return 'reset'
  const ended = reason === 'backend-closed' || reason === 'backend-idle'
  return ended && tx > 0 ? 'empty' : undefined
}

// Asks a discovery again and again: interval, timeout, back-off, failpolicy, hints.
//
//      ask ──► answer ──► publish ──► wait interval ──► ask …        (interval 0: rest until a hint)
//       └────► error ───► failpolicy ─► wait 2 s, 4 s, 8 s … ──► ask …

import { aborted } from '../core/aborted.ts'
import type { Cancel, Clock } from '../core/clock.ts'
import { formatDuration } from '../core/duration.ts'
import { DiscoveryError, messageOf } from '../core/errors.ts'
import type { Found } from '../core/backend.ts'
import { logger } from '../core/log.ts'
import type { Answer, Discovery } from './discovery.ts'

/** The wait after the first failure, as gobetween's; each further one doubles it. */
const RETRY_MS = 2_000

/** The longest wait after a failure; a shorter interval is the longest instead. */
const LONGEST_RETRY_MS = 60_000

/** Hints within this time of a question are one hint. */
const HINT_MS = 1_000

/** However short an interval or back-off is, the source is left alone for this long. */
const SHORTEST_MS = 100

/** Rejected entries that are logged. */
const LOGGED = 100

export interface ScheduleSettings {
  /** Whose discovery it is, for the log. */
  readonly name: string
  /** 0 asks until it has worked once, then only when the discovery hints or `refresh` is called. */
  readonly intervalMs: number
  /** 0 is without limit. */
  readonly timeoutMs: number
  readonly failpolicy: 'keeplast' | 'setempty'
}

/** What a schedule hands on: a whole list, in place of the one before. */
export interface Listed {
  readonly backends: readonly Found[]
  readonly rejected: readonly string[]
}

export type Publish = (listed: Listed) => void

export interface ScheduleStatus {
  /** Questions asked. */
  readonly asks: number
  /** Questions that failed. */
  readonly failures: number
  /** The last question failed. */
  readonly failing: boolean
  /** Milliseconds since 1970; undefined before the first success. */
  readonly lastSuccess: number | undefined
  readonly lastError: { readonly message: string; readonly at: number } | undefined
  /** Age of the last good answer in milliseconds; undefined before the first. */
  readonly freshnessMs: number | undefined
  /** Lists published. */
  readonly revision: number
  /** Backends in the list last published. */
  readonly backends: number
  /** Entries of the last good answer that could not be used. */
  readonly rejected: readonly string[]
}

export interface Schedule {
  status(): ScheduleStatus
  /** Asks now, or as soon as a second has passed since the last question. */
  refresh(): void
  /** Ends it: nothing is published any more and the running question is aborted. Twice is fine. */
  stop(): void
}

/**
 * Asks at once, then as `settings` say. `publish` is never called before this returns. After a failure
 * `setempty` publishes an empty list, once, and `keeplast` nothing. A discovery whose answer is fresh for less
 * than the interval is asked again when that is over.
 */
export function startSchedule(
  discovery: Discovery,
  settings: ScheduleSettings,
  clock: Clock,
  publish: Publish,
): Schedule {
  return new Asking(discovery, settings, clock, publish)
}

class Asking implements Schedule {
  readonly #discovery: Discovery
  readonly #settings: ScheduleSettings
  readonly #clock: Clock
  readonly #publish: Publish
  readonly #log = logger('discovery')
  readonly #stopped = new AbortController()
  #asking: AbortController | undefined
  #askedAt = 0
  #hinted = false
  /** When the next question is due, and how to call it off. */
  #due = Infinity
  #cancel: Cancel = () => {}
  #failuresInARow = 0
  #asks = 0
  #failures = 0
  #revision = 0
  #backends = 0
  #succeededAt = 0
  #lastSuccess: number | undefined
  #lastError: ScheduleStatus['lastError']
  #rejected: readonly string[] = []

  constructor(discovery: Discovery, settings: ScheduleSettings, clock: Clock, publish: Publish) {
    this.#discovery = discovery
    this.#settings = settings
    this.#clock = clock
    this.#publish = publish
    void this.#ask()
    discovery.watch?.(this.#stopped.signal, {
      connected: () => this.refresh(),
      hint: () => this.refresh(),
      lost: () => {},
    })
  }

  status(): ScheduleStatus {
    const succeeded = this.#lastSuccess !== undefined
    return {
      asks: this.#asks,
      failures: this.#failures,
      failing: this.#failuresInARow > 0,
      lastSuccess: this.#lastSuccess,
      lastError: this.#lastError,
      freshnessMs: succeeded ? this.#clock.now() - this.#succeededAt : undefined,
      revision: this.#revision,
      backends: this.#backends,
      rejected: this.#rejected,
    }
  }

  refresh(): void {
    if (this.#asking) this.#hinted = true
    else this.#arm(this.#askedAt + HINT_MS - this.#clock.now())
  }

  stop(): void {
    if (this.#stopped.signal.aborted) return
    const reason = new DiscoveryError('no longer needed')
    this.#cancel()
    this.#stopped.abort(reason)
    this.#asking?.abort(reason)
  }

  /** Asks in `ms`, unless a question is due sooner. */
  #arm(ms: number): void {
    const due = this.#clock.now() + Math.max(0, ms)
    if (this.#stopped.signal.aborted || due >= this.#due) return
    this.#cancel()
    this.#due = due
    this.#cancel = this.#clock.after(Math.max(0, ms), () => void this.#ask())
  }

  async #ask(): Promise<void> {
    this.#due = Infinity
    this.#askedAt = this.#clock.now()
    this.#hinted = false
    this.#asks++
    const asking = (this.#asking = new AbortController())
    const settle = await this.#answer(asking).then(
      (answer) => () => this.#succeeded(answer),
      (error: unknown) => () => this.#failed(error),
    )
    this.#asking = undefined
    if (this.#stopped.signal.aborted) return
    this.#arm(settle())
    if (this.#hinted) this.refresh()
  }

  /** One question, over when the timeout is even if the discovery never settles. */
  async #answer(asking: AbortController): Promise<Answer> {
    const { timeoutMs } = this.#settings
    const late = () => asking.abort(new DiscoveryError(`no answer within ${formatDuration(timeoutMs)}`))
    const cancel = timeoutMs > 0 ? this.#clock.after(timeoutMs, late) : () => {}
    try {
      const answer = await Promise.race([this.#discovery.ask(asking.signal), aborted(asking.signal)])
      this.#judge(answer)
      return answer
    } catch (error) {
      throw asking.signal.aborted ? (asking.signal.reason as Error) : error
    } finally {
      cancel()
    }
  }

  /** Names what could not be used. Where nothing else was said that is a failure, not a list of nobody. */
  #judge({ backends, rejected = [] }: Answer): void {
    this.#logRejected(rejected)
    this.#rejected = rejected
    if (backends.length === 0 && rejected.length > 0)
      throw new DiscoveryError('nothing in the answer could be read as a backend')
  }

  /** Takes an answer over; how long it is good for. */
  #succeeded({ backends, rejected = [], freshForMs }: Answer): number {
    const { intervalMs, name } = this.#settings
    if (this.#failuresInARow > 0)
      this.#log.info(`${name}: answers again after ${this.#failuresInARow} failures`)
    this.#failuresInARow = 0
    this.#succeededAt = this.#clock.now()
    this.#lastSuccess = this.#clock.date()
    this.#hand({ backends, rejected })
    if (intervalMs === 0) return Infinity
    return Math.max(SHORTEST_MS, Math.min(intervalMs, Math.max(freshForMs ?? intervalMs, HINT_MS)))
  }

  /** Applies the failpolicy when failing begins; how long to wait before the next question. */
  #failed(error: unknown): number {
    const { name, failpolicy } = this.#settings
    const message = messageOf(error)
    this.#failures++
    this.#lastError = { message, at: this.#clock.date() }
    const wait = this.#backOff(this.#failuresInARow++)
    if (this.#failuresInARow > 1) return wait
    const nothing = failpolicy === 'setempty' || this.#lastSuccess === undefined
    const policy = nothing ? 'there are no backends' : 'the last list stays'
    this.#log.error(
      `${name}: ${message}; retrying in ${formatDuration(Math.round(wait))}, ${policy} meanwhile`,
    )
    if (failpolicy === 'setempty') this.#hand({ backends: [], rejected: [] })
    return wait
  }

  /** Between a half and the whole of the doubled wait, so that many instances do not ask together. */
  #backOff(failuresBefore: number): number {
    const { intervalMs } = this.#settings
    const cap = intervalMs > 0 ? Math.min(intervalMs, LONGEST_RETRY_MS) : LONGEST_RETRY_MS
    const whole = Math.min(cap, RETRY_MS * 2 ** Math.min(failuresBefore, 10))
    return Math.max(SHORTEST_MS, whole * (0.5 + this.#clock.random() / 2))
  }

  #hand(listed: Listed): void {
    this.#revision++
    this.#backends = listed.backends.length
    this.#publish(listed)
  }

  #logRejected(rejected: readonly string[]): void {
    if (rejected.length === this.#rejected.length && rejected.every((each, i) => each === this.#rejected[i]))
      return
    for (const each of rejected.slice(0, LOGGED)) this.#log.warn(`${this.#settings.name}: ${each}`)
    if (rejected.length > LOGGED)
      this.#log.warn(`${this.#settings.name}: and ${rejected.length - LOGGED} more`)
  }
}

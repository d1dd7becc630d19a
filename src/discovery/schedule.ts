// Asks a discovery again and again: interval, timeout, back-off, hints. What its answers are worth is the roster's.
//
//      ask ──► answer ──► roster ──► wait interval ──► ask …        (interval 0: rest until a hint or its TTL)
//       └────► error ───► roster ──► wait 2 s, 4 s, 8 s … ──► ask …

import { aborted } from '../core/aborted.ts'
import type { Cancel, Clock } from '../core/clock.ts'
import { formatDuration } from '../core/duration.ts'
import { DiscoveryError, oneLine } from '../core/errors.ts'
import { logger, prefixed } from '../core/log.ts'
import type { Logger } from '../core/log.ts'
import type { Answer, Discovery, Watcher } from './discovery.ts'
import { Hints } from './hints.ts'
import { countOf } from './reading/rejects.ts'
import { Roster } from './roster.ts'
import type { Kept, Memory, Publish, Rails, RosterStatus } from './roster.ts'

/** The wait after the first failure, as gobetween's; each further one doubles it. */
const RETRY_MS = 2_000

/** The longest wait after a failure; a shorter interval is the longest instead. */
const LONGEST_RETRY_MS = 60_000

/** However short an interval, a TTL or a back-off is, the source is left alone for this long. */
const SHORTEST_MS = 100
const SHORTEST_TTL_MS = 1_000

/** A source without an interval whose changes are not heard of any more is asked this often. */
const LOST_MS = 10_000

/** Rejected entries that are logged, and how often others are. */
const LOGGED = 101
const LOG_AGAIN_MS = 60_000

export interface ScheduleSettings extends Rails {
  /** Whose discovery it is, for the log. */
  readonly name: () => string
  /**
   * 0 asks until it has worked once, then only when a hint comes or the answer is no longer fresh. While changes
   * are not heard of that should be, it is asked every ten seconds.
   */
  readonly intervalMs: number
  /** 0 is without limit. */
  readonly timeoutMs: number
}

export interface ScheduleStatus extends RosterStatus {
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
  /** Entries of the last good answer that could not be used. */
  readonly rejected: readonly string[]
  /** Whether changes are heard of at once: the kind cannot, it does, or its connection is lost. */
  readonly push: 'none' | 'connected' | 'lost'
}

export interface Schedule {
  status(): ScheduleStatus
  /** A list of an earlier run, for as long as nobody has answered: answers wait until it is there, a second at most. */
  restore(kept: Promise<Kept | undefined>): Promise<void>
  /** Ends it: nothing is published any more and the running question is aborted. Twice is fine. */
  stop(): void
}

/**
 * Asks at once, then as `settings` say. `publish` is never called before this returns, and only with lists that
 * differ from the one before. A discovery whose answer is fresh for less than the interval is asked again when
 * that is over.
 */
export function startSchedule(
  discovery: Discovery,
  settings: ScheduleSettings,
  clock: Clock,
  publish: Publish,
  memory?: Memory,
): Schedule {
  return new Asking(discovery, settings, clock, publish, memory)
}

class Asking implements Schedule {
  readonly #discovery: Discovery
  readonly #settings: ScheduleSettings
  readonly #clock: Clock
  readonly #log: Logger
  readonly #roster: Roster
  readonly #hints = new Hints()
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
  #succeededAt = 0
  #lastSuccess: number | undefined
  #lastError: ScheduleStatus['lastError']
  #rejected: readonly string[] = []
  #push: ScheduleStatus['push'] = 'none'
  #toldFailure = ''
  #toldFailureAt = 0
  #logged: readonly string[] = []
  #loggedAt = 0

  constructor(
    discovery: Discovery,
    settings: ScheduleSettings,
    clock: Clock,
    publish: Publish,
    memory?: Memory,
  ) {
    this.#discovery = discovery
    this.#settings = settings
    this.#clock = clock
    this.#log = prefixed(logger('discovery'), () => `${settings.name()}: `)
    this.#roster = new Roster(settings, clock, this.#log, publish, memory)
    void this.#ask()
    discovery.watch?.(this.#stopped.signal, this.#watcher())
  }

  status(): ScheduleStatus {
    const succeeded = this.#lastSuccess !== undefined
    return {
      ...this.#roster.status(),
      asks: this.#asks,
      failures: this.#failures,
      failing: this.#failuresInARow > 0,
      lastSuccess: this.#lastSuccess,
      lastError: this.#lastError,
      freshnessMs: succeeded ? this.#clock.now() - this.#succeededAt : undefined,
      rejected: this.#rejected,
      push: this.#push,
    }
  }

  restore(kept: Promise<Kept | undefined>): Promise<void> {
    return this.#roster.restored(kept)
  }

  stop(): void {
    if (this.#stopped.signal.aborted) return
    const reason = new DiscoveryError('no longer needed')
    this.#cancel()
    this.#roster.stop()
    this.#stopped.abort(reason)
    this.#asking?.abort(reason)
  }

  #watcher(): Watcher {
    return {
      connected: () => {
        if (this.#push === 'lost') this.#log.info('changes are heard of at once again')
        this.#push = 'connected'
        this.#hint()
      },
      hint: () => this.#hint(),
      lost: (why) => {
        if (this.#push === 'lost') return
        this.#push = 'lost'
        this.#tellLoss(why)
        // If it can still be asked is to be known now, not when the interval is over.
        this.#hint()
      },
    }
  }

  #tellLoss(why: string): void {
    this.#log.warn(
      `changes are not heard of: ${why}; asked every ${formatDuration(this.#intervalMs)} meanwhile`,
    )
  }

  /** Between two questions; Infinity when one is enough. */
  get #intervalMs(): number {
    const { intervalMs } = this.#settings
    if (intervalMs > 0) return Math.max(SHORTEST_MS, intervalMs)
    return this.#push === 'lost' ? LOST_MS : Infinity
  }

  #hint(): void {
    if (this.#stopped.signal.aborted) return
    this.#hinted = true
    if (!this.#asking) this.#arm(this.#hints.waitMs(this.#clock.now(), this.#askedAt))
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
    if (this.#hinted) this.#hints.spend(this.#askedAt)
    this.#hinted = false
    this.#asks++
    const asking = (this.#asking = new AbortController())
    const settle = await this.#answer(asking).then(
      (answer) => () => this.#succeeded(answer),
      (error: unknown) => () => this.#failed(error),
    )
    const wait = this.#stopped.signal.aborted ? Infinity : await settle()
    this.#asking = undefined
    if (wait < Infinity) this.#arm(wait)
    if (this.#hinted) this.#hint()
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
  async #succeeded({ backends, freshForMs }: Answer): Promise<number> {
    if (this.#failuresInARow > 0) this.#log.info(`answers again after ${this.#failuresInARow} failures`)
    this.#failuresInARow = 0
    this.#succeededAt = this.#clock.now()
    this.#lastSuccess = this.#clock.date()
    const heldMs = await this.#roster.answered(backends, this.#askedAt)
    return Math.min(this.#freshMs(freshForMs), heldMs ?? Infinity)
  }

  #freshMs(ttlMs = Infinity): number {
    return Math.min(this.#intervalMs, Math.max(SHORTEST_TTL_MS, ttlMs))
  }

  /** How long to wait before the next question. */
  async #failed(error: unknown): Promise<number> {
    const message = oneLine(error)
    this.#failures++
    this.#lastError = { message, at: this.#clock.date() }
    const wait = this.#backOff(this.#failuresInARow++)
    await this.#roster.failed()
    this.#tellFailure(message, wait)
    return wait
  }

  /** The first of a row; later ones when they say something else, and at most once a minute. */
  #tellFailure(message: string, wait: number): void {
    const now = this.#clock.now()
    const same = message === this.#toldFailure || now - this.#toldFailureAt < LOG_AGAIN_MS
    if (this.#failuresInARow > 1 && same) return
    this.#toldFailure = message
    this.#toldFailureAt = now
    const { backends } = this.#roster.status()
    const policy = backends === 0 ? 'there are no backends' : `the last list of ${backends} stays`
    this.#log.error(`${message}; retrying in ${formatDuration(Math.round(wait))}, ${policy} meanwhile`)
  }

  /** Between a half and the whole of the doubled wait, so that many instances do not ask together. */
  #backOff(failuresBefore: number): number {
    const { intervalMs } = this.#settings
    const cap = intervalMs > 0 ? Math.min(intervalMs, LONGEST_RETRY_MS) : LONGEST_RETRY_MS
    const whole = Math.min(cap, RETRY_MS * 2 ** Math.min(failuresBefore, 10))
    return Math.max(SHORTEST_MS, whole * (0.5 + this.#clock.random() / 2))
  }

  /** What differs from what was logged last, and at most once a minute: a source may word it anew each time. */
  #logRejected(rejected: readonly string[]): void {
    const now = this.#clock.now()
    if (this.#logged.length > 0 && rejected.length > 0 && now - this.#loggedAt < LOG_AGAIN_MS) return
    if (rejected.length === this.#logged.length && rejected.every((each, i) => each === this.#logged[i]))
      return
    for (const each of rejected.slice(0, LOGGED)) this.#log.warn(each)
    const more = countOf(rejected) - countOf(rejected.slice(0, LOGGED))
    if (more > 0) this.#log.warn(`and ${more} more`)
    this.#logged = rejected
    this.#loggedAt = now
  }
}

// One server's health checks: when each backend is checked, and what the results come to.

import { aborted } from '../core/aborted.ts'
import { addressText } from '../core/address.ts'
import type { Cancel, Clock } from '../core/clock.ts'
import { formatDuration } from '../core/duration.ts'
import { oneLine } from '../core/errors.ts'
import { logger } from '../core/log.ts'
import { inSlices } from '../core/slices.ts'
import { unhealthy } from './check.ts'
import type { Check, Result, Target } from './check.ts'
import { dialling } from './dial.ts'
import type { Gate, Job } from './gate.ts'
import { Streak } from './streak.ts'

/** A check without a timeout may take as long as the interval, or this long if that is shorter. */
const LEAST_TIMEOUT_MS = 1_000

/** A check is late when it begins this long after it was due, or a tenth of the interval if that is longer. */
const LATE_MS = 100

/** A check whose dial nobody has answered for this long only waits; an answer from anywhere on earth is sooner. */
const SILENT_MS = 250

/** The most of a reason that is kept and logged, in characters. */
const LONGEST_REASON = 500

/** What has only just passed, as a part of a beat. */
const JUST = 0.25

export interface MonitorSettings {
  /** Whose backends they are, for the log. */
  readonly name: string
  /** Undefined: backends are never checked and always healthy. */
  readonly check: Check | undefined
  /** Between the beginnings of two checks of one backend. */
  readonly intervalMs: number
  /** The same while the backend is down, or a check might change what it is. */
  readonly intervalDownMs: number
  /** Longest one check may take; 0 is the interval, at least a second. */
  readonly timeoutMs: number
  /** Consecutive results it takes to flip, at least 1. */
  readonly passes: number
  readonly fails: number
  /** What a backend is before it was checked; healthy when undefined. */
  readonly initialStatus: 'healthy' | 'unhealthy' | undefined
}

/** The last check of a backend that came to an end. */
export interface LastCheck {
  /** When it ended, milliseconds since 1970. */
  readonly at: number
  readonly status: Result['status']
  readonly reason: string
  /** How long it took. */
  readonly ms: number
  /** When the certificate last seen ends, milliseconds since 1970. */
  readonly certificateEnds?: number
}

/** What a server wants to hear; never called from within `add`, `retarget`, `recheck`, `remove` or `stop`. */
export interface MonitorEvents {
  /** A backend is healthy now, or is so no more. Told before the result that did it. */
  flipped(id: number, healthy: boolean, reason: string): void
  /** A check has come to an end. */
  checked?(id: number, result: Result): void
}

export interface Monitor {
  /** What a backend is before its first check has been counted. */
  readonly initiallyHealthy: boolean
  /**
   * Checks a backend from now on. The first checks of backends added in one turn of the event loop are spread
   * over the interval, beginning with the first added at once. `id` is not in use.
   */
  add(id: number, target: Target): void
  /**
   * Later checks of the backend go to `target`; what was counted stays. A check under way of nothing but addresses
   * that `target` lacks does not count, and is made again.
   */
  retarget(id: number, target: Target): void
  /** Checks the backend now, if that is not under way. False when it is not checked at all. */
  recheck(id: number): boolean
  /** Checks it no more: nothing is reported after this. An unknown `id` is fine. */
  remove(id: number): void
  /** Undefined before the first check has ended. */
  lastCheck(id: number): LastCheck | undefined
  /** Removes every backend. Resolves when the checks that ran have been aborted. */
  stop(): Promise<void>
}

interface Entry {
  readonly id: number
  readonly streak: Streak
  /** How the gate knows it. */
  readonly job: Job
  target: Target
  /** When the next check should begin. */
  due: number
  cancel: Cancel
  running: AbortController | undefined
  removed: boolean
  last: LastCheck | undefined
}

/** Starts without backends. */
export function createMonitor(
  settings: MonitorSettings,
  clock: Clock,
  gate: Gate,
  events: MonitorEvents,
): Monitor {
  return settings.check ? new Checking(settings, settings.check, clock, gate, events) : UNCHECKED
}

const UNCHECKED: Monitor = {
  initiallyHealthy: true,
  add: () => {},
  retarget: () => {},
  recheck: () => false,
  remove: () => {},
  lastCheck: () => undefined,
  stop: async () => {},
}

class Checking implements Monitor {
  readonly initiallyHealthy: boolean
  readonly #settings: MonitorSettings
  readonly #check: Check
  readonly #timeoutMs: number
  readonly #lateMs: number
  readonly #clock: Clock
  readonly #gate: Gate
  readonly #events: MonitorEvents
  readonly #log = logger('healthcheck')
  readonly #entries = new Map<number, Entry>()
  /** Added in this turn of the event loop. */
  #added: Entry[] = []

  constructor(settings: MonitorSettings, check: Check, clock: Clock, gate: Gate, events: MonitorEvents) {
    this.initiallyHealthy = settings.initialStatus !== 'unhealthy'
    this.#settings = settings
    this.#check = check
    this.#timeoutMs = settings.timeoutMs || Math.max(settings.intervalMs, LEAST_TIMEOUT_MS)
    this.#lateMs = Math.max(settings.intervalMs / 10, LATE_MS)
    this.#clock = clock
    this.#gate = gate
    this.#events = events
  }

  add(id: number, target: Target): void {
    const { passes, fails } = this.#settings
    const entry: Entry = {
      id,
      streak: new Streak(passes, fails, this.initiallyHealthy),
      job: (aside) => this.#run(entry, aside),
      target,
      due: 0,
      cancel: () => {},
      running: undefined,
      removed: false,
      last: undefined,
    }
    this.#entries.set(id, entry)
    if (this.#added.push(entry) === 1) setImmediate(() => void this.#spread())
  }

  retarget(id: number, target: Target): void {
    const entry = this.#entries.get(id)
    if (entry) entry.target = target
  }

  recheck(id: number): boolean {
    const entry = this.#entries.get(id)
    if (!entry) return false
    // One that has just been added has not been given its time yet.
    if (entry.running || entry.due === 0 || this.#gate.awaits(entry.job)) return true
    entry.cancel()
    this.#arm(entry, this.#clock.now())
    return true
  }

  remove(id: number): void {
    const entry = this.#entries.get(id)
    if (!entry) return
    this.#entries.delete(id)
    this.#forget(entry)
    abort(entry)
  }

  lastCheck(id: number): LastCheck | undefined {
    return this.#entries.get(id)?.last
  }

  async stop(): Promise<void> {
    const entries = [...this.#entries.values()]
    this.#entries.clear()
    for (const entry of entries) this.#forget(entry)
    await inSlices(entries, abort)
  }

  #forget(entry: Entry): void {
    entry.removed = true
    entry.cancel()
    this.#gate.leave(entry.job)
  }

  /** First checks, evenly over the interval. */
  async #spread(): Promise<void> {
    const entries = this.#added
    this.#added = []
    const now = this.#clock.now()
    const step = this.#settings.intervalMs / entries.length
    let due = now
    await inSlices(entries, (entry) => {
      this.#arm(entry, due)
      due += step
    })
  }

  #arm(entry: Entry, due: number): void {
    if (entry.removed) return
    entry.due = due
    const wait = Math.max(0, due - this.#clock.now())
    entry.cancel = this.#clock.after(wait, () => this.#gate.enter(entry.job))
  }

  /** One check with all that follows; the gate has let it in. */
  async #run(entry: Entry, aside: () => void): Promise<void> {
    const { target } = entry
    const began = this.#clock.now()
    if (began - entry.due > this.#lateMs) this.#gate.late++
    const result = brief(await this.#result(entry, aside))
    if (entry.removed) return
    if (moved(target, entry.target)) return this.#arm(entry, this.#clock.now())
    const { id, streak } = entry
    const { status, reason } = result
    this.#logUnknown(entry, result)
    const certificateEnds = result.certificateEnds ?? entry.last?.certificateEnds
    const seen = certificateEnds === undefined ? {} : { certificateEnds }
    entry.last = { at: this.#clock.date(), status, reason, ms: this.#clock.now() - began, ...seen }
    const flipped = streak.flips(status)
    this.#armNext(entry)
    if (flipped) this.#events.flipped(id, streak.up, reason)
    if (!entry.removed) this.#events.checked?.(id, result)
  }

  /**
   * The next check on the backend's own beat. Beats that passed during a slow check are skipped; when one has only
   * just passed, the check is now and the beat goes on from here: time-outs take a whole interval and a little.
   */
  #armNext(entry: Entry): void {
    const { intervalMs, intervalDownMs } = this.#settings
    const beatMs = entry.streak.settled ? intervalMs : intervalDownMs
    const now = this.#clock.now()
    const beats = Math.max(1, Math.ceil((now - entry.due) / beatMs))
    const justPassed = now - entry.due - beatMs
    this.#arm(entry, justPassed > 0 && justPassed < JUST * beatMs ? now : entry.due + beats * beatMs)
  }

  /** What the check found; over when the timeout is even if it never settles. */
  async #result(entry: Entry, aside: () => void): Promise<Result> {
    const running = (entry.running = new AbortController())
    const { signal } = running
    // After a stall of ours the timer is first to run; the answer that came meanwhile is read before the next turn.
    const cancel = this.#clock.after(this.#timeoutMs, () => setImmediate(() => running.abort(this.#late())))
    const waits = this.#clock.after(SILENT_MS, () => void (dialling.has(signal) && aside()))
    try {
      const result = await Promise.race([this.#check.run(entry.target, signal), aborted(signal)])
      return signal.aborted ? unhealthy(oneLine(signal.reason)) : result
    } catch (error) {
      return unhealthy(oneLine(signal.aborted ? signal.reason : error))
    } finally {
      cancel()
      waits()
      entry.running = undefined
    }
  }

  #late(): Error {
    return new Error(`timed out after ${formatDuration(this.#timeoutMs)}`)
  }

  /** A check that cannot tell is the operator's to mend, and changes nothing else that would show. */
  #logUnknown({ target, last }: Entry, { status, reason }: Result): void {
    if (status !== 'unknown' || last?.status === 'unknown') return
    this.#log.warn(`${this.#settings.name}: ${addressText(target.address)} could not be checked: ${reason}`)
  }
}

/** With a reason that fits a line of a log, whatever a backend put into it. */
function brief(result: Result): Result {
  const reason = result.reason.slice(0, LONGEST_REASON).replace(/\p{Cc}+/gu, ' ')
  return { ...result, reason: result.reason.length > LONGEST_REASON ? `${reason}…` : reason }
}

/** Of the addresses that were checked none is the backend's any more: what was found says nothing about it. */
function moved(checked: Target, { endpoints }: Target): boolean {
  if (checked.endpoints === endpoints) return false
  const now = new Set(endpoints.map(addressText))
  return !checked.endpoints.some((each) => now.has(addressText(each)))
}

function abort(entry: Entry): void {
  entry.running?.abort(new Error('no longer checked'))
}

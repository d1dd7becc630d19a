// What is believed of a source: its answers in, the list that servers use out, and rails between the two.
//
//      answer ──► held back? ──► believed ──► waiting? ──► published
//      failure ─► failpolicy ─► too old? ──────────────────────┘

import type { Found } from '../core/backend.ts'
import { pause } from '../core/clock.ts'
import type { Cancel, Clock } from '../core/clock.ts'
import { formatDuration } from '../core/duration.ts'
import type { Logger } from '../core/log.ts'
import { inSlices } from '../core/slices.ts'
import { difference } from './change.ts'
import type { Backends, Changed } from './change.ts'
import { Hold } from './hold.ts'
import type { Held, HoldRails } from './hold.ts'
import { Returns } from './returns.ts'

/** How far a source is trusted. */
export interface Rails extends HoldRails {
  readonly failpolicy: 'keeplast' | 'setempty'
  /** A list of a failing source is trusted for this long; 0 is for ever. */
  readonly maxStalenessMs: number
  readonly stalePolicy: 'setempty' | 'keeplast'
  /** How long a backend waits from its third return within a minute on; 0 is not at all. */
  readonly readmitDelayMs: number
}

/** A folder that hangs does not keep answers waiting for longer. */
const LONGEST_LOAD_MS = 1_000

/** A list, in place of the one before. */
export interface Listed {
  readonly backends: readonly Found[]
}

export type Publish = (listed: Listed) => void

/** What an earlier run believed, and how long ago. */
export interface Kept {
  readonly backends: readonly Found[]
  readonly ageMs: number
}

/** Who remembers what was believed last. */
export interface Memory {
  keep(backends: readonly Found[]): void
  /** The same was said again. */
  confirm(): void
}

export interface RosterStatus {
  /** Lists published. */
  readonly revision: number
  /** Backends in the list last published. */
  readonly backends: number
  /** The list was kept from an earlier run, and nobody has answered since. */
  readonly restored: boolean
  /** The source has failed for longer than `max_staleness`. */
  readonly stale: boolean
  readonly held: Held | undefined
  /** Backends that wait for `readmit_delay`. */
  readonly waiting: number
  readonly lastChange: Changed | undefined
  /** How often each rail held something back. */
  readonly counts: { readonly held: number; readonly stale: number; readonly readmissions: number }
}

const NOBODY: Backends = new Map()
const NOTHING: Kept = { backends: [], ageMs: 0 }

export class Roster {
  readonly #rails: Rails
  readonly #clock: Clock
  readonly #publish: Publish
  readonly #log: Logger
  readonly #memory: Memory | undefined
  readonly #returns: Returns
  readonly #counts = { stale: 0, readmissions: 0 }
  /** Answers are taken over one after another. */
  #turn: Promise<unknown> = Promise.resolve()
  #believed: Backends = NOBODY
  #published: Backends = NOBODY
  #lastAnswer: readonly Found[] | undefined
  #answered = false
  #failing = false
  #restored = false
  #stale = false
  readonly #hold: Hold
  #trustedAt = 0
  #staleTimer: Cancel = () => {}
  #returnTimer: Cancel = () => {}
  #revision = 0
  #lastChange: Changed | undefined
  #stopped = false

  /** `log` is the source's own. `publish` is never called before a method here was. */
  constructor(rails: Rails, clock: Clock, log: Logger, publish: Publish, memory?: Memory) {
    this.#rails = rails
    this.#memory = memory
    this.#clock = clock
    this.#log = log
    this.#publish = publish
    this.#returns = new Returns(rails.readmitDelayMs)
    this.#hold = new Hold(rails, clock, log)
  }

  status(): RosterStatus {
    return {
      revision: this.#revision,
      backends: this.#published.size,
      restored: this.#restored,
      stale: this.#stale,
      held: this.#hold.status,
      waiting: this.#returns.waiting,
      lastChange: this.#lastChange,
      counts: { ...this.#counts, held: this.#hold.count },
    }
  }

  /** A list of an earlier run: used until somebody answers, unless it is too old. Answers wait for it, a second at most. */
  restored(kept: Promise<Kept | undefined>): Promise<void> {
    return this.#exclusively(async () => {
      const { backends, ageMs } = (await this.#soon(kept)) ?? NOTHING
      if (backends.length === 0) return
      const { maxStalenessMs } = this.#rails
      if (this.#answered || !this.#showsBelieved() || (maxStalenessMs > 0 && ageMs > maxStalenessMs)) return
      this.#trustedAt = this.#clock.now() - ageMs
      this.#restored = true
      this.#log.info(`${backends.length} backends are known from ${formatDuration(Math.round(ageMs))} ago`)
      await this.#believe(await indexed(backends))
      if (this.#failing) this.#limitAge()
    })
  }

  /**
   * A good answer to a question asked at `askedAt`. Resolves with how long its removals are still held, in
   * milliseconds: it is to be asked again then; undefined when nothing is held.
   */
  answered(backends: readonly Found[], askedAt: number): Promise<number | undefined> {
    return this.#exclusively(async () => {
      this.#trustedAt = this.#clock.now()
      this.#staleTimer()
      const asBefore =
        this.#answered && !this.#failing && !this.#hold.status && sameList(backends, this.#lastAnswer)
      const isFirst = !this.#answered
      this.#answered = true
      this.#failing = false
      this.#restored = false
      this.#stale = false
      this.#lastAnswer = backends
      if (asBefore) return void this.#memory?.confirm()
      return this.#judge(await indexed(backends), askedAt, isFirst)
    })
  }

  /** A question failed. */
  failed(): Promise<void> {
    return this.#exclusively(async () => {
      if (this.#failing) return
      this.#failing = true
      if (this.#showsBelieved()) return this.#limitAge()
      this.#restored = false
      await this.#hand(NOBODY)
    })
  }

  /** Publishes nothing any more. */
  stop(): void {
    this.#stopped = true
    this.#staleTimer()
    this.#returnTimer()
  }

  /** What is kept, unless reading it takes too long. */
  async #soon(kept: Promise<Kept | undefined>): Promise<Kept | undefined> {
    const over = new AbortController()
    const late = pause(this.#clock, LONGEST_LOAD_MS, over.signal).then(() => undefined)
    return Promise.race([kept, late]).finally(() => over.abort())
  }

  #exclusively<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work)
    this.#turn = done.catch(() => {})
    return done
  }

  async #judge(answer: Backends, askedAt: number, isFirst: boolean): Promise<number | undefined> {
    const before = this.#believed
    const { backends, heldMs } = await this.#hold.judge(answer, before, askedAt)
    await this.#believe(backends)
    if (this.#memory) await this.#remember(this.#memory, isFirst ? undefined : before)
    return heldMs
  }

  /** Keeps what is believed when it is not what was before; a file of an earlier run need not be that. */
  async #remember(memory: Memory, before: Backends | undefined): Promise<void> {
    const same = before && !(await difference(before, this.#believed, 0))
    if (same) memory.confirm()
    else memory.keep([...this.#believed.values()])
  }

  async #believe(next: Backends): Promise<void> {
    if (this.#rails.readmitDelayMs > 0) await this.#damp(next)
    this.#believed = next
    await this.#show()
  }

  /** Notes who went and who came back; those that come back too often wait. */
  async #damp(next: Backends): Promise<void> {
    const now = this.#clock.now()
    const late = await this.#returns.note(this.#believed, next, now)
    if (late.length === 0) return
    this.#counts.readmissions += late.length
    const delay = formatDuration(this.#rails.readmitDelayMs)
    const more = late.length > 1 ? ` and ${late.length - 1} more` : ''
    this.#log.warn(`${late[0]}${more} came back for the third time within a minute: waiting for ${delay}`)
  }

  /** Publishes what is believed, without those that wait unless they are all there is. */
  async #show(): Promise<void> {
    const { waiting } = this.#returns
    let shown = this.#believed
    if (waiting > 0 && waiting < shown.size)
      shown = new Map([...shown].filter(([identity]) => !this.#returns.waits(identity)))
    await this.#hand(shown)
    this.#returnTimer()
    const next = this.#returns.nextMs(this.#clock.now())
    if (next !== undefined)
      this.#returnTimer = this.#clock.after(next, () => {
        this.#returns.release(this.#clock.now())
        void this.#exclusively(() => (this.#showsBelieved() ? this.#show() : Promise.resolve()))
      })
  }

  #showsBelieved(): boolean {
    return !(this.#failing && this.#rails.failpolicy === 'setempty')
  }

  /** From now on the list grows old. */
  #limitAge(): void {
    const { maxStalenessMs } = this.#rails
    if (this.#stopped || maxStalenessMs === 0 || this.#believed.size === 0) return
    const left = this.#trustedAt + maxStalenessMs - this.#clock.now()
    this.#staleTimer = this.#clock.after(Math.max(0, left), () => void this.#distrust())
  }

  async #distrust(): Promise<void> {
    await this.#exclusively(async () => {
      if (!this.#failing) return
      const { maxStalenessMs, stalePolicy } = this.#rails
      this.#stale = true
      this.#counts.stale++
      const drop = stalePolicy === 'setempty'
      const what = drop ? 'there are no backends until it answers' : 'the list stays all the same'
      this.#log.error(`no good answer for more than ${formatDuration(maxStalenessMs)}: ${what}`)
      if (!drop) return
      this.#believed = NOBODY
      this.#hold.end()
      this.#restored = false
      await this.#hand(NOBODY)
    })
  }

  async #hand(next: Backends): Promise<void> {
    const before = this.#published
    const change = await difference(before, next, this.#clock.date())
    const same = !change && this.#revision > 0
    if (this.#stopped || same) return
    this.#published = next
    this.#lastChange = change ?? this.#lastChange
    this.#revision++
    this.#publish({ backends: [...next.values()] })
  }
}

/** The same descriptions in the same order: readers share those that have not changed. */
function sameList(a: readonly Found[], b: readonly Found[] | undefined): boolean {
  return b !== undefined && a.length === b.length && a.every((found, i) => found === b[i])
}

async function indexed(backends: readonly Found[]): Promise<Backends> {
  const map = new Map<string, Found>()
  await inSlices(backends, (found) => void map.set(found.identity, found))
  return map
}

// Discoveries shared: servers with the same discovery section listen to one schedule.

import type { Found } from '../core/backend.ts'
import type { Clock } from '../core/clock.ts'
import { inSlices } from '../core/slices.ts'
import type { Discovery, DiscoveryContext, DiscoveryKind } from './discovery.ts'
import * as kinds from './kinds.ts'
import { startSchedule } from './schedule.ts'
import type { Schedule, ScheduleStatus } from './schedule.ts'
import type { Listed, Publish } from './roster.ts'
import { sourcesOf } from './settings.ts'
import type { DiscoverySettings, SourceSettings } from './settings.ts'
import type { Keeper, State } from './state.ts'

/** How one source of a server is doing. */
export interface SourceStatus extends ScheduleStatus {
  readonly kind: SourceSettings['kind']
  /** What is asked, without secrets. */
  readonly source: string
}

/** One server's share of its sources. */
export interface Subscription {
  /** One for each source, in the order of the section. */
  sources(): readonly SourceStatus[]
  /**
   * Nothing is published to this subscriber any more; the last one to go stops a source. With `forget` nothing
   * is kept of it for another run. Twice is fine.
   */
  cancel(options?: { forget: boolean }): void
}

/** Who listens to a source. */
export interface Listener {
  /** Whom the log speaks of. */
  readonly name: string
  readonly transport: DiscoveryContext['transport']
  /** Takes a whole list, in place of the one before. */
  readonly publish: Publish
}

interface Source {
  readonly kind: SourceSettings['kind']
  readonly text: string
  readonly keeper: Keeper | undefined
  readonly schedule: Schedule
  readonly subscribers: Map<Publish, Subscriber>
  last: Listed | undefined
}

/** Whom a source is for, and the last list it was given. */
interface Subscriber {
  readonly name: string
  given: Listed | undefined
}

/** One source as one server sees it. */
interface Part {
  status(): SourceStatus
  cancel(forget: boolean): void
}

/** The sources in use. One for the process. */
export class Sources {
  readonly #clock: Clock
  readonly #state: State | undefined
  readonly #sources = new Map<string, Source>()

  /** Without `state` nothing is kept for another run. */
  constructor(clock: Clock, state?: State) {
    this.#clock = clock
    this.#state = state
  }

  /** How many different sources are being asked. */
  get size(): number {
    return this.#sources.size
  }

  /**
   * Starts the sources of a section, or joins those that others with the same settings have started: the last
   * list is then given at once. `publish` is never called before this returns. Of several sources the lists are
   * one: a backend that more than one has is described by the first of them.
   */
  subscribe(settings: DiscoverySettings, { name, transport, publish }: Listener): Subscription {
    const wanted = sourcesOf(settings)
    let left = false
    const tell: Publish = (listed) => {
      if (!left) publish(listed)
    }
    const parts =
      wanted.length === 1
        ? [this.#join(wanted[0]!, { name, transport, publish: tell })]
        : this.#joinAll(wanted, { name, transport, publish: tell })
    return {
      sources: () => parts.map((part) => part.status()),
      cancel: ({ forget } = { forget: false }) => {
        left = true
        for (const part of parts) part.cancel(forget)
      },
    }
  }

  #joinAll(wanted: readonly SourceSettings[], listener: Listener): Part[] {
    const lists: (Listed | undefined)[] = wanted.map(() => undefined)
    let latest = 0
    const merge = async () => {
      const turn = ++latest
      const merged = await union(lists)
      if (turn === latest) listener.publish(merged)
    }
    return wanted.map((settings, index) => {
      const publish = (listed: Listed) => {
        lists[index] = listed
        void merge()
      }
      return this.#join(settings, { ...listener, name: `${listener.name} sources[${index}]`, publish })
    })
  }

  #join(settings: SourceSettings, { name, transport, publish }: Listener): Part {
    const { byTransport } = kindOf(settings)
    const key = JSON.stringify([settings, byTransport ? transport : 'any'])
    const source = this.#sources.get(key) ?? this.#start(key, settings, transport)
    // A function of its own, so that one callback may subscribe twice.
    const subscriber: Publish = (listed) => publish(listed)
    source.subscribers.set(subscriber, { name, given: undefined })
    queueMicrotask(() => hand(source, subscriber))
    return {
      status: () => ({ kind: source.kind, source: source.text, ...source.schedule.status() }),
      cancel: (forget) => this.#leave(key, source, subscriber, forget),
    }
  }

  #start(key: string, settings: SourceSettings, transport: DiscoveryContext['transport']): Source {
    const kind = kindOf(settings)
    const discovery = createDiscovery(settings, { clock: this.#clock, transport })
    const subscribers = new Map<Publish, Subscriber>()
    const publish = (listed: Listed) => {
      source.last = listed
      for (const subscriber of subscribers.keys()) hand(source, subscriber)
    }
    const text = kind.source(settings)
    const keeper = this.#state?.of(key, text)
    const schedule = startSchedule(
      discovery,
      {
        name: () => namesOf(subscribers),
        intervalMs: settings.interval,
        timeoutMs: settings.timeout ?? kind.timeoutMs,
        failpolicy: settings.failpolicy,
        maxStalenessMs: settings.max_staleness,
        stalePolicy: settings.stale_policy,
        minBackends: settings.min_backends,
        maxRemoval: settings.max_removal,
        removalHoldMs: settings.removal_hold,
        readmitDelayMs: settings.readmit_delay,
      },
      this.#clock,
      publish,
      keeper,
    )
    if (keeper) void schedule.restore(keeper.load())
    const source: Source = {
      kind: settings.kind,
      text,
      keeper,
      schedule,
      subscribers,
      last: undefined,
    }
    this.#sources.set(key, source)
    return source
  }

  #leave(key: string, source: Source, subscriber: Publish, forget: boolean): void {
    if (!source.subscribers.delete(subscriber) || source.subscribers.size > 0) return
    source.schedule.stop()
    if (forget) source.keeper?.forget()
    this.#sources.delete(key)
  }
}

/** Makes the discovery of one source; opens nothing. */
export function createDiscovery(settings: SourceSettings, context: DiscoveryContext): Discovery {
  return kindOf(settings).create(settings, context)
}

function kindOf({ kind }: SourceSettings): DiscoveryKind {
  return kinds[kind]
}

/** The lists as one, in slices. */
async function union(lists: readonly (Listed | undefined)[]): Promise<Listed> {
  const known = lists.filter((listed) => listed !== undefined)
  const backends = new Map<string, Found>()
  for (const listed of known)
    await inSlices(listed.backends, (found) => {
      if (!backends.has(found.identity)) backends.set(found.identity, found)
    })
  return { backends: [...backends.values()] }
}

/** Gives a subscriber the last list unless it has left or has that one already. */
function hand(source: Source, subscriber: Publish): void {
  const { subscribers, last } = source
  const to = subscribers.get(subscriber)
  if (!last || !to || to.given === last) return
  to.given = last
  subscriber(last)
}

/** `web`, or `web and 199 more`. */
function namesOf(subscribers: ReadonlyMap<Publish, Subscriber>): string {
  const [first] = subscribers.values()
  const more = subscribers.size > 1 ? ` and ${subscribers.size - 1} more` : ''
  return `${first?.name ?? 'nobody'}${more}`
}

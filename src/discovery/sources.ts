// Discoveries shared: servers with the same discovery section listen to one schedule.

import type { Clock } from '../core/clock.ts'
import type { Discovery, DiscoveryContext, DiscoveryKind } from './discovery.ts'
import * as kinds from './kinds.ts'
import { startSchedule } from './schedule.ts'
import type { Listed, Publish, Schedule, ScheduleStatus } from './schedule.ts'
import type { DiscoverySettings } from './settings.ts'

/** One server's share of a source. */
export interface Subscription {
  status(): ScheduleStatus
  /** Asks the source now, at most once a second whoever calls. */
  refresh(): void
  /** Nothing is published to this subscriber any more; the last one to go stops the source. Twice is fine. */
  cancel(): void
}

interface Source {
  readonly schedule: Schedule
  /** Each subscriber, and the last list it was given. */
  readonly subscribers: Map<Publish, Listed | undefined>
  last: Listed | undefined
}

/** The sources in use. One for the process. */
export class Sources {
  readonly #clock: Clock
  readonly #sources = new Map<string, Source>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** How many different sources are being asked. */
  get size(): number {
    return this.#sources.size
  }

  /**
   * Starts the source, or joins it when another subscriber has the same settings: the last list is then given
   * at once. `publish` is never called before this returns. Throws `UnsupportedError` when the kind cannot be
   * used; nothing is left behind then. `name` is whom the log speaks of if this subscriber is the first.
   */
  subscribe(settings: DiscoverySettings, name: string, publish: Publish): Subscription {
    const key = JSON.stringify(settings)
    const source = this.#sources.get(key) ?? this.#start(key, settings, name)
    // A function of its own, so that one callback may subscribe twice.
    const subscriber: Publish = (listed) => publish(listed)
    source.subscribers.set(subscriber, undefined)
    queueMicrotask(() => hand(source, subscriber))
    return {
      status: () => source.schedule.status(),
      refresh: () => source.schedule.refresh(),
      cancel: () => this.#leave(key, source, subscriber),
    }
  }

  #start(key: string, settings: DiscoverySettings, name: string): Source {
    const { discovery, timeoutMs } = createDiscovery(settings, { clock: this.#clock })
    const publish = (listed: Listed) => {
      source.last = listed
      for (const subscriber of source.subscribers.keys()) hand(source, subscriber)
    }
    const { interval: intervalMs, failpolicy } = settings
    const schedule = startSchedule(
      discovery,
      { name, intervalMs, timeoutMs, failpolicy },
      this.#clock,
      publish,
    )
    const source: Source = { schedule, subscribers: new Map(), last: undefined }
    this.#sources.set(key, source)
    return source
  }

  #leave(key: string, source: Source, subscriber: Publish): void {
    if (!source.subscribers.delete(subscriber) || source.subscribers.size > 0) return
    source.schedule.stop()
    this.#sources.delete(key)
  }
}

/** Makes the discovery a section asks for, with the time one question may take. Throws `UnsupportedError`. */
export function createDiscovery(
  settings: DiscoverySettings,
  context: DiscoveryContext,
): { readonly discovery: Discovery; readonly timeoutMs: number } {
  const kind = kinds[settings.kind] as DiscoveryKind
  const discovery = kind.create(settings, context)
  return { discovery, timeoutMs: settings.timeout ?? kind.timeoutMs }
}

/** Gives a subscriber the last list unless it has left or has that one already. */
function hand(source: Source, subscriber: Publish): void {
  const { subscribers, last } = source
  if (!last || !subscribers.has(subscriber) || subscribers.get(subscriber) === last) return
  subscribers.set(subscriber, last)
  subscriber(last)
}

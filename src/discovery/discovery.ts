// The contract of a discovery: which backends exist. The schedule owns interval, timeout, back-off and rails.

import type { Found } from '../core/backend.ts'
import type { Clock } from '../core/clock.ts'
import type { Problem } from '../core/errors.ts'
import type { Settings, Shape } from '../core/settings.ts'

/** One good answer. */
export interface Answer {
  /** No backend twice: no two have the same `identity`. */
  readonly backends: readonly Found[]
  /** Entries that could not be used, each named with its place and what is wrong; the good ones are used. */
  readonly rejected?: readonly string[]
  /** The answer is stale after this many milliseconds (a DNS TTL): it is asked for again by then. */
  readonly freshForMs?: number
}

/** Whom a watch tells what it learns. */
export interface Watcher {
  /** Changes will be heard of from now on. What happened before is unknown: ask now. */
  connected(): void
  /** The list may have changed: ask now. Often is fine; hints in a burst become few questions. */
  hint(): void
  /** Changes are no longer heard of, and why. May be said again for every attempt that fails. */
  lost(why: string): void
}

export interface Discovery {
  /**
   * Asks once for the whole list. Rejects with what went wrong: an error is never an empty answer.
   * Stops what it started when `signal` aborts (timeout, or the server is going), and rejects then.
   */
  ask(signal: AbortSignal): Promise<Answer>
  /**
   * Tells `watcher` of changes until `signal` aborts, and reconnects by itself (`keepWatching` in watching.ts).
   * Only hints: what changed is learnt by asking. Returns at once, never throws, and says nothing before it returns.
   */
  watch?(signal: AbortSignal, watcher: Watcher): void
}

/** What a discovery may use besides its settings. */
export interface DiscoveryContext {
  readonly clock: Clock
  /** What the server speaks to its backends. */
  readonly transport: 'tcp' | 'udp'
}

export interface DiscoveryKind<S extends Shape = Shape> {
  /** Keys of the discovery section that this kind owns, each described. */
  readonly settings: S
  /** How long one question may take when `timeout` is not set, in milliseconds; 0 is without limit. */
  readonly timeoutMs: number
  /** What is asked, for logs and the API, without secrets: `docker unix:///var/run/docker.sock`. */
  source(settings: Settings<S>): string
  /** What is wrong between keys that are right one by one: the key, and what was expected there. */
  conflicts?(settings: Settings<S>): readonly Problem[]
  /** True when the answer depends on `transport`, so that servers of both cannot share one source. */
  readonly byTransport?: boolean
  /** Opens nothing. */
  create(settings: Settings<S>, context: DiscoveryContext): Discovery
}

/** Declares a kind: its traits, then how one is made. */
export function discovery<const S extends Shape>(
  traits: {
    settings: S
    timeoutMs: number
    source: (settings: Settings<S>) => string
    conflicts?: (settings: Settings<S>) => readonly Problem[]
    byTransport?: boolean
  },
  create: (settings: Settings<S>, context: DiscoveryContext) => Discovery,
): DiscoveryKind<S> {
  return { ...traits, create }
}

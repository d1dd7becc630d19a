// The contract of a discovery: which backends exist. The schedule owns interval, timeout, back-off and failpolicy.

import type { Found } from '../core/backend.ts'
import type { Clock } from '../core/clock.ts'
import type { Settings, Shape } from '../core/settings.ts'

/** One good answer. */
export interface Answer {
  readonly backends: readonly Found[]
  /** Entries that could not be used, each named with its place and what is wrong; the good ones are used. */
  readonly rejected?: readonly string[]
  /** The answer is stale after this many milliseconds (a DNS TTL): it is asked for again by then. */
  readonly freshForMs?: number
}

export interface Discovery {
  /**
   * Asks once for the whole list. Rejects with what went wrong: an error is never an empty answer.
   * Stops what it started when `signal` aborts (timeout, or the server is going), and rejects then.
   */
  ask(signal: AbortSignal): Promise<Answer>
  /**
   * Calls `hint` whenever the list may have changed, until `signal` aborts; only says "ask now".
   * Reconnects by itself and hints after each reconnect.
   */
  watch?(signal: AbortSignal, hint: () => void): void
}

/** What a discovery may use besides its settings. */
export interface DiscoveryContext {
  readonly clock: Clock
}

export interface DiscoveryKind<S extends Shape = Shape> {
  /** Keys of the discovery section that this kind owns. */
  readonly settings: S
  /** How long one question may take when `timeout` is not set, in milliseconds; 0 is without limit. */
  readonly timeoutMs: number
  /** Throws `UnsupportedError` when this build cannot do it. */
  create(settings: Settings<S>, context: DiscoveryContext): Discovery
}

/** Declares a kind: its settings and default timeout, then how one is made. */
export function discovery<const S extends Shape>(
  traits: { settings: S; timeoutMs: number },
  create: (settings: Settings<S>, context: DiscoveryContext) => Discovery,
): DiscoveryKind<S> {
  return { ...traits, create }
}

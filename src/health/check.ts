// The contract of a health check: does this backend answer? The monitor owns interval, passes and fails.

import type { Address } from '../core/address.ts'
import type { Problem } from '../core/errors.ts'
import type { Settings, Shape } from '../core/settings.ts'

/** Who is checked. */
export interface Target {
  /** As configured: what a script is called with. */
  readonly address: Address
  /** Where to dial, most useful first; several when a host name has several addresses. Never empty. */
  readonly endpoints: readonly Address[]
}

/** What one check found. `unknown` changes nothing: the check could not tell. */
export interface Result {
  readonly status: 'healthy' | 'unhealthy' | 'unknown'
  /** Why, for the log and the API: `connected`, `connection refused`, `answered "PONG"`. */
  readonly reason: string
  /** What the backend asks for itself; unset changes nothing. */
  readonly advice?: Advice
  /** When the certificate it showed ends, milliseconds since 1970. */
  readonly certificateEnds?: number
}

/** What a backend's agent asks for. Each holds until it says otherwise; what it never spoke of is the discovery's. */
export interface Advice {
  /** Its weight as a share of the discovered one; 0 takes nothing new while a sibling has more. */
  readonly share?: number
  /** Most flows at once; 0 is unlimited. */
  readonly maxConnections?: number
  /** Takes no new flows and keeps those it has. */
  readonly drain?: boolean
}

export interface Check {
  /**
   * Checks once. A rejection counts as unhealthy with its message as the reason. Everything it opened is
   * closed when it settles, and when `signal` aborts (timeout, or the server is going) it settles soon.
   */
  run(target: Target, signal: AbortSignal): Promise<Result>
}

export interface CheckKind<S extends Shape = Shape> {
  /** Keys of the healthcheck section that this kind owns. */
  readonly settings: S
  /** Protocols of servers whose backends it can check. */
  readonly protocols: readonly ('tcp' | 'tls' | 'udp')[]
  /** What is wrong between keys that are right one by one: the key, and what was expected there. */
  conflicts?(settings: Settings<S>): readonly Problem[]
  /** Undefined: backends are never checked and always healthy. */
  create(settings: Settings<S>): Check | undefined
}

/** Declares a kind: its settings, then how one is made. */
export function check<const S extends Shape>(
  traits: {
    settings: S
    protocols?: CheckKind['protocols']
    conflicts?: (settings: Settings<S>) => readonly Problem[]
  },
  create: (settings: Settings<S>) => Check | undefined,
): CheckKind<S> {
  return { protocols: ['tcp', 'tls', 'udp'], ...traits, create }
}

export const healthy = (reason: string): Result => ({ status: 'healthy', reason })
export const unhealthy = (reason: string): Result => ({ status: 'unhealthy', reason })

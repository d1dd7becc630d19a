// The contract of a balancer: who among the electable serves the next client.

import type { Clock } from '../core/clock.ts'
import type { Settings, Shape } from '../core/settings.ts'

/**
 * What a pool knows of its backends, one column a fact, one row a backend. A balancer reads these in place.
 *
 *     row        0        1        2
 *     text    a:80     b:80     c:80
 *     weight     3        1        1
 *     slots      7        2        0
 */
export interface Columns {
  /** `host:port` as configured. */
  readonly text: readonly string[]
  /** Effective weight, 0 or more: weight × agent % × ramp. */
  readonly weight: Float64Array
  /** Flows that hold the backend: elected and not over. */
  readonly slots: Int32Array
  /** Most slots it may give; 0 is unlimited. */
  readonly limit: Int32Array
  /** Bytes a second both ways, over the last two seconds. */
  readonly bandwidth: Float64Array
}

/** The backends one client may be given, at the moment of its election. */
export interface Electable {
  /** Their rows, ordered by text; never empty when a balancer is asked. Full backends are not among them. */
  readonly rows: Int32Array
  /** Rows of the whole priority group, full ones included, ordered by text: what tables are built from. */
  readonly members: Int32Array
  /** Another number whenever `members` or one of their weights is another; equal numbers mean equal tables. */
  readonly version: number
  /** True when the row is among `rows`: a table built from `members` passes over those that are not. */
  has(row: number): boolean
  readonly columns: Columns
}

export interface Balancer {
  /**
   * The row that serves, always one of `electable.rows`. Synchronous, never throws, keeps no reference to
   * its arguments. `key` is the client's hash key (the bytes of its address, or of its prefix) when the kind
   * is `keyed`, and empty otherwise. Redispatch asks again without the rows already tried.
   */
  elect(key: Uint8Array, electable: Electable): number
  /** The dial of a row took `ms`. Asked for by `report: true`. */
  connected?(row: number, ms: number): void
  /** The first byte from a row came `ms` after it was connected. Asked for by `report: true`. */
  firstByte?(row: number, ms: number): void
  /** A dial of a row failed after `ms`. Asked for by `report: true`. */
  failed?(row: number, ms: number): void
  /** The row now belongs to another backend: forget what was learnt of it. */
  forget?(row: number): void
}

/** What a balancer may use besides its settings. */
export interface BalancerContext {
  readonly clock: Pick<Clock, 'now' | 'random'>
}

export interface BalancerKind<S extends Shape = Shape> {
  /** Keys of the server section that this kind owns. */
  readonly settings: S
  /** Wants the client's address as `key`. */
  readonly keyed: boolean
  /** Counts weights itself, ramps included. Other kinds have ramping backends passed over for them by chance. */
  readonly weighted: boolean
  /** Wants `connected`, `firstByte` and `failed`. */
  readonly report: boolean
  create(settings: Settings<S>, context: BalancerContext): Balancer
}

/** Declares a kind: its traits and settings, then how one is made. */
export function balancer<const S extends Shape>(
  traits: { settings?: S; keyed?: boolean; weighted?: boolean; report?: boolean },
  create: (settings: Settings<S>, context: BalancerContext) => Balancer,
): BalancerKind<S> {
  const { settings = {} as S, keyed = false, weighted = false, report = false } = traits
  return { settings, keyed, weighted, report, create }
}

// One backend of one server, from the moment it is discovered until it is gone and holds nothing.

import type { Address } from '../core/address.ts'
import type { Found } from '../core/backend.ts'
import type { Advice } from '../health/check.ts'

export interface Backend {
  /** Never used again for another. */
  readonly id: number
  /** Its row in the pool's columns and the plane's counters; another's once this one is gone. */
  readonly row: number
  /** `host:port` as configured. */
  readonly text: string
  /** What discovery said last. */
  found: Found
  /** Where to dial: the addresses behind its host name. Empty until the name is resolved. */
  endpoints: readonly Address[]
  discovered: boolean
  /** Flows that hold its row without a slot. */
  held: number
  healthy: boolean
  /** It starts unhealthy, and its checks have not said yet whether it is. */
  untried: boolean
  /** Kept out for a while because of how its flows went. */
  ejected: boolean
  /** What its agent asks for; nothing before it has. */
  advice: Advice
  /** How the pool counts it. */
  standing: Standing
  /** Dials that failed and were the backend's fault. */
  refused: number
  /** Flows that were connected to it and are over. */
  closed: number
  /** Counts up with every flow whose endpoint is taken in turn. */
  turn: number
  /** The last update that named it. */
  update: number
}

/**
 * `in` and `out` are the backends that could serve but for health and ejection, by what those say; `none` are the
 * others: undiscovered, draining, untried, or without an address.
 */
export type Standing = 'none' | 'in' | 'out'

/** What a backend counts as now. */
export function standingOf(backend: Backend): Standing {
  const { discovered, endpoints, untried, healthy, ejected } = backend
  if (!discovered || endpoints.length === 0 || untried || drains(backend)) return 'none'
  return healthy && !ejected ? 'in' : 'out'
}

/** Takes no new flows: its discovery or its agent says so. */
export function drains({ found, advice }: Backend): boolean {
  return found.drain || advice.drain === true
}

/** Counters a plane keeps by row; they only grow, whoever has the row. */
export interface Counters {
  rx(row: number): number
  tx(row: number): number
  connects(row: number): number
  requests(row: number): number
  responses(row: number): number
}

/** Before a plane listens nothing has been counted. */
export const NOTHING_COUNTED: Counters = {
  rx: () => 0,
  tx: () => 0,
  connects: () => 0,
  requests: () => 0,
  responses: () => 0,
}

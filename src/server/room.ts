// How many may be inside: the server as a whole, each client, and how fast a client may come.

import type { Clock } from '../core/clock.ts'
import type { Refusal } from '../core/reasons.ts'

/** Limits of a server; 0 is without limit. */
export interface RoomLimits {
  readonly maxConnections: number
  readonly maxPerClient: number
  /** Connections a second per client, on average; a client may save up one second's worth, at least one. */
  readonly ratePerClient: number
}

/** Clients whose rate is remembered; beyond, the one heard of longest ago is forgotten. */
const MOST_BUCKETS = 100_000

interface Bucket {
  tokens: number
  at: number
}

export class Room {
  readonly limits: RoomLimits
  #clock: Pick<Clock, 'now'>
  #inside = 0
  #perClient = new Map<string, number>()
  #buckets = new Map<string, Bucket>()

  constructor(limits: RoomLimits, clock: Pick<Clock, 'now'>) {
    this.limits = limits
    this.#clock = clock
  }

  /** Clients inside. */
  get size(): number {
    return this.#inside
  }

  /** Lets a client in, or says why not. Whoever was let in must `leave` once. */
  enter(ip: string): Refusal | undefined {
    const { maxConnections, maxPerClient, ratePerClient } = this.limits
    if (maxConnections > 0 && this.#inside >= maxConnections) return 'server-full'
    // Clients of a unix listener have no address to tell them apart by.
    if (ip === '') return void this.#inside++
    const own = maxPerClient > 0 ? (this.#perClient.get(ip) ?? 0) : 0
    if (maxPerClient > 0 && own >= maxPerClient) return 'rate'
    if (ratePerClient > 0 && !this.#spend(ip)) return 'rate'
    if (maxPerClient > 0) this.#perClient.set(ip, own + 1)
    this.#inside++
    return undefined
  }

  leave(ip: string): void {
    this.#inside--
    if (this.limits.maxPerClient === 0 || ip === '') return
    const own = this.#perClient.get(ip)! - 1
    if (own > 0) this.#perClient.set(ip, own)
    else this.#perClient.delete(ip)
  }

  /** A token bucket a client, filled at its rate. */
  #spend(ip: string): boolean {
    const { ratePerClient } = this.limits
    const most = Math.max(1, ratePerClient)
    const now = this.#clock.now()
    const bucket = this.#buckets.get(ip) ?? { tokens: most, at: now }
    bucket.tokens = Math.min(most, bucket.tokens + ((now - bucket.at) / 1000) * ratePerClient)
    bucket.at = now
    // The map keeps the order in which clients were last heard of.
    this.#buckets.delete(ip)
    this.#buckets.set(ip, bucket)
    if (this.#buckets.size > MOST_BUCKETS) this.#buckets.delete(this.#buckets.keys().next().value!)
    if (bucket.tokens < 1) return false
    bucket.tokens--
    return true
  }
}

// Asks for the addresses of one name, once: the hosts file, DNS, then whatever the system knows.
//
//      hosts file ──► resolve4 + resolve6 ──► lookup (getaddrinfo)
//                      names with a dot        no dot, or DNS has nothing

import { Resolver, lookup } from 'node:dns/promises'
import type { Clock } from '../core/clock.ts'
import { Hosts } from './hosts.ts'

/** What is known of one family: addresses, or nothing could be learnt and the last ones stay. */
export type Family = readonly string[] | undefined

export interface Known {
  readonly v4: Family
  readonly v6: Family
  /** How long it is good for. */
  readonly ttlMs: number
}

/** DNS has no addresses; `fault` says so if that is because it could not tell. */
export interface Undecided {
  readonly fault: Error | undefined
}

/** The places names are asked for; rejections carry Node's DNS codes. */
export interface NameServices {
  hosts(host: string): Promise<readonly string[] | undefined>
  resolve4(host: string): Promise<readonly { readonly address: string; readonly ttl: number }[]>
  resolve6(host: string): Promise<readonly { readonly address: string; readonly ttl: number }[]>
  lookup(host: string): Promise<readonly { readonly address: string }[]>
}

/** `lookup` and the hosts file give no TTL: their answers are good for this long. */
const LOOKUP_MS = 30_000

/** A name that does not exist is asked for again after this long: it may be about to. */
const NOTHING_MS = 5_000

/** What Node says when there is an answer and it is "none". */
const NONE = new Set(['ENOTFOUND', 'ENODATA'])

/** This machine's. Look-ups take part in nobody's data path; DNS is asked by c-ares, not in libuv's threads. */
export function systemServices(clock: Clock): NameServices {
  const hosts = new Hosts(clock)
  const resolver = new Resolver({ timeout: 2_000, tries: 2 })
  return {
    hosts: (host) => hosts.find(host),
    resolve4: (host) => resolver.resolve4(host, { ttl: true }),
    resolve6: (host) => resolver.resolve6(host, { ttl: true }),
    lookup: (host) => lookup(host, { all: true, verbatim: true }),
  }
}

/** What the hosts file and DNS have for a name; undecided when the system should be asked. */
export async function askDns(services: NameServices, host: string): Promise<Known | Undecided> {
  const bare = host.endsWith('.') ? host.slice(0, -1) : host
  const written = await services.hosts(bare)
  if (written) return known(written)
  // Search lists, NetBIOS, containers: what a name without a dot means only the system knows.
  if (!bare.includes('.')) return { fault: undefined }
  const [a, aaaa] = await Promise.allSettled([services.resolve4(host), services.resolve6(host)])
  const v4 = family(a)
  const v6 = family(aaaa)
  if (v4.addresses?.length || v6.addresses?.length)
    return { v4: v4.addresses, v6: v6.addresses, ttlMs: Math.min(v4.ttlMs, v6.ttlMs) }
  return { fault: v4.fault ?? v6.fault }
}

/**
 * What the system has for a name; no addresses when it says there are none, unless DNS had a `fault`. Rejects
 * when nobody could tell.
 */
export async function askSystem(services: NameServices, host: string, fault?: Error): Promise<Known> {
  try {
    const found = await services.lookup(host)
    return known(found.map(({ address }) => address))
  } catch (error) {
    if (!isNone(error)) throw error
    if (fault) throw fault
    return { v4: [], v6: [], ttlMs: NOTHING_MS }
  }
}

function known(addresses: readonly string[]): Known {
  const v6 = addresses.filter((each) => each.includes(':'))
  const v4 = addresses.filter((each) => !each.includes(':'))
  return { v4, v6, ttlMs: LOOKUP_MS }
}

function isNone(error: unknown): boolean {
  return NONE.has((error as NodeJS.ErrnoException).code ?? '')
}

type Records = readonly { readonly address: string; readonly ttl: number }[]

interface Asked {
  readonly addresses: Family
  readonly ttlMs: number
  readonly fault: Error | undefined
}

/** Addresses with the least of their TTLs, or why DNS could not tell. */
function family(asked: PromiseSettledResult<Records>): Asked {
  if (asked.status === 'fulfilled') {
    const ttls = asked.value.map(({ ttl }) => ttl * 1000)
    const addresses = asked.value.map(({ address }) => address)
    return { addresses, ttlMs: Math.min(...ttls), fault: undefined }
  }
  const fault = asked.reason as Error
  return isNone(fault)
    ? { addresses: [], ttlMs: Infinity, fault: undefined }
    : { addresses: undefined, ttlMs: Infinity, fault }
}

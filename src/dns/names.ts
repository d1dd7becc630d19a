// Host names to addresses, off the data path: whoever watches a name is told when its addresses change.
//
// The hosts file wins for names it has. A name with a dot is asked of DNS and refreshed when its TTL is over; a
// name without one, and a name DNS does not have, is asked of the system (`getaddrinfo`). The last good answer
// stays while nobody can answer; "there are none" is an answer.

import { isIP } from 'node:net'
import { realClock } from '../core/clock.ts'
import type { Cancel, Clock } from '../core/clock.ts'
import { messageOf } from '../core/errors.ts'
import { logger } from '../core/log.ts'
import { askDns, askSystem, systemServices } from './source.ts'
import type { Family, Known, NameServices } from './source.ts'
import { Turns } from './turns.ts'

/** However short or long a TTL is, a name is asked for again after a time between these. */
const SHORTEST_MS = 1_000
const LONGEST_MS = 3_600_000

/** The wait after the first failure; each further one doubles it up to the longest. */
const RETRY_MS = 1_000
const LONGEST_RETRY_MS = 60_000

/** Names asked of DNS at once. */
const DNS_AT_ONCE = 64

/** getaddrinfo holds one of libuv's four threads, for seconds when DNS is silent; files need the others. */
const SYSTEM_AT_ONCE = 2

/** All addresses of a name, IPv4 before IPv6, in an order that does not depend on who answered. */
export type OnAddresses = (ips: readonly string[]) => void

interface Entry {
  readonly host: string
  readonly watchers: Set<OnAddresses>
  v4: Family
  v6: Family
  /** What watchers were told; undefined before the first answer. */
  ips: readonly string[] | undefined
  failures: number
  cancel: Cancel
}

/** The names being watched. One for the process. */
export class Names {
  readonly #clock: Clock
  readonly #services: NameServices
  readonly #log = logger('names')
  readonly #entries = new Map<string, Entry>()
  readonly #dns = new Turns(DNS_AT_ONCE)
  readonly #system = new Turns(SYSTEM_AT_ONCE)

  constructor(clock: Clock = realClock, services: NameServices = systemServices(clock)) {
    this.#clock = clock
    this.#services = services
  }

  /** How many names are watched. */
  get size(): number {
    return this.#entries.size
  }

  /**
   * Calls `onAddresses` with all addresses of `host`, and again whenever they are others, until cancelled. The
   * first call comes before this returns when they are known, as those of an IP address are: itself. No
   * addresses means the name has none; a name nobody could answer for yet gives no call.
   */
  watch(host: string, onAddresses: OnAddresses): Cancel {
    if (isIP(host)) {
      onAddresses([host])
      return () => {}
    }
    const entry = this.#entry(host.toLowerCase())
    const asking = watched(entry)
    // A function of its own, so that one callback may watch twice.
    const watcher: OnAddresses = (ips) => onAddresses(ips)
    entry.watchers.add(watcher)
    if (!asking) void this.#ask(entry)
    else if (entry.ips) watcher(entry.ips)
    return () => this.#leave(entry, watcher)
  }

  #entry(host: string): Entry {
    const known = this.#entries.get(host)
    if (known) return known
    const entry: Entry = {
      host,
      watchers: new Set(),
      v4: undefined,
      v6: undefined,
      ips: undefined,
      failures: 0,
      cancel: () => {},
    }
    this.#entries.set(host, entry)
    return entry
  }

  #leave(entry: Entry, watcher: OnAddresses): void {
    if (!entry.watchers.delete(watcher) || entry.watchers.size > 0) return
    entry.cancel()
    this.#entries.delete(entry.host)
  }

  async #ask(entry: Entry): Promise<void> {
    const settle = await this.#known(entry).then(
      (known) => () => this.#learnt(entry, known),
      (error: unknown) => () => this.#failed(entry, error),
    )
    if (!watched(entry)) return
    const waitMs = settle()
    // Telling watchers may have been what made the last one leave.
    if (watched(entry)) entry.cancel = this.#clock.after(waitMs, () => void this.#ask(entry))
  }

  async #known(entry: Entry): Promise<Known> {
    const { host } = entry
    const nobody = { v4: [], v6: [], ttlMs: 0 }
    const asked = await this.#dns.take(async () => (watched(entry) ? askDns(this.#services, host) : nobody))
    if (!('fault' in asked)) return asked
    return this.#system.take(async () =>
      watched(entry) ? askSystem(this.#services, host, asked.fault) : nobody,
    )
  }

  /** Tells watchers when the addresses are others than before; how long until the name is asked for again. */
  #learnt(entry: Entry, { v4, v6, ttlMs }: Known): number {
    if (entry.failures > 0) this.#log.info(`${entry.host} is resolved again after ${entry.failures} failures`)
    entry.failures = 0
    entry.v4 = v4 ?? entry.v4
    entry.v6 = v6 ?? entry.v6
    const ips = [...sorted(entry.v4), ...sorted(entry.v6)]
    if (!same(ips, entry.ips)) this.#tell(entry, ips)
    return Math.min(Math.max(ttlMs, SHORTEST_MS), LONGEST_MS)
  }

  #tell(entry: Entry, ips: readonly string[]): void {
    if (ips.length > 0) this.#log.debug(`${entry.host} is ${ips.join(', ')}`)
    else this.#log.warn(`${entry.host} has no addresses`)
    entry.ips = ips
    for (const watcher of entry.watchers) watcher(ips)
  }

  #failed(entry: Entry, error: unknown): number {
    const wait = Math.min(RETRY_MS * 2 ** Math.min(entry.failures, 10), LONGEST_RETRY_MS)
    if (entry.failures++ === 0) {
      const meanwhile = entry.ips
        ? `it stays ${entry.ips.join(', ') || 'without addresses'}`
        : 'it has no address yet'
      this.#log.warn(`${entry.host} cannot be resolved: ${messageOf(error)}; ${meanwhile}`)
    }
    return wait * (0.5 + this.#clock.random() / 2)
  }
}

function watched(entry: Entry): boolean {
  return entry.watchers.size > 0
}

function sorted(family: Family): readonly string[] {
  return [...new Set(family)].sort()
}

function same(one: readonly string[], other: readonly string[] | undefined): boolean {
  return one.length === other?.length && one.every((each, i) => each === other[i])
}

// The targets of a DNS SRV record (RFC 2782).

import { setMaxListeners } from 'node:events'
import { aborted } from '../core/aborted.ts'
import type { HostPort } from '../core/address.ts'
import { found } from '../core/backend.ts'
import type { Found } from '../core/backend.ts'
import type { Clock } from '../core/clock.ts'
import { DiscoveryError, messageOf } from '../core/errors.ts'
import { name, oneOf } from '../core/settings.ts'
import { inSlices } from '../core/slices.ts'
import { isDnsName } from '../dns/message.ts'
import type { DnsRecord } from '../dns/message.ts'
import { resolve } from '../dns/resolve.ts'
import type { Resolved, Resolving } from '../dns/resolve.ts'
import { dnsServers, parseDnsServer } from '../dns/servers.ts'
import type { DnsServers } from '../dns/servers.ts'
import { Turns } from '../dns/turns.ts'
import { discovery } from './discovery.ts'
import type { Answer, Discovery } from './discovery.ts'
import { labelOptions, pairs, quote } from './reading/options.ts'
import { Rejects } from './reading/rejects.ts'

/** Addresses of targets that are asked for at once. */
const AT_ONCE = 16

/** Addresses of a target that are used: one answer could hold a thousand, and a thousand ports for each. */
const ADDRESSES = 16

/** A target whose addresses could not be asked for is asked for again after this long. */
const RETRY_MS = 5_000

const SERVER = 'a DNS server: host, host:port, an IP address or [v6]:port'
const PATTERN = 'a DNS name such as "_http._tcp.example.com."'

export const srv = discovery(
  {
    settings: {
      srv_lookup_server: name()
        .refine((text) => parseDnsServer(text) !== undefined, { error: SERVER })
        .optional()
        .describe(
          'DNS server to ask, a name or an address, with a port other than 53 as host:port; unset asks those of the system.',
        ),
      srv_lookup_pattern: name()
        .refine(isDnsName, { error: PATTERN })
        .describe('Name of the record, fully qualified, such as "_http._tcp.example.com.".'),
      srv_dns_protocol: oneOf(['udp', 'tcp'])
        .default('udp')
        .describe(
          'How the DNS server is asked; udp fetches answers over TCP that the server marks as truncated.',
        ),
    },
    timeoutMs: 5_000,
    source: ({ srv_lookup_pattern, srv_lookup_server }) =>
      `srv ${srv_lookup_pattern} at ${srv_lookup_server ?? 'the system’s DNS servers'}`,
  },
  ({ srv_lookup_server, srv_lookup_pattern, srv_dns_protocol }, { clock }) => {
    const servers = dnsServers(srv_lookup_server ? parseDnsServer(srv_lookup_server) : undefined, clock)
    return new Srv(srv_lookup_pattern, servers, { protocol: srv_dns_protocol, clock })
  },
)

type Service = Resolved<'SRV'>
type SrvRecord = Service['records'][number]

/** What is known of the addresses of a target. */
interface Target {
  readonly ips: readonly string[]
  /** When it is asked for again, on the clock. */
  readonly until: number
  /** Why there are none, or why they are those known before. */
  readonly fault?: string
}

/**
 * A target is a backend for every IPv4 address it has, in place of the first, which changes from answer to answer
 * where DNS shuffles them; for its IPv6 addresses when it has none of the other, as both are one machine.
 */
class Srv implements Discovery {
  readonly #name: string
  readonly #servers: DnsServers
  readonly #manner: Resolving
  readonly #clock: Clock
  /** The targets of the last answer. */
  #known: ReadonlyMap<string, Target> = new Map()

  constructor(name: string, servers: DnsServers, manner: Resolving) {
    this.#name = name
    this.#servers = servers
    this.#manner = manner
    this.#clock = manner.clock
  }

  async ask(signal: AbortSignal): Promise<Answer> {
    signal.throwIfAborted()
    // Every question that is under way listens to it.
    setMaxListeners(0, signal)
    try {
      const servers = await Promise.race([this.#servers(), aborted(signal)])
      const service = await resolve(servers, { name: this.#name, type: 'SRV' }, this.#manner, signal)
      const until = this.#clock.now() + service.freshForMs
      const targets = await this.#targets(service, signal)
      const answer = await read(service, targets)
      const due = [...targets.values()].reduce((least, each) => Math.min(least, each.until), until)
      return { ...answer, freshForMs: Math.max(0, due - this.#clock.now()) }
    } catch (error) {
      signal.throwIfAborted()
      throw new DiscoveryError(messageOf(error), { cause: error })
    }
  }

  /** The addresses of every target: sent along with the answer, still known, or asked for. */
  async #targets(
    { records, additionals, server }: Service,
    signal: AbortSignal,
  ): Promise<Map<string, Target>> {
    const sent = byName(additionals)
    const names = [...new Set(records.map(({ data }) => data.target))].filter((target) => target !== '.')
    const targets = new Map<string, Target>()
    const turns = new Turns(AT_ONCE)
    const learn = async (name: string) => {
      const target =
        // Also where its address was sent along: the name is shown, and served by TLS servers.
        isDnsName(name)
          ? (this.#target(sent.get(name) ?? []) ??
            (await turns.take(() => this.#lookUp(name, server, signal))))
          : NO_NAME
      targets.set(name, target)
    }
    await Promise.all(names.map(learn))
    this.#known = targets
    return targets
  }

  /** What is known as long as it is good. A target that cannot be asked for keeps the addresses it had. */
  async #lookUp(name: string, server: HostPort, signal: AbortSignal): Promise<Target> {
    const before = this.#known.get(name)
    if (before && this.#clock.now() < before.until) return before
    try {
      return await this.#resolve(name, server, signal)
    } catch (error) {
      signal.throwIfAborted()
      const ips = before?.ips ?? []
      const stay = ips.length > 0 ? ', its last addresses stay' : ''
      return { ips, until: this.#clock.now() + RETRY_MS, fault: messageOf(error) + stay }
    }
  }

  async #resolve(name: string, server: HostPort, signal: AbortSignal): Promise<Target> {
    const a = await resolve([server], { name, type: 'A' }, this.#manner, signal)
    const v4 = this.#target(a.records, a.freshForMs)
    if (v4) return v4
    const aaaa = await resolve([server], { name, type: 'AAAA' }, this.#manner, signal)
    const freshForMs = Math.min(a.freshForMs, aaaa.freshForMs)
    const v6 = this.#target(aaaa.records, freshForMs)
    return v6 ?? { ips: [], until: this.#clock.now() + freshForMs, fault: 'has no address' }
  }

  /** The addresses among `records`; undefined when there are none. */
  #target(records: readonly DnsRecord[], freshForMs = Infinity): Target | undefined {
    const v4 = records.filter(({ type }) => type === 'A')
    const used = v4.length > 0 ? v4 : records.filter(({ type }) => type === 'AAAA')
    if (used.length === 0) return undefined
    const ips = [...new Set(used.map(({ data }) => data as string))].sort()
    const until = this.#clock.now() + Math.min(freshForMs, ...used.map(({ ttlMs }) => ttlMs))
    if (ips.length <= ADDRESSES) return { ips, until }
    const fault = `has ${ips.length} addresses, of which ${ADDRESSES} are used`
    return { ips: ips.slice(0, ADDRESSES), until, fault }
  }
}

/** The backends of an answer; of two that are the same the one with the better priority, then the greater weight. */
async function read(
  { records, additionals }: Service,
  targets: ReadonlyMap<string, Target>,
): Promise<Answer> {
  const backends = new Map<string, Found>()
  const rejected = new Rejects()
  const texts = byName(additionals)
  for (const [name, { fault }] of targets) if (fault) rejected.add(`target ${quote(name)}: ${fault}`)
  await inSlices(records.toSorted(byPreference), ({ data: { target, port, priority, weight } }) => {
    if (target === '.') return
    if (port === 0) return rejected.add(`target ${quote(target)}: expected a port of 1 to 65535, got 0`)
    const { options, wrong } = labelOptions(labels(texts.get(target) ?? []))
    for (const each of wrong) rejected.add(`target ${quote(target)}: ${each}`)
    for (const host of targets.get(target)!.ips) {
      const backend = found({ host, port }, { weight, priority, sni: target, ...options })
      if (!backends.has(backend.identity)) backends.set(backend.identity, backend)
    }
  })
  return { backends: [...backends.values()], rejected: rejected.list() }
}

const NO_NAME: Target = { ips: [], until: Infinity, fault: 'expected a DNS name' }

/** RFC 2782: the lowest priority first. The rest makes the order one that does not change from answer to answer. */
function byPreference({ data: a }: SrvRecord, { data: b }: SrvRecord): number {
  return a.priority - b.priority || b.weight - a.weight || a.port - b.port || (a.target < b.target ? -1 : 1)
}

function byName(records: readonly DnsRecord[]): Map<string, DnsRecord[]> {
  const names = new Map<string, DnsRecord[]>()
  for (const record of records) {
    const others = names.get(record.name)
    if (others) others.push(record)
    else names.set(record.name, [record])
  }
  return names
}

/** `fairlead.max_connections=5` in the TXT records of a target that were sent along, as Consul sends metadata. */
function labels(records: readonly DnsRecord[]): Iterable<readonly [string, string]> {
  return pairs(records.flatMap((each) => (each.type === 'TXT' ? (each.data as Buffer[]).map(String) : [])))
}

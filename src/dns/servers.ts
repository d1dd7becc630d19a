// Which DNS servers are asked: the one configured, by address or name, or those of the system.

import { Resolver } from 'node:dns'
import { isIP, isIPv6 } from 'node:net'
import { isUnix, parseBackendAddress } from '../core/address.ts'
import type { HostPort } from '../core/address.ts'
import type { Clock } from '../core/clock.ts'
import { askDns, askSystem, systemServices } from './source.ts'
import type { NameServices } from './source.ts'

const PORT = 53

/** More are not asked, as resolv.conf(5) has it. */
const MOST = 3

/** Reads `host`, `host:port`, an IP address, `[v6]` or `[v6]:port`; undefined when it is none of these. */
export function parseDnsServer(text: string): HostPort | undefined {
  const withPort = `${isIPv6(text) ? `[${text}]` : text}:${PORT}`
  const address = parseBackendAddress(text) ?? parseBackendAddress(withPort)
  return address && !isUnix(address) && address.port !== 0 ? address : undefined
}

/** The servers to ask in turn, by IP address: the first that answers is asked. Rejects when there is none. */
export type DnsServers = () => Promise<readonly HostPort[]>

/** Those of `server`, whose name is looked up again when that is due; those of the system when undefined. */
export function dnsServers(server: HostPort | undefined, clock: Clock): DnsServers {
  if (!server) return async () => systemServers()
  if (isIP(server.host)) return async () => [server]
  const { host, port } = server
  let services: NameServices | undefined
  let until = -Infinity
  let known: Promise<readonly HostPort[]>
  return () => {
    if (clock.now() < until) return known
    // One look-up at a time, also when the question that began it has given up.
    until = Infinity
    services ??= systemServices(clock)
    known = lookUp(services, host).then(
      ({ ips, ttlMs }) => {
        until = clock.now() + ttlMs
        return ips.map((ip) => ({ host: ip, port }))
      },
      (error: unknown) => {
        until = -Infinity
        throw error
      },
    )
    return known
  }
}

async function lookUp(services: NameServices, host: string): Promise<{ ips: string[]; ttlMs: number }> {
  const asked = await askDns(services, host.toLowerCase())
  const { v4, v6, ttlMs } = 'fault' in asked ? await askSystem(services, host, asked.fault) : asked
  const ips = [...(v4 ?? []), ...(v6 ?? [])].slice(0, MOST)
  if (ips.length === 0) throw new Error(`the DNS server ${host} has no address`)
  return { ips, ttlMs }
}

/** A new resolver reads the system's settings anew. */
function systemServers(): readonly HostPort[] {
  return new Resolver()
    .getServers()
    .flatMap((text) => parseDnsServer(text) ?? [])
    .slice(0, MOST)
}

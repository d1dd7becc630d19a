// Where a container is reached, by what the engine's list says of it.
//
//      a port published       the mapping's address, else the engine's host : public port
//      a port not published   the container's own address                   : private port
//      a network asked for    the container's address in it                 : private port
//
// A host that the container names itself comes before all of these.

import { isIPv6 } from 'node:net'
import { z } from 'zod'
import { count, name, port, text } from '../../core/settings.ts'
import { quote } from '../reading/options.ts'

/** A port published, or only exposed: then without a public one. */
const mapping = z.object({
  IP: text().nullish(),
  PrivatePort: port(),
  PublicPort: count()
    .refine((value) => value <= 65535, { error: 'a port' })
    .nullish(),
  Type: text(),
})

const network = z.object({ IPAddress: text().nullish(), GlobalIPv6Address: text().nullish() })

/** What is read of a container. Go writes `null` for what is empty. */
export const listedContainer = z.object({
  Id: name(),
  Names: z.array(text()).nullish(),
  Labels: z.record(z.string(), text()).nullish(),
  Ports: z.array(mapping).nullish(),
  Status: text().nullish(),
  Health: z.object({ Status: text().nullish() }).nullish(),
  NetworkSettings: z.object({ Networks: z.record(z.string(), network.nullable()).nullish() }).nullish(),
})

export type Container = z.output<typeof listedContainer>
type Mapping = z.output<typeof mapping>

export interface Place {
  readonly host: string
  readonly port: number
}

/** Which ports of a container are asked for, and how they are reached. */
export interface Wanted {
  /** Inside the container; 0 is every one it publishes, or exposes if it publishes none. */
  readonly privatePort: number
  readonly transport: 'tcp' | 'udp'
  /** The network in which containers are reached; empty for published ports. */
  readonly network: string
  /** Where the ports of the engine's machine are reached. */
  readonly engineHost: string
}

/**
 * One place for each port asked for, none when the container serves no such port or is not in the network; or
 * what is wrong with it. `said` is the host that the container names itself.
 */
export function placesOf(container: Container, wanted: Wanted, said: string | undefined): Place[] | string {
  if (said !== undefined && !isHost(said)) return `expected a host, got ${quote(said)}`
  const published = wanted.network === '' ? publishedPorts(container, wanted) : []
  if (published.length > 0)
    return published.map(({ IP, PublicPort }) => ({
      host: said ?? (isUnspecified(IP) ? wanted.engineHost : IP!),
      port: PublicPort!,
    }))
  const ports = ownPorts(container, wanted)
  if (ports.length === 0) return []
  const host = said ?? ownAddress(container, wanted)
  if (host !== undefined) return ports.map((port) => ({ host, port }))
  return wanted.network !== '' ? [] : 'expected a published port or an address in a network, got neither'
}

/** True unless its HEALTHCHECK says otherwise; one that has not said anything yet is not healthy. */
export function isHealthy({ Health, Status }: Container): boolean {
  // Engines before API 1.52 tell it in a sentence: "Up 2 minutes (healthy)".
  const said = Health?.Status ?? /\((healthy|unhealthy|health: starting)\)/.exec(Status ?? '')?.[1] ?? ''
  return said === 'healthy' || said === 'none' || said === ''
}

/** What people call it; from classic Swarm with its node, `node1/web`. */
export function nameOf({ Id, Names }: Container): string {
  return (Names?.[0]?.replace(/^\//, '') ?? Id).slice(0, 80)
}

/** One mapping for each port, the IPv4 one before its IPv6 twin. */
function publishedPorts(container: Container, wanted: Wanted): Mapping[] {
  const best = new Map<number, Mapping>()
  for (const each of portsAsked(container, wanted)) {
    const known = best.get(each.PrivatePort)
    if (each.PublicPort && (!known || isBefore(each, known))) best.set(each.PrivatePort, each)
  }
  return [...best.values()]
}

/** The engine's order of mappings changes from answer to answer. */
function isBefore(a: Mapping, b: Mapping): boolean {
  const [sixA, sixB] = [isIPv6(a.IP ?? ''), isIPv6(b.IP ?? '')]
  if (sixA !== sixB) return sixB
  return a.PublicPort === b.PublicPort ? (a.IP ?? '') < (b.IP ?? '') : a.PublicPort! < b.PublicPort!
}

/** The ports at which the container is asked itself. An image need not say which it serves. */
function ownPorts(container: Container, wanted: Wanted): number[] {
  const asked = portsAsked(container, wanted)
  if (asked.length > 0) return [...new Set(asked.map(({ PrivatePort }) => PrivatePort))]
  const { privatePort, network } = wanted
  const ports = container.Ports ?? []
  const isSaid = ports.some((each) => each.PrivatePort === privatePort)
  const isPublishing = ports.some((each) => each.PublicPort)
  return privatePort === 0 || isSaid || (isPublishing && network === '') ? [] : [privatePort]
}

function portsAsked({ Ports }: Container, { transport, privatePort }: Wanted): Mapping[] {
  return (Ports ?? []).filter(
    ({ Type, PrivatePort }) => Type === transport && (privatePort === 0 || PrivatePort === privatePort),
  )
}

/** Its address in the network asked for; else in the first, by name, in which it has one. */
function ownAddress({ NetworkSettings }: Container, wanted: Wanted): string | undefined {
  const networks = Object.entries(NetworkSettings?.Networks ?? {}).sort(([a], [b]) => (a < b ? -1 : 1))
  for (const [called, network] of networks) {
    if (wanted.network !== '' && called !== wanted.network) continue
    // The network of the engine's machine itself: who is in it has no address of its own.
    const own = called === 'host' ? wanted.engineHost : network?.IPAddress || network?.GlobalIPv6Address
    if (own) return own
  }
  return undefined
}

function isUnspecified(address: string | null | undefined): boolean {
  return !address || address === '0.0.0.0' || address === '::'
}

function isHost(text: string): boolean {
  return isIPv6(text) || (text.length <= 253 && /^[^\s:/[\]]+$/.test(text))
}

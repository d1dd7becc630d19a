// From a server's settings to the parts it runs on; what this release cannot run is refused here, by name.

import { compileAccess } from '../access/rules.ts'
import type { Access } from '../access/rules.ts'
import type { Balancer, BalancerKind } from '../balance/balancer.ts'
import { hashKeyOf, QUIC_KEY } from '../balance/hash.ts'
import * as balancers from '../balance/kinds.ts'
import type { ServerSettings } from '../config/server.ts'
import { isWildcard } from '../core/address.ts'
import type { Found } from '../core/backend.ts'
import type { Clock } from '../core/clock.ts'
import { UnsupportedError } from '../core/errors.ts'
import type { DatagramSpec, Plane, SocketOptions } from '../plane/plane.ts'
import type { AdmissionOptions } from './admission.ts'
import { QuicIds } from './quicids.ts'

/** What is asked for in the settings and comes in a later release, with the words for it. */
const LATER: readonly (readonly [string, (settings: ServerSettings) => boolean])[] = [
  ['protocol "tls" (TLS termination)', ({ protocol }) => protocol === 'tls'],
  ['the tls section (TLS termination)', ({ tls }) => tls !== undefined],
  ['the sni section (backends by TLS server name)', ({ sni }) => sni !== undefined],
  ['the backends_tls section (TLS to backends)', ({ backends_tls }) => backends_tls !== undefined],
  ['the proxy_protocol section (PROXY headers)', ({ proxy_protocol }) => proxy_protocol !== undefined],
]

/**
 * Throws `UnsupportedError` with one sentence that names the server and the first thing this release lacks.
 * Starts nothing, so `fairlead check` may ask too.
 */
export function refuseUnsupported(name: string, settings: ServerSettings): void {
  const missing = LATER.find(([, asked]) => asked(settings))
  if (missing) throw new UnsupportedError(`server ${name} needs ${missing[0]}, which is not in this release`)
}

/**
 * The options of a server's sockets. Throws `UnsupportedError`, which names the server and the key, for one that its
 * plane cannot set.
 */
export function buildSockets(
  name: string,
  { protocol, tcp, udp }: ServerSettings,
  plane: Plane['name'],
): SocketOptions {
  const datagrams = protocol === 'udp'
  const sockets = {
    userTimeoutMs: tcp.user_timeout,
    deferAcceptMs: tcp.defer_accept,
    fastOpen: tcp.fast_open,
    freebind: tcp.freebind,
    transparent: datagrams ? (udp?.transparent ?? false) : tcp.transparent,
    mark: tcp.mark,
  }
  const { source: _, keep_alive: __, ...natives } = tcp
  const key = Object.entries(natives).find(([, value]) => value !== 0 && value !== false)?.[0]
  const asked = datagrams ? sockets.transparent && 'udp.transparent' : key && `tcp.${key}`
  if (asked && plane === 'portable')
    throw new UnsupportedError(`server ${name} needs the native plane for ${asked}, and has the portable one`)
  return { ...sockets, source: tcp.source ?? '' }
}

/** Datagrams of a backend in which it may show the ids it issues to a QUIC client: the first flights of a handshake. */
const GLIMPSES = 4

/** How a udp server makes sessions; undefined for any other. */
export function buildDatagrams(
  { protocol, udp, on_backend_loss }: ServerSettings,
  access: DatagramSpec['access'],
  quic: QuicIds | undefined,
): DatagramSpec | undefined {
  if (protocol !== 'udp' || !udp) return undefined
  return {
    sessionKey: udp.session_key,
    maxRequests: udp.max_requests,
    maxResponses: udp.max_responses,
    maxSessions: udp.max_sessions,
    tellUnreachable: on_backend_loss !== 'keep',
    glimpses: quic ? GLIMPSES : 0,
    receiveBuffer: udp.receive_buffer,
    access,
  }
}

/** What a server speaks to its backends. */
export function transportOf({ protocol }: ServerSettings): 'tcp' | 'udp' {
  return protocol === 'udp' ? 'udp' : 'tcp'
}

/** Kinds of gobetween that looked at no priority. */
const IGNORED_PRIORITY: readonly string[] = ['leastconn', 'roundrobin', 'leastbandwidth', 'iphash', 'iphash1']

/** What to tell an operator whose backends have several priorities, where gobetween would have used them all. */
export function priorityWarning(balance: string, found: readonly Found[]): string | undefined {
  const first = found[0]?.priority
  if (!IGNORED_PRIORITY.includes(balance) || found.every(({ priority }) => priority === first))
    return undefined
  return `backends have several priorities: ${balance} elects among the lowest number only, gobetween's ignored it`
}

export interface Chooser {
  readonly kind: BalancerKind
  readonly balancer: Balancer
  readonly hashKey: AdmissionOptions['hashKey']
}

/** The balancer, and for kinds that hash, the bytes of a client that gobetween would hash. */
export function buildChooser(settings: ServerSettings, clock: Clock): Chooser {
  const kind = balancers[settings.balance] as unknown as BalancerKind
  const balancer = kind.create(settings, { clock })
  if (!kind.keyed) return { kind, balancer, hashKey: undefined }
  // gobetween sees an IPv4 client in 16 bytes on a wildcard bind and in 4 on a specific one.
  const mapped = settings.bind.map(isWildcard)
  const hashKey = (bytes: Uint8Array, client: { bind: number }) =>
    hashKeyOf(bytes, settings as never, mapped[client.bind]!)
  return { kind, balancer, hashKey }
}

/** Where QUIC connections are, for `most` sessions; undefined where clients are not told apart by their ids. */
export function buildQuic(settings: ServerSettings, { kind }: Chooser, most: number): QuicIds | undefined {
  const { hash_key } = settings as { hash_key?: unknown }
  return kind.keyed && hash_key === QUIC_KEY ? new QuicIds(most) : undefined
}

/** The access table; undefined when everybody may come in. */
export function buildAccess({ access }: ServerSettings): Access | undefined {
  if (!access || (access.default === 'allow' && access.rules.length === 0)) return undefined
  return compileAccess(access)
}

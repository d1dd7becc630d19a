// One server's section: every key, its default, and the rules between keys.

import { isIP } from 'node:net'
import { z } from 'zod'
import { accessSettings } from '../access/settings.ts'
import { QUIC_KEY } from '../balance/hash.ts'
import * as balancers from '../balance/kinds.ts'
import { isUnix, parseBind, pathFault } from '../core/address.ts'
import type { Address } from '../core/address.ts'
import { count, duration, flag, number, oneOf, positiveDuration, text, texts } from '../core/settings.ts'
import type { Shape } from '../core/settings.ts'
import { discoverySettings } from '../discovery/settings.ts'
import * as checks from '../health/kinds.ts'
import { checkSettings, protocolsOf } from '../health/settings.ts'
import type { CheckName } from '../health/settings.ts'

/** The name of a way to choose a backend. */
export type Balance = keyof typeof balancers

const BALANCES = Object.keys(balancers) as [Balance, ...Balance[]]

const CHECKS = Object.keys(checks) as CheckName[]

/** What a UDP session may idle when nobody says: without an end it would stay for ever. */
const UDP_IDLE_MS = 60_000

/** The connection options of gobetween, for one server or for all of them under `[defaults]`. */
export const connectionOptions = {
  max_connections: count().default(0).describe('Most clients at once; 0 is no limit.'),
  client_idle_timeout: duration()
    .optional()
    .describe(
      'Ends a flow whose client side moved no byte for this long; unset or "0" is never (udp: unset is 60s).',
    ),
  backend_idle_timeout: duration()
    .optional()
    .describe(
      'Ends a flow whose backend side moved no byte for this long; unset or "0" is never (udp: unset is 60s).',
    ),
  backend_connection_timeout: duration()
    .optional()
    .describe('Longest one dial of a backend may take; unset is 5s, "0" is the limit of the kernel.'),
}

/** Keys a server takes from `[defaults]` when it does not write them itself. */
export const inheritable = {
  ...connectionOptions,
  half_close_timeout: duration()
    .default(60_000)
    .describe(
      'Ends a flow of which one side has ended and the other moved no byte for this long; "0" is never.',
    ),
  redispatch: count().default(3).describe('How many further backends are tried when a dial fails.'),
  queue_timeout: duration()
    .default(0)
    .describe('How long a client waits for a place when all backends are full; "0" refuses it at once.'),
  max_connections_per_client: count()
    .default(0)
    .describe('Most flows at once of one client address; 0 is no limit.'),
  client_connection_rate: number(0)
    .default(0)
    .describe('Most new flows a second of one client address, fractions allowed; 0 is no limit.'),
}

const BIND =
  'an address to listen on such as "127.0.0.1:3000", ":3000", "[::1]:3000", ":8000-8010" or "unix:/run/web.sock"'

/** Most addresses one server listens on: every port there is. */
const MOST_BINDS = 65_536

/** What moves the bytes. */
export const plane = () => oneOf(['auto', 'portable', 'native'])

/** One bind or a list of them, read into one address a listener. */
const binds = () =>
  z
    .union([text(), z.array(z.string(), { error: BIND }).min(1, { error: BIND })], { error: BIND })
    .transform((value, context): readonly Address[] => {
      const addresses: Address[] = []
      for (const [index, bind] of [value].flat().entries()) {
        const path = Array.isArray(value) ? [index] : []
        const found = parseBind(bind)
        if (!found) context.addIssue({ code: 'custom', path, message: BIND })
        const fault = found?.[0] && pathFault(found[0])
        if (fault) context.addIssue({ code: 'custom', path, message: fault })
        addresses.push(...(found ?? []))
        if (addresses.length <= MOST_BINDS) continue
        context.addIssue({ code: 'custom', path, message: `at most ${MOST_BINDS} addresses in all` })
        break
      }
      return addresses
    })

const tlsCommon = {
  ciphers: texts().default([]).describe('Cipher suites by their Go names; an empty list is the default set.'),
  min_version: text()
    .default('')
    .describe('Oldest TLS version: tls1, tls1.1, tls1.2 or tls1.3; empty is tls1.2.'),
  max_version: text()
    .default('')
    .describe('Newest TLS version: tls1, tls1.1, tls1.2 or tls1.3; empty is tls1.3.'),
  session_tickets: flag().default(false).describe('Lets clients resume sessions by ticket.'),
}

const sni = z.strictObject({
  hostname_matching_strategy: oneOf(['exact', 'regexp'])
    .default('exact')
    .describe('How the name a client asks for is compared with the names of backends.'),
  unexpected_hostname_strategy: oneOf(['default', 'reject', 'any'])
    .default('default')
    .describe(
      'What a client gets whose name no backend has: backends without a name, nothing, or any backend.',
    ),
  read_timeout: duration().default(2000).describe('Longest wait for the ClientHello of a client.'),
})

const tls = z.strictObject({
  acme_hosts: texts().default([]).describe('Host names to obtain certificates for by ACME.'),
  cert_path: text().default('').describe('File with the certificate chain, PEM.'),
  key_path: text().default('').describe('File with the private key, PEM.'),
  ...tlsCommon,
})

const backendsTls = z.strictObject({
  ignore_verify: flag().default(false).describe('Accepts any certificate of a backend.'),
  root_ca_cert_path: text()
    .optional()
    .describe('File with the CA certificates to trust, PEM; unset is those of the system.'),
  cert_path: text().optional().describe('File with the client certificate, PEM.'),
  key_path: text().optional().describe('File with the private key of the client certificate, PEM.'),
  ...tlsCommon,
})

/** The largest buffer there is: the kernel takes an int, and doubles it. */
const MOST_BUFFER = 2 ** 30 - 1

const udp = z.strictObject({
  max_requests: count()
    .default(0)
    .describe(
      'Datagrams of a client for one session, the next begins another; 1 is fire and forget, 0 is no limit.',
    ),
  max_responses: count()
    .default(0)
    .describe('Datagrams of a backend after which the session ends; 0 is no limit.'),
  transparent: flag().default(false).describe('Sends to backends from the address of the client.'),
  session_key: oneOf(['address', 'ip'])
    .default('address')
    .describe('What makes a session: the address and port of a client (address), or its address alone (ip).'),
  max_sessions: count(1)
    .default(65_536)
    .describe(
      'Most sessions at once, at most half the descriptors of the process; all servers have three quarters of them. One more ends another: one never answered, or the one silent for longest.',
    ),
  receive_buffer: count()
    .refine((value) => value <= MOST_BUFFER, { error: `a whole number, 0 to ${MOST_BUFFER}` })
    .default(4 * 1024 * 1024)
    .describe(
      'Bytes of datagrams that may wait to be read (SO_RCVBUF), as far as the system allows; 0 is its own default.',
    ),
})

/** The keys of udp sessions that gobetween has; fairlead's own are shown only when written. */
export const GOBETWEEN_UDP_KEYS: readonly string[] = ['max_requests', 'max_responses', 'transparent']

const SOURCE = 'an IP address such as "10.0.0.5"'

/** The largest mark there is (SO_MARK has 32 bits, of which setsockopt takes an int). */
const MOST_MARK = 2 ** 31 - 1

const tcp = z.strictObject({
  keep_alive: duration()
    .default(15_000)
    .describe('Silence after which a peer is probed, and between probes; whole seconds, "0" is never.'),
  source: text()
    .refine((value) => isIP(value) > 0, { error: SOURCE })
    .optional()
    .describe('Address dials come from; those of the other family come from any.'),
  transparent: flag()
    .default(false)
    .describe('Backends see the address of the client: dials come from it (IP_TRANSPARENT).'),
  mark: count()
    .refine((value) => value <= MOST_MARK, { error: `a whole number, 0 to ${MOST_MARK}` })
    .default(0)
    .describe('Mark of packets to backends, for routing and firewalls (SO_MARK); 0 is none.'),
  user_timeout: duration()
    .default(0)
    .describe('Longest that sent bytes may stay unacknowledged (TCP_USER_TIMEOUT); "0" is up to the kernel.'),
  defer_accept: duration()
    .default(0)
    .describe(
      'Clients are let in when they have sent something, or after this long (TCP_DEFER_ACCEPT); "0" is at once.',
    ),
  fast_open: count()
    .default(0)
    .describe('Clients at once that may send bytes with their first packet (TCP_FASTOPEN); 0 is none.'),
  freebind: flag()
    .default(false)
    .describe('Listen on addresses this machine does not have yet (IP_FREEBIND).'),
})

const proxyProtocol = z.strictObject({
  version: z.enum(['1'], { error: '"1"' }).describe('Version of the PROXY protocol header sent to backends.'),
})

/** A share of 100; a percentage as text is taken too. */
const percent = () => {
  const error = 'a percentage, 0 to 100'
  return z
    .union([z.number(), z.string().regex(/^\s*\d+(\.\d+)?\s*%?\s*$/, { error })], { error })
    .transform((value) => (typeof value === 'string' ? parseFloat(value) : value))
    .refine((value) => value >= 0 && value <= 100, { error })
}

/** What real traffic may hold against a backend. */
export const FAILURES = ['refused', 'timeout', 'reset', 'empty'] as const
export type Failure = (typeof FAILURES)[number]

const FAILURE = `a list of ${FAILURES.join(', ')}`

const outlier = z.strictObject({
  consecutive_failures: count(1)
    .default(5)
    .describe('Failures in a row, of dials or of flows, after which a backend is ejected.'),
  failures: z
    .array(oneOf(FAILURES), { error: FAILURE })
    .min(1, { error: FAILURE })
    .default(['refused', 'timeout', 'reset'])
    .describe(
      'What counts: refused and timeout are dials; reset and empty are flows whose backend resets them, or ends them though their client sent something, without a byte of its own.',
    ),
  ejection_time: positiveDuration()
    .default(30_000)
    .describe('How long a backend is out the first time; twice as long the second time in a row, and so on.'),
  max_ejection_time: positiveDuration()
    .optional()
    .describe('Longest a backend is out at once; unset is 5m, or ejection_time if that is longer.'),
  max_ejected_percent: percent()
    .prefault(10)
    .describe(
      'Most backends out at once, in percent of those discovered; one may be whatever this says but 0.',
    ),
})

export type OutlierSettings = z.output<typeof outlier>

/** The keys every kind of balancer owns, side by side in the server's section. */
const balanceShape: Shape = Object.assign(
  {},
  ...Object.values(balancers).map((kind) => kind.settings),
) as Shape

const serverShape = {
  ...inheritable,
  bind: binds().describe(
    'Where to listen: an address, or a list of them; a port may be a range, and 0 is any free one.',
  ),
  protocol: oneOf(['tcp', 'tls', 'udp']).default('tcp').describe('What clients speak; tls is ended here.'),
  plane: plane().optional().describe('What moves the bytes; unset is the plane at the top level.'),
  balance: oneOf(BALANCES).default('weight').describe('How the backend of a client is chosen.'),
  sni: sni.optional().describe('Choose backends by the TLS server name a client asks for.'),
  tls: tls.optional().describe('Certificates for protocol tls.'),
  backends_tls: backendsTls.optional().describe('Speak TLS to backends.'),
  tcp: tcp.optional().describe('Options of the sockets of clients and backends.'),
  udp: udp.optional().describe('How datagrams become sessions, and how many there may be.'),
  access: z.strictObject(accessSettings).optional().describe('Who may connect.'),
  proxy_protocol: proxyProtocol.optional().describe('Tell backends the address of the client.'),
  discovery: discoverySettings.describe('Which backends exist.'),
  healthcheck: checkSettings.prefault({ kind: 'none' }).describe('Which backends answer.'),
  slow_start: duration()
    .default(0)
    .describe('How long the share of a backend that has come back grows to the whole; "0" is whole at once.'),
  outlier: outlier.optional().describe('Ejects backends for a while because of how real flows fare.'),
  panic_threshold: percent()
    .prefault(0)
    .describe(
      'Elects all backends, healthy or not, while fewer percent of them than this are healthy and not ejected; 0 is never.',
    ),
  on_backend_loss: oneOf(['keep', 'close', 'move'])
    .optional()
    .describe(
      'What becomes of the flows of a backend that is down or gone; unset is keep for tcp and tls, move for udp.',
    ),
  // Typed by nobody: each kind's factory knows its own keys.
  ...(balanceShape as object),
}

/** One server as it is written. */
export const serverSchema = z
  .strictObject(serverShape)
  // Rules between keys are told together with what is wrong inside a key.
  .superRefine(rules, { when: () => true })
  .transform(settle)

/**
 * One server as it runs: times in milliseconds, names as in the config, every default filled. Only
 * `backend_connection_timeout` may be missing: nobody wrote it, there or under `[defaults]`.
 * The settings of the chosen balancer kind are among the keys.
 */
export type ServerSettings = z.output<typeof serverSchema>

type Parsed = z.output<z.ZodObject<typeof serverShape>>

function settle(server: Parsed) {
  const datagrams = server.protocol === 'udp'
  const idleMs = datagrams ? UDP_IDLE_MS : 0
  return {
    ...server,
    client_idle_timeout: server.client_idle_timeout ?? idleMs,
    backend_idle_timeout: server.backend_idle_timeout ?? idleMs,
    tcp: server.tcp ?? tcp.parse({}),
    udp: server.udp ?? (datagrams ? udp.parse({}) : undefined),
    on_backend_loss: server.on_backend_loss ?? (datagrams ? ('move' as const) : ('keep' as const)),
  }
}

type Expect = (path: string[], message: string) => void

/** Sees servers whose keys are partly wrong too, so it takes nothing for granted. */
function rules(server: Partial<Parsed>, context: z.core.$RefinementCtx): void {
  if (typeof server !== 'object' || server === null) return
  const expect: Expect = (path, message) => context.addIssue({ code: 'custom', path, message })

  if (server.tls && !hasCertificate(server.tls))
    expect(['tls'], 'acme_hosts, or cert_path and key_path together')
  if (server.backends_tls && !server.backends_tls.cert_path !== !server.backends_tls.key_path)
    expect(['backends_tls'], 'cert_path and key_path together, or neither')

  const { protocol } = server
  if (protocol === 'udp') datagramRules(server, expect)
  if (protocol === 'tcp' || protocol === 'tls') streamRules(server, expect)
  if (protocol === 'tls' && !server.tls) expect(['tls'], 'a table, since protocol is tls')
  const { ejection_time = 0, max_ejection_time = Infinity } = server.outlier ?? {}
  if (max_ejection_time < ejection_time) expect(['outlier', 'max_ejection_time'], 'ejection_time or longer')
  if (server.tcp?.source && server.tcp.transparent)
    expect(['tcp', 'source'], 'no such key, since transparent is true')
  if (server.proxy_protocol && protocol !== 'tcp')
    expect(['protocol'], '"tcp", since there is a proxy_protocol section')
}

function streamRules(server: Partial<Parsed>, expect: Expect): void {
  const since = `since protocol is ${server.protocol}`
  if (server.on_backend_loss === 'move') expect(['on_backend_loss'], `keep or close, ${since}`)
  if ((server as { hash_key?: unknown }).hash_key === QUIC_KEY)
    expect(['hash_key'], `client or prefix, ${since}`)
}

function datagramRules(server: Partial<Parsed>, expect: Expect): void {
  const since = 'since protocol is udp'
  if (server.tcp) expect(['tcp'], `no such section, ${since}`)
  if (server.backends_tls) expect(['backends_tls'], `no such section, ${since}`)
  if (hasUnix(server.bind)) expect(['bind'], `no unix socket, ${since}`)
  const unable = CHECKS.filter((kind) => !protocolsOf(kind).includes('udp'))
  const able = CHECKS.filter((kind) => !unable.includes(kind))
  if (unable.includes(server.healthcheck?.kind as CheckName))
    expect(['healthcheck', 'kind'], `one of ${able.join(', ')}, ${since}`)
}

/** What is no address yet, since it is wrong, is none of a unix socket. */
function hasUnix(binds: unknown): boolean {
  return Array.isArray(binds) && binds.some((each) => each instanceof Object && isUnix(each as Address))
}

function hasCertificate({ acme_hosts, cert_path, key_path }: z.output<typeof tls>): boolean {
  return (acme_hosts?.length ?? 0) > 0 || Boolean(cert_path && key_path)
}

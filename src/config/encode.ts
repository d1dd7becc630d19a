// A config back as a document: what the REST API shows of a server, and what a dump holds.

import { stringify } from 'smol-toml'
import { z } from 'zod'
import { discoverySettings } from '../discovery/settings.ts'
import { checkSettings } from '../health/settings.ts'
import type { Format } from './parse.ts'
import { withoutSecrets } from './problems.ts'
import type { Config, ServerConfig } from './read.ts'
import { connectionOptions, GOBETWEEN_UDP_KEYS, serverSchema } from './server.ts'
import { generalSchema } from './schema.ts'
import { core, durationText, isDuration, keysOf, kindsOf, usual } from './shape.ts'
import type { Table } from './tidy.ts'

type Schema = z.core.$ZodType

/** The keys gobetween shows of a server, in its order; fairlead's own follow when they were written. */
const SERVER_KEYS = [
  ...Object.keys(connectionOptions),
  ...['bind', 'protocol', 'balance', 'sni', 'tls', 'backends_tls', 'udp', 'access', 'proxy_protocol'],
  ...['discovery', 'healthcheck'],
]

const DISCOVERY_KEYS = ['kind', 'failpolicy', 'interval', 'timeout']
const HEALTH_KEYS = [
  ...['kind', 'interval', 'passes', 'fails', 'timeout', 'initial_status'],
  ...['exec_command', 'exec_expected_positive_output', 'exec_expected_negative_output'],
  ...['probe_protocol', 'probe_strategy', 'probe_send', 'probe_recv', 'probe_recv_len'],
]

/** The keys of both sections that gobetween has; fairlead's own are shown only when written. */
const SHOWN_KEYS = new Set([
  ...[...DISCOVERY_KEYS, ...HEALTH_KEYS, 'static_list', 'plaintext_endpoint', 'plaintext_regex_pattern'],
  ...['srv_lookup_server', 'srv_lookup_pattern', 'srv_dns_protocol'],
  ...['docker_endpoint', 'docker_container_label', 'docker_container_private_port'],
  ...['docker_container_host_env_var', 'docker_tls_enabled', 'docker_tls_cert_path', 'docker_tls_key_path'],
  ...['docker_tls_cacert_path', 'json_endpoint', 'json_host_pattern', 'json_port_pattern'],
  ...['json_weight_pattern', 'json_priority_pattern', 'json_sni_pattern', 'json_max_connections_pattern'],
  ...['consul_host', 'consul_service_name', 'consul_service_tag', 'consul_service_passing_only'],
  ...['consul_datacenter', 'consul_auth_username', 'consul_auth_password', 'consul_acl_token'],
  ...['consul_tls_enabled', 'consul_tls_cert_path', 'consul_tls_key_path', 'consul_tls_cacert_path'],
  ...['lxd_server_address', 'lxd_server_remote_name', 'lxd_server_remote_password'],
  ...['lxd_config_directory', 'lxd_generate_client_certs', 'lxd_accept_server_cert'],
  ...['lxd_container_label_key', 'lxd_container_label_value', 'lxd_container_port'],
  ...['lxd_container_port_key', 'lxd_container_interface', 'lxd_container_interface_key'],
  ...['lxd_container_sni_key', 'lxd_container_address_type'],
])

/** Keys that are null, not empty, in gobetween while nobody has written them. */
const NULL_KEYS = new Set([
  'root_ca_cert_path',
  'backends_tls.cert_path',
  'backends_tls.key_path',
  'initial_status',
])

/**
 * The object `GET /servers/NAME` answers: gobetween's keys in gobetween's order, absent sections null,
 * every default filled; then those keys of fairlead that were written.
 */
export function serverObject(server: ServerConfig): Table {
  return shown(server, true)
}

export interface DumpOptions {
  /** Shows passwords and tokens instead of `***`. */
  readonly secrets?: boolean
}

/** The config with the servers that run now, as text that can be read again when it holds the secrets. */
export function dump(
  config: Pick<Config, 'written' | 'defaults'>,
  servers: Iterable<ServerConfig>,
  format: Format,
  { secrets = false }: DumpOptions = {},
): string {
  const whole = { ...general(config.written), servers: serverTables(servers) }
  const object = secrets ? whole : withoutSecrets(whole)
  return format === 'json' ? JSON.stringify(object, null, 4) : stringify(object)
}

function general(written: Readonly<Table>): Table {
  const parsed = generalSchema.parse(written) as Table
  const shape = keysOf(generalSchema)!
  const sections = Object.keys(shape).filter((key) => key === 'logging' || parsed[key] !== undefined)
  return Object.fromEntries(
    sections.map((key) => {
      const value =
        key === 'defaults' ? (written.defaults ?? {}) : display(shape[key]!, written[key], parsed[key])
      return [key, value]
    }),
  )
}

/** Entries, not properties: a server may be called `__proto__`. */
function serverTables(servers: Iterable<ServerConfig>): Table {
  return Object.fromEntries([...servers].map((server) => [server.name, shown(server, false)]))
}

/** With `fill`, keys without a value show gobetween's empty ones; without, they are left out. */
function shown({ settings, written }: ServerConfig, fill: boolean): Table {
  const shape = keysOf(serverSchema)!
  const own = Object.keys(written).filter((key) => !SERVER_KEYS.includes(key))
  const parsed = settings as Table
  const entries = [...SERVER_KEYS, ...own].map((key): [string, unknown] => {
    if (key === 'discovery')
      return [key, section(discoverySettings, DISCOVERY_KEYS, written, parsed, key, fill)]
    if (key === 'healthcheck') return [key, section(checkSettings, HEALTH_KEYS, written, parsed, key, fill)]
    if (key === 'udp') return [key, datagrams(shape[key]!, settings, written, fill)]
    if (keysOf(shape[key]!) && written[key] === undefined) return [key, null]
    return [key, display(shape[key]!, written[key], parsed[key], fill, key)]
  })
  return Object.fromEntries(
    fill ? entries : entries.filter(([, value]) => value !== null && value !== undefined),
  )
}

/** gobetween shows [udp] for every udp server, written or not. */
function datagrams(
  schema: Schema,
  { protocol, udp }: ServerConfig['settings'],
  written: Table,
  fill: boolean,
): Table | null {
  const own = written.udp as Table | undefined
  if (!own && protocol !== 'udp') return null
  const shape = keysOf(schema)!
  const shownKeys = Object.keys(shape).filter(
    (each) => GOBETWEEN_UDP_KEYS.includes(each) || own?.[each] !== undefined,
  )
  return fields(shape, shownKeys, own, udp, fill, 'udp')
}

function section(
  union: Schema,
  first: string[],
  written: Table,
  parsed: Table,
  key: string,
  fill: boolean,
): Table {
  const values = parsed[key] as Table
  const shape = keysOf(kindsOf(union)!.get(String(values.kind))!)!
  const order = [...first, ...Object.keys(shape).filter((each) => !first.includes(each))]
  const own = (written[key] ?? {}) as Table
  const shownKeys = order.filter((each) => SHOWN_KEYS.has(each) || own[each] !== undefined)
  return fields(shape, shownKeys, own, values, fill, key)
}

/** One value the way it was written, or its default the way it would be. */
function display(schema: Schema, written: unknown, parsed: unknown, fill = false, at = ''): unknown {
  const shape = keysOf(schema)
  if (shape && parsed === undefined) return undefined
  if (shape) return fields(shape, Object.keys(shape), written as Table | undefined, parsed as Table, fill, at)
  if (isDuration(schema)) return durationOf(written, parsed, fill)
  if (written !== undefined) return isNumber(schema) ? parsed : written
  const value = usual(schema) ?? parsed
  return fill && (value === undefined || isEmptyList(value)) ? empty(schema, at) : value
}

function fields(
  shape: Readonly<Record<string, Schema>>,
  order: readonly string[],
  written: Table | undefined,
  parsed: Table | undefined,
  fill: boolean,
  at: string,
): Table {
  const entries = order
    .filter((key) => Object.hasOwn(shape, key))
    .map((key) => [key, display(shape[key]!, written?.[key], parsed?.[key], fill, `${at}.${key}`)] as const)
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined))
}

function durationOf(written: unknown, parsed: unknown, fill: boolean): unknown {
  if (written !== undefined) return written === 0 ? '0' : written
  if (parsed === undefined) return fill ? '0' : undefined
  return durationText(parsed as number)
}

function isEmptyList(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0
}

function isNumber(schema: Schema): boolean {
  const inside = core(schema)
  return (
    inside instanceof z.core.$ZodUnion &&
    inside._zod.def.options.some((each) => each instanceof z.core.$ZodNumber)
  )
}

/** Go's zero value for what nobody has set. */
function empty(schema: Schema, at: string): unknown {
  const inside = core(schema)
  if (NULL_KEYS.has(at) || NULL_KEYS.has(at.split('.').at(-1)!)) return null
  if (inside instanceof z.core.$ZodString || inside instanceof z.core.$ZodEnum) return ''
  if (inside instanceof z.core.$ZodBoolean) return false
  return isNumber(schema) ? 0 : null
}

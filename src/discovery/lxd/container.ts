// One container as LXD tells of it, and the backend it is.

import { isIPv4, isIPv6 } from 'node:net'
import { found } from '../../core/backend.ts'
import type { Found } from '../../core/backend.ts'
import { record } from './api.ts'
import { labelOptions, quote } from '../reading/options.ts'

/** An entry of the server's list, read as far as it is needed here. */
export interface Container {
  readonly name: string
  readonly running: boolean
  /** Its configuration, with what it has from its profiles. */
  readonly config: Readonly<Record<string, unknown>>
  /** Undefined where it has to be asked for one by one. */
  readonly state: unknown
}

/** What makes a container a backend. */
export interface Wanted {
  readonly lxd_container_label_key: string
  readonly lxd_container_label_value: string
  readonly lxd_container_port: number
  readonly lxd_container_port_key: string
  readonly lxd_container_interface: string
  readonly lxd_container_interface_key: string
  readonly lxd_container_sni_key: string
  readonly lxd_container_address_type: 'IPv4' | 'IPv6'
}

/** Reads an entry of the list; undefined when it is none. */
export function readContainer(entry: unknown): Container | undefined {
  const { name, status, config, expanded_config, state } = record(entry) ?? {}
  if (typeof name !== 'string' || typeof status !== 'string') return undefined
  return {
    name,
    running: status === 'Running',
    config: record(expanded_config) ?? record(config) ?? {},
    state,
  }
}

/** Whether a container runs and has the label. */
export function isWanted(
  { running, config }: Container,
  { lxd_container_label_key: key, lxd_container_label_value: value }: Wanted,
): boolean {
  if (!running || key === '') return running
  const label = valueOf(config, key)
  return label !== undefined && (value === '' || label === value)
}

/** The interface whose address is the backend's. */
export function interfaceOf({ config }: Container, wanted: Wanted): string {
  return valueOf(config, wanted.lxd_container_interface_key) ?? wanted.lxd_container_interface
}

/** Its address in `state`: a global one before others, never one that holds on its link alone. */
export function addressOf(container: Container, wanted: Wanted, state = container.state): string | undefined {
  const network = record(record(record(state)?.network)?.[interfaceOf(container, wanted)])
  const addresses: unknown[] = Array.isArray(network?.addresses) ? network.addresses : []
  const usable = addresses.flatMap((each) => {
    const { address, scope } = record(each) ?? {}
    return typeof address === 'string' && scope !== 'link' && isOf(wanted, address)
      ? [{ address, scope }]
      : []
  })
  return (usable.find(({ scope }) => scope === 'global') ?? usable[0])?.address
}

function isOf({ lxd_container_address_type: type }: Wanted, address: string): boolean {
  return type === 'IPv4' ? isIPv4(address) : isIPv6(address)
}

/** The backend a container is at `host`, and what is wrong with what it says of itself. */
export function backendOf(
  { config }: Container,
  wanted: Wanted,
  host: string,
): { readonly backend?: Found; readonly wrong: readonly string[] } {
  const said = valueOf(config, wanted.lxd_container_port_key) ?? String(wanted.lxd_container_port)
  const port = /^\d{1,5}$/.test(said) ? Number(said) : 0
  if (port === 0 || port > 65535) return { wrong: [wrongPort(wanted, said)] }
  const sni = valueOf(config, wanted.lxd_container_sni_key)
  const { options, wrong } = labelOptions([
    ...(sni ? [['fairlead.sni', sni] as const] : []),
    ...labels(config),
  ])
  return { backend: found({ host, port }, options), wrong }
}

function wrongPort({ lxd_container_port_key: key }: Wanted, said: string): string {
  if (said !== '0') return `${key}: expected a port, 1 to 65535, got ${quote(said)}`
  return key
    ? `expected its port in ${key}, or lxd_container_port`
    : 'expected its port in lxd_container_port'
}

/** Keys of the user's own start with `user.`: `user.fairlead.weight`. */
function* labels(config: Container['config']): Generator<readonly [string, string]> {
  for (const [key, value] of Object.entries(config))
    if (key.startsWith('user.') && typeof value === 'string') yield [key.slice('user.'.length), value]
}

function valueOf(config: Container['config'], key: string): string | undefined {
  const value = key === '' ? undefined : config[key]
  return typeof value === 'string' ? value : undefined
}

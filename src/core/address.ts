// Where something listens: "host:port", "[v6]:port" or "unix:/path", read and written.

import { isIPv6 } from 'node:net'

export interface HostPort {
  /** A name or an IP address; IPv6 without brackets. */
  readonly host: string
  /** 1 to 65535, or 0: any free port (a bind), or the port the client came in on (a backend, written `host:*`). */
  readonly port: number
}

export interface UnixPath {
  readonly path: string
}

export type Address = HostPort | UnixPath

/** True when the address is a path in the file system. */
export function isUnix(address: Address): address is UnixPath {
  return 'path' in address
}

/** What fits into the address of a socket beside the zero that ends it (unix(7)). */
const MOST_PATH_BYTES = 107

/** What is wrong with the path of a unix socket; undefined where nothing is, or there is none. */
export function pathFault(address: Address): string | undefined {
  const bytes = isUnix(address) ? Buffer.byteLength(address.path) : 0
  return bytes > MOST_PATH_BYTES ? `a path of at most ${MOST_PATH_BYTES} bytes, not ${bytes}` : undefined
}

/** The text an address is known by: `host:port`, `[v6]:port`, `host:*`, `unix:/path`. */
export function addressText(address: Address): string {
  if (isUnix(address)) return `unix:${address.path}`
  return `${hostText(address)}:${portText(address)}`
}

/** The host as gobetween writes it: IPv6 in brackets. A unix socket is its own host. */
export function hostText(address: Address): string {
  if (isUnix(address)) return `unix:${address.path}`
  return address.host.includes(':') ? `[${address.host}]` : address.host
}

/** The port as text, `*` for the client's own; empty for a unix socket. */
export function portText(address: Address): string {
  if (isUnix(address)) return ''
  return address.port === 0 ? '*' : String(address.port)
}

/**
 * Reads a backend's address: `host:port`, `[v6]:port`, `host:*` or `unix:/path`.
 * Returns undefined when it is none of these.
 */
export function parseBackendAddress(text: string): Address | undefined {
  const unix = readUnix(text)
  if (unix) return unix
  const split = splitHostPort(text)
  if (!split || split.host === '') return undefined
  if (split.port === '*') return { host: split.host, port: 0 }
  const port = readPort(split.port)
  return port === undefined || port === 0 ? undefined : { host: split.host, port }
}

/**
 * Reads a bind: `host:port`, `:port`, `[v6]:port`, `unix:/path`, or a range `host:8000-8010`, which gives one
 * address a port. An empty host stays empty: every address, both families. Undefined when it is none of these.
 */
export function parseBind(text: string): readonly Address[] | undefined {
  const unix = readUnix(text)
  if (unix) return [unix]
  const split = splitHostPort(text)
  if (!split) return undefined
  const [first, last = first] = split.port.split('-')
  const from = readPort(first!)
  const to = readPort(last!)
  if (from === undefined || to === undefined || to < from) return undefined
  // Every way to write the unspecified address is the wildcard.
  const host = /^[0:]+$/.test(split.host) && split.host.includes(':') ? '::' : split.host
  return Array.from({ length: to - from + 1 }, (_, i) => ({ host, port: from + i }))
}

/** True for a bind on every address: `:80`, `0.0.0.0:80`, `[::]:80`. */
export function isWildcard(address: Address): boolean {
  return !isUnix(address) && (address.host === '' || address.host === '0.0.0.0' || address.host === '::')
}

function readUnix(text: string): UnixPath | undefined {
  const path = /^unix:(?:\/\/(?=\/))?(.+)$/.exec(text)?.[1]
  return path === undefined ? undefined : { path }
}

function splitHostPort(text: string): { host: string; port: string } | undefined {
  const match = /^(?:\[([^\]\s]*)\]|([^\s:[\]]*)):([^\s:]+)$/.exec(text)
  if (!match) return undefined
  if (match[1] !== undefined && !isIPv6(match[1])) return undefined
  return { host: match[1] ?? match[2]!, port: match[3]! }
}

function readPort(text: string): number | undefined {
  if (!/^\d{1,5}$/.test(text)) return undefined
  const port = Number(text)
  return port <= 65535 ? port : undefined
}

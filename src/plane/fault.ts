// What a failed connect says about the backend, or about us.

import type { DialFault } from './plane.ts'

const FAULTS = new Map<string, DialFault>([
  ['ECONNREFUSED', 'refused'],
  ['ETIMEDOUT', 'timeout'],
  ['EHOSTUNREACH', 'unreachable'],
  ['ENETUNREACH', 'unreachable'],
  ['EMFILE', 'descriptors'],
  ['ENFILE', 'descriptors'],
  ['ENOBUFS', 'descriptors'],
  ['ENOMEM', 'descriptors'],
  // The limit on watched descriptors (epoll(7), max_user_watches).
  ['ENOSPC', 'descriptors'],
  // What the configuration asks of our own socket: a mark without the right to, an address of another family.
  ['EPERM', 'unable'],
  ['EAFNOSUPPORT', 'unable'],
  // Every local port towards that address is taken.
  ['EADDRNOTAVAIL', 'ports'],
])

/** The kind of fault a system error code of `connect(2)` means. */
export function dialFault(code: string): DialFault {
  return FAULTS.get(code) ?? 'other'
}

/** The same of `bind(2)`: the address a dial is to come from is not this machine's, or all its ports are taken. */
export function sourceFault(code: string): DialFault {
  if (code === 'EADDRINUSE') return 'ports'
  return dialFault(code) === 'descriptors' ? 'descriptors' : 'unable'
}

const UNABLE: Readonly<Record<string, string>> = {
  EADDRNOTAVAIL: 'no interface of this machine has the address that source names',
  EPERM: 'not permitted: mark and transparent take CAP_NET_ADMIN, unless a firewall forbids it',
  EAFNOSUPPORT: 'transparent dials from an IPv4 client to an IPv6 backend, or the reverse, cannot be',
}

/** What an operator is told of a dial that failed as `unable`, in words that name the key. */
export function unableText(code: string): string {
  return `a socket for dials cannot be had: ${UNABLE[code] ?? 'source, mark or transparent'} (${code})`
}

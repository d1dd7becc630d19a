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

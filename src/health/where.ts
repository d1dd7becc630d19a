// Where a check goes instead of the backend itself, and what it says first: keys of every kind that dials.

import { isIP } from 'node:net'
import { isUnix } from '../core/address.ts'
import type { Address } from '../core/address.ts'
import { oneOf, port, text } from '../core/settings.ts'
import type { Settings } from '../core/settings.ts'
import type { Target } from './check.ts'

export const where = {
  check_host: text()
    .refine((host) => isIP(host) > 0, { error: 'an IP address' })
    .optional()
    .describe('IP address that is checked instead of the backend’s.'),
  check_port: port()
    .optional()
    .describe('Port that is checked instead of the backend’s; of 127.0.0.1 for one on a unix socket.'),
  check_proxy_protocol: oneOf(['1', '2'])
    .optional()
    .describe('Version of the PROXY protocol header that a check sends first: it says that it is a check.'),
}

export type Where = Settings<typeof where>

/** The two keys that move a check; each may be missing. */
export interface Elsewhere {
  readonly check_host?: string | undefined
  readonly check_port?: number | undefined
}

/** `target` as its checks are to see it. The same object when nothing of it is to be checked elsewhere. */
export function elsewhere({ check_host, check_port }: Elsewhere, target: Target): Target {
  if (check_host === undefined && check_port === undefined) return target
  const moved = target.endpoints.map((endpoint) => move(endpoint, check_host, check_port))
  return { ...target, endpoints: check_host === undefined ? moved : moved.slice(0, 1) }
}

function move(endpoint: Address, host?: string, port?: number): Address {
  if (!isUnix(endpoint)) return { host: host ?? endpoint.host, port: port ?? endpoint.port }
  // A path has no port that could stay.
  return port === undefined ? endpoint : { host: host ?? '127.0.0.1', port }
}

// The PROXY protocol's headers for a connection that speaks for nobody, sections 2.1 and 2.2 of
// https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt
const HEADERS = {
  1: Buffer.from('PROXY UNKNOWN\r\n'),
  2: Buffer.from('\r\n\r\n\0\r\nQUIT\n\x20\0\0\0', 'latin1'),
}

/** What is sent before anything else. */
export function headerOf({ check_proxy_protocol }: Where): Uint8Array | undefined {
  return check_proxy_protocol && HEADERS[check_proxy_protocol]
}

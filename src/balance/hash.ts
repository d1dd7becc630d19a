// What the hash kinds hash of a client: its address, the network it is in, or the id of its QUIC connection.

import { mappedBytes } from '../core/ip.ts'
import { oneOf } from '../core/settings.ts'
import type { Settings } from '../core/settings.ts'

/** The id a QUIC client asks for its connection by; who sends something else is told apart by its address. */
export const QUIC_KEY = 'quic-connection-id'

/** The settings every hash kind owns. `prefix` keeps a client's /24 (IPv4) or /64 (IPv6) together. */
export const hashSettings = {
  hash_key: oneOf(['client', 'prefix', QUIC_KEY])
    .default('client')
    .describe(
      'What of a client is hashed: its address (client), its /24 (IPv4) or /64 (IPv6) network (prefix), or the id of its QUIC connection (quic-connection-id, udp only).',
    ),
}

/** Bytes a prefix leaves out: the last of an IPv4 address, the last eight of an IPv6 address. */
const BELOW_PREFIX = { ipv4: 1, ipv6: 8 }

/**
 * The key to elect by for a client's 4 or 16 address bytes (none for a unix socket's client). `mapped` is the
 * form gobetween hashes on a wildcard bind: IPv4 as its 16-byte mapped address. Never changes `bytes`.
 */
export function hashKeyOf(
  bytes: Uint8Array,
  settings: Settings<typeof hashSettings>,
  mapped: boolean,
): Uint8Array {
  const form = mapped ? mappedBytes(bytes) : bytes
  if (settings.hash_key !== 'prefix') return form
  const below = bytes.length === 4 ? BELOW_PREFIX.ipv4 : BELOW_PREFIX.ipv6
  return Uint8Array.from(form).fill(0, Math.max(form.length - below, 0))
}

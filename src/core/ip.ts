// IP addresses as bytes: what access tables and hashes read.

import ipaddr from 'ipaddr.js'

const NONE = new Uint8Array(0)
const MAPPED = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i

/** An IPv4-mapped IPv6 address as plain IPv4; every other text as it is, without a zone (`%eth0`). */
export function canonicalIp(text: string): string {
  if (!text.includes(':')) return text
  const zone = text.indexOf('%')
  const bare = zone < 0 ? text : text.slice(0, zone)
  return MAPPED.exec(bare)?.[1] ?? bare
}

/** The 4 or 16 bytes of a canonical IP address; no bytes for the empty text of a unix socket's client. */
export function ipBytes(text: string): Uint8Array {
  if (text === '') return NONE
  if (text.includes(':')) return Uint8Array.from(ipaddr.IPv6.parse(text).toByteArray())
  const bytes = new Uint8Array(4)
  let at = 0
  let value = 0
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code === 46) {
      bytes[at++] = value
      value = 0
    } else value = value * 10 + code - 48
  }
  bytes[at] = value
  return bytes
}

/** The 16-byte form of an address: IPv4 mapped into `::ffff:0:0/96` (RFC 4291, 2.5.5.2). */
export function mappedBytes(bytes: Uint8Array): Uint8Array {
  if (bytes.length !== 4) return bytes
  const mapped = new Uint8Array(16)
  mapped[10] = mapped[11] = 0xff
  mapped.set(bytes, 12)
  return mapped
}

/** The canonical text of 4 or 16 bytes (RFC 5952). */
export function ipText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.')
  return canonicalIp(new ipaddr.IPv6([...bytes]).toRFC5952String())
}

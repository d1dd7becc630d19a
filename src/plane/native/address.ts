// Addresses as C has them, and the texts of those it gives.

import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { isUnix } from '../../core/address.ts'
import type { Address } from '../../core/address.ts'
import { ipBytes, ipText } from '../../core/ip.ts'
import type { Whereabouts } from './addon.ts'
import { FAMILY } from './records.ts'
import type { Memory } from './ring.ts'

const NOWHERE: Whereabouts = { family: FAMILY.NONE, port: 0, bytes: new Uint8Array(0) }

/** An address for C; one that cannot be dialled has no family, and a dial of it fails. */
export function whereabouts(address: Address): Whereabouts {
  if (isUnix(address)) return { family: FAMILY.UNIX, port: 0, bytes: Buffer.from(address.path) }
  const { host, port } = address
  if (port > 65_535 || !isIP(host)) return NOWHERE
  const [ip, zone] = host.split('%') as [string, string?]
  const bytes = ipBytes(ip)
  const family = bytes.length === 4 ? FAMILY.IPV4 : FAMILY.IPV6
  return { family, port, bytes, scope: zone === undefined ? 0 : interfaceOf(zone) }
}

/** The number of an interface, by its name or by itself; 0 when there is none, which the kernel refuses. */
function interfaceOf(zone: string): number {
  if (/^\d{1,9}$/.test(zone)) return Number(zone)
  if (zone.includes('/')) return 0
  try {
    return Number(readFileSync(`/sys/class/net/${zone}/ifindex`, 'utf8'))
  } catch {
    return 0
  }
}

/** Texts of addresses: the same few thousand clients come again and again. */
const MOST_TEXTS = 4096

export class IpTexts {
  #texts = new Map<number, string>()

  /** The text of the address at `at`. */
  at({ u8, i32 }: Memory, at: number, family: number): string {
    if (family === FAMILY.IPV6) return ipText(u8.slice(at, at + 16))
    if (family !== FAMILY.IPV4) return ''
    const key = i32[at >> 2]!
    let text = this.#texts.get(key)
    if (text === undefined) {
      if (this.#texts.size >= MOST_TEXTS) this.#texts.clear()
      text = `${u8[at]}.${u8[at + 1]}.${u8[at + 2]}.${u8[at + 3]}`
      this.#texts.set(key, text)
    }
    return text
  }
}

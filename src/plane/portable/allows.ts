// Who may come in, asked of the tables that every plane has.

import { ipBytes } from '../../core/ip.ts'
import type { AccessTable, Turns } from '../plane.ts'

/** The verdict of `access` on a canonical IP address: a binary search. */
export function allows(access: AccessTable, ip: string): boolean {
  const bytes = ipBytes(ip)
  const { words, firstAllows } = bytes.length === 4 ? access.ipv4 : access.ipv6
  const width = bytes.length / 4
  let low = 0
  let high = words.length / width
  while (high - low > 1) {
    const middle = (low + high) >>> 1
    if (isAbove(words, middle * width, bytes)) high = middle
    else low = middle
  }
  return (low & 1) === 0 ? firstAllows : !firstAllows
}

function isAbove(words: Turns['words'], from: number, bytes: Uint8Array): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  for (let at = 0; at < bytes.length; at += 4) {
    const mine = words[from + at / 4]!
    const theirs = view.getUint32(at)
    if (mine !== theirs) return mine > theirs
  }
  return false
}

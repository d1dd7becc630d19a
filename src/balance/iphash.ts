// The client's address modulo the number of backends.

import { balancer } from './balancer.ts'
import { fnvBytes } from './fnv.ts'
import { hashSettings } from './hash.ts'

/** FNV-1a of the client's bytes modulo the electable in the order of their text, as in gobetween. */
export const iphash = balancer({ settings: hashSettings, keyed: true }, () => ({
  elect: (key, { rows }) => rows[fnvBytes(key) % rows.length]!,
}))

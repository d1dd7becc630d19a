// Rendezvous hashing: a client stays where it is when others come and go.

import { balancer } from './balancer.ts'
import type { Electable } from './balancer.ts'
import { fnvBytes, fnvText } from './fnv.ts'
import { hashSettings } from './hash.ts'
import { HighestHash } from './highest.ts'
import { Tables } from './tables.ts'

/** Up to here hashing every text is as quick as the index. */
const FEW = 64

/** The highest FNV-1a of the client's bytes followed by the text `host:port`, as in gobetween; the first text wins a tie. */
export const iphash1 = balancer({ settings: hashSettings, keyed: true }, (_settings, { clock }) => {
  const indexes = new Tables<HighestHash>(clock, (electable, previous) =>
    previous?.covers(electable) ? previous : new HighestHash(electable),
  )
  return {
    elect(key, electable) {
      const state = fnvBytes(key)
      if (electable.rows.length <= FEW) return highestOf(state, electable)
      return indexes.of(electable).highest(state, electable) ?? highestOf(state, electable)
    },
  }
})

/** The electable row whose text hashes highest when carried on from `state`. Linear in rows. */
export function highestOf(state: number, { rows, columns }: Electable): number {
  let best = rows[0]!
  let highest = -1
  for (let i = 0; i < rows.length; i++) {
    const hash = fnvText(columns.text[rows[i]!]!, state)
    if (hash > highest) {
      highest = hash
      best = rows[i]!
    }
  }
  return best
}

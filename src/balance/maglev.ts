// Consistent hashing by a table: one look-up finds the backend, and few clients move when others come and go.

import { count } from '../core/settings.ts'
import { balancer } from './balancer.ts'
import type { Electable } from './balancer.ts'
import { fnvBytes, fnvText, spread } from './fnv.ts'
import { hashSettings } from './hash.ts'
import { MaglevTable } from './maglevtable.ts'
import { Tables } from './tables.ts'

/** Entries of the table that may belong to full backends before the electable alone are looked at. */
const MOST_PASSES = 64

/** What a weight of 0 counts as among the last resort: all alike, and nothing beside any other weight. */
const NEXT_TO_NONE = 1e-300

const factor = count()
  .refine((percent) => percent === 0 || percent >= 100, { error: 'a percentage of 100 or more, or 0' })
  .default(0)
  .describe(
    'Most load of one backend in percent of the mean; what is above goes to the next in the table; 0 is no bound.',
  )

type Fits = (row: number) => boolean

/**
 * Weighted Maglev hashing of the client's bytes. Every instance that sees the same backends elects alike, but
 * for the first moments after a change of more than 655 members, when the table before still serves.
 * `hash_balance_factor`: the most flows a backend may hold, as a percentage of its weight's share of all;
 * its other clients go where the table points next. 0 is without limit.
 */
export const maglev = balancer(
  { settings: { ...hashSettings, hash_balance_factor: factor }, keyed: true, weighted: true },
  ({ hash_balance_factor }, { clock }) => {
    const tables = new Tables<MaglevTable>(clock, (electable, before) => new MaglevTable(electable, before))
    return {
      elect(key, electable) {
        const hash = spread(fnvBytes(key))
        const table = tables.of(electable)
        const fits = hash_balance_factor
          ? withinShare(electable, table.weight, hash_balance_factor / 100)
          : () => true
        return lookUp(table, hash, electable, fits) ?? rendezvous(hash, electable, fits)
      },
    }
  },
)

function lookUp(table: MaglevTable, hash: number, electable: Electable, fits: Fits): number | undefined {
  const rows = table.rows()
  if (!rows) return undefined
  const start = hash % rows.length
  for (let i = 0; i < MOST_PASSES; i++) {
    const row = rows[(start + i) % rows.length]!
    if (electable.has(row) && fits(row)) return row
  }
  return undefined
}

/** Linear in members: it has to look at load. After Mirrokni, Thorup, Zadimoghaddam (2016). */
function withinShare({ members, columns: { slots, weight } }: Electable, total: number, most: number): Fits {
  let held = 1
  for (let i = 0; i < members.length; i++) held += slots[members[i]!]!
  if (total === 0) return (row) => slots[row]! < Math.ceil((most * held) / members.length)
  return (row) => slots[row]! < Math.ceil((most * held * weight[row]!) / total)
}

/**
 * Weighted rendezvous hashing (logarithmic method, Schindelhauer and Schomaker 2005) among the rows that fit,
 * or among all when none does. Linear in rows; serves while there is no table and when a table's entries were
 * nearly all passed over.
 */
function rendezvous(hash: number, { rows, columns }: Electable, fits: Fits): number {
  let best = -1
  let bestFits = false
  let least = Infinity
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i]!
    const fit = fits(row)
    if (bestFits && !fit) continue
    const chance = (spread(fnvText(columns.text[row]!, hash)) + 0.5) / 2 ** 32
    const score = -Math.log(chance) / (columns.weight[row]! || NEXT_TO_NONE)
    if (best < 0 || (fit && !bestFits) || score < least) {
      best = row
      bestFits = fit
      least = score
    }
  }
  return best
}

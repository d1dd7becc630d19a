// Drawing rows by chance, in proportion to their weights.
//
//   weights   a=3  b=1  c=2
//   sums        3    4    6      a number in [0, 6) belongs to the first sum above it

import type { BalancerContext, Electable } from './balancer.ts'
import { Tables } from './tables.ts'

/** Draws that may hit a full backend before the electable alone are counted. */
const MOST_PASSES = 16

interface Sums {
  readonly rows: Int32Array
  readonly sums: Float64Array
}

/** Draws one electable row, each as likely as its weight; when all weights are 0, each as likely as another. */
export function weightedDraw({ clock }: BalancerContext): (electable: Electable) => number {
  const { random } = clock
  const tables = new Tables(clock, sumsOf)
  return (electable) => {
    const { rows, sums } = tables.of(electable)
    const total = sums[sums.length - 1]!
    for (let i = 0; i < MOST_PASSES; i++) {
      const row = rows[firstAbove(sums, random() * total)]!
      if (electable.has(row)) return row
    }
    return drawFromRows(electable, random)
  }
}

function sumsOf({ members, columns }: Electable): Sums {
  const sums = new Float64Array(members.length)
  let sum = 0
  for (let i = 0; i < members.length; i++) sums[i] = sum += columns.weight[members[i]!]!
  if (sum === 0) for (let i = 0; i < members.length; i++) sums[i] = i + 1
  return { rows: members.slice(), sums }
}

function firstAbove(sums: Float64Array, value: number): number {
  let low = 0
  let high = sums.length - 1
  while (low < high) {
    const middle = (low + high) >> 1
    if (sums[middle]! > value) high = middle
    else low = middle + 1
  }
  return low
}

/** Linear in rows, which are few when this is reached: draws missed them. */
function drawFromRows({ rows, columns }: Electable, random: () => number): number {
  let total = 0
  for (let i = 0; i < rows.length; i++) total += columns.weight[rows[i]!]!
  if (total === 0) return rows[Math.floor(random() * rows.length)]!
  let left = random() * total
  let last = rows[0]!
  for (let i = 0; i < rows.length; i++) {
    const weight = columns.weight[rows[i]!]!
    if (weight === 0) continue
    last = rows[i]!
    if ((left -= weight) < 0) break
  }
  return last
}

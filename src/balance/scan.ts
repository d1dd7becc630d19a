// The row with the least score: what every kind that looks at load is made of.

import type { Columns, Electable } from './balancer.ts'

/**
 * Writes the score of `rows[i]` to `scores[i]`. Infinity or NaN, such as a division by weight 0 gives, is
 * never elected while another row has a number. A loop of its own for each kind, because a call a row would
 * cost several times the arithmetic.
 */
export type Score = (rows: Int32Array, columns: Columns, scores: Float64Array) => void

/**
 * Elects the row with the least score. Ties take turns: the scan starts behind the last winner. When no row
 * has a number, as when all weights are 0, weights count as 1. Linear in rows.
 */
export function leastBy(score: Score): (electable: Electable) => number {
  let scores = new Float64Array(0)
  let behindWinner = 0
  return ({ rows, columns }) => {
    if (scores.length < rows.length) scores = new Float64Array(2 * rows.length)
    score(rows, columns, scores)
    let least = leastAt(scores, rows.length, behindWinner)
    if (least < 0) {
      score(rows, { ...columns, weight: new Float64Array(columns.weight.length).fill(1) }, scores)
      least = Math.max(leastAt(scores, rows.length, behindWinner), 0)
    }
    behindWinner = least + 1
    return rows[least]!
  }
}

/** Where the least of the first `length` scores is, looking from `start` on and around; -1 without a number. */
function leastAt(scores: Float64Array, length: number, start: number): number {
  let at = -1
  let least = Infinity
  for (let i = start; i < length; i++) {
    if (scores[i]! < least) least = scores[(at = i)]!
  }
  for (let i = 0; i < length && i < start; i++) {
    if (scores[i]! < least) least = scores[(at = i)]!
  }
  return at
}

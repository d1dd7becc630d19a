// The better of two.

import { balancer } from './balancer.ts'
import { weightedDraw } from './draw.ts'

/** Draws for a second backend that differs from the first, which a much heavier one may win every time. */
const MOST_DRAWS = 4

/**
 * Two drawn by weight, of which the one with fewer flows per weight serves; the first drawn wins a tie. After
 * Mitzenmacher, The Power of Two Choices in Randomized Load Balancing (2001).
 */
export const p2c = balancer({ weighted: true }, (_settings, context) => {
  const draw = weightedDraw(context)
  return {
    elect(_key, electable) {
      const { slots, weight } = electable.columns
      const first = draw(electable)
      if (electable.rows.length === 1) return first
      let second = first
      for (let i = 0; i < MOST_DRAWS && second === first; i++) second = draw(electable)
      // A weight of 0 is drawn only where all are 0, which count as 1.
      const load = (row: number) => slots[row]! / (weight[row] || 1)
      return load(second) < load(first) ? second : first
    },
  }
})

// Chance, in proportion to weights.

import { balancer } from './balancer.ts'
import { weightedDraw } from './draw.ts'

/** Weighted random, as in gobetween. */
export const weight = balancer({ weighted: true }, (_settings, context) => {
  const draw = weightedDraw(context)
  return { elect: (_key, electable) => draw(electable) }
})

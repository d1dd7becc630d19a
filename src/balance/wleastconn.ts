// The fewest flows for the weight.

import { balancer } from './balancer.ts'
import { leastBy } from './scan.ts'

/** The backend with the fewest flows per weight; ties take turns. */
export const wleastconn = balancer({ weighted: true }, () => {
  const least = leastBy((rows, { slots, weight }, scores) => {
    for (let i = 0; i < rows.length; i++) scores[i] = slots[rows[i]!]! / weight[rows[i]!]!
  })
  return { elect: (_key, electable) => least(electable) }
})

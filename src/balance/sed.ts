// The shortest expected delay.

import { balancer } from './balancer.ts'
import { leastBy } from './scan.ts'

/** The fewest flows per weight, the new one counted: unlike `wleastconn`, the heavier of two idle backends. */
export const sed = balancer({ weighted: true }, () => {
  const least = leastBy((rows, { slots, weight }, scores) => {
    for (let i = 0; i < rows.length; i++) scores[i] = (slots[rows[i]!]! + 1) / weight[rows[i]!]!
  })
  return { elect: (_key, electable) => least(electable) }
})

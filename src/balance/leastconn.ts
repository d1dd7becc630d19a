// The fewest flows.

import { balancer } from './balancer.ts'
import { leastBy } from './scan.ts'

/** The backend that holds the fewest flows; ties take turns. */
export const leastconn = balancer({}, () => {
  const least = leastBy((rows, { slots }, scores) => {
    for (let i = 0; i < rows.length; i++) scores[i] = slots[rows[i]!]!
  })
  return { elect: (_key, electable) => least(electable) }
})

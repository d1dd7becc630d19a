// The least traffic.

import { balancer } from './balancer.ts'
import { leastBy } from './scan.ts'

/** The backend with the fewest bytes a second, both ways together; ties take turns. */
export const leastbandwidth = balancer({}, () => {
  const least = leastBy((rows, { bandwidth }, scores) => {
    for (let i = 0; i < rows.length; i++) scores[i] = bandwidth[rows[i]!]!
  })
  return { elect: (_key, electable) => least(electable) }
})

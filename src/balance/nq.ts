// Never queue while somebody is idle.

import { balancer } from './balancer.ts'
import { leastBy } from './scan.ts'

/** An idle backend, the heaviest first; when none is idle, the one with the shortest expected delay. */
export const nq = balancer({ weighted: true }, () => {
  const least = leastBy((rows, { slots, weight }, scores) => {
    for (let i = 0; i < rows.length; i++) {
      const held = slots[rows[i]!]!
      const share = weight[rows[i]!]!
      scores[i] = held === 0 && share > 0 ? -share : (held + 1) / share
    }
  })
  return { elect: (_key, electable) => least(electable) }
})

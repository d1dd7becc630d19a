// One after the other.

import { balancer } from './balancer.ts'

/** Rows in the order of their text; the turn outlives changes and starts over only when past the end, as in gobetween. */
export const roundrobin = balancer({}, () => {
  let turn = 0
  return {
    elect(_key, { rows }) {
      if (turn >= rows.length) turn = 0
      return rows[turn++]!
    },
  }
})

// Clients that really ask, one and the same all the time, whatever else goes on.

import { ask } from './datagrams.mjs'
import { say } from './soakfairlead.mjs'

const CLIENTS = 50
/** Questions of all of them in a second. */
const RATE = 500
/** Of these, that may go without an answer. */
const LOST = 0.01
/** Theirs are addresses that no flood comes from. */
const FIRST = 12 << 20

/** Starts those who really ask. `judged` ends them. */
export async function startReal(to, lost = LOST) {
  const asking = ask({ to, sessions: CLIENTS, rate: RATE, first: FIRST, seconds: 86_400, open: true })
  const { unopened } = await asking.told()
  asking.next()
  return {
    async judged() {
      asking.end()
      const told = await asking.told()
      const share = told.lost / told.asked
      say(
        `${CLIENTS} clients asked ${told.asked} times: ${told.lost} not answered (${(share * 100).toFixed(2)} %), ` +
          `half within ${told.p50} µs, 99 % within ${told.p99} µs`,
      )
      return [
        ...(unopened > 0 ? [`${unopened} of ${CLIENTS} clients had no answer before it began`] : []),
        ...(told.wrong > 0 ? [`${told.wrong} answers were wrong`] : []),
        ...(share > lost
          ? [`not answered: expected at most ${lost * 100} %, got ${(share * 100).toFixed(2)} %`]
          : []),
      ]
    },
  }
}

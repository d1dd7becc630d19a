// Sessions of one question and one answer each; afterwards descriptors, timers, handles and memory must be back where
// they were after the first tenth.

import { setTimeout as sleep } from 'node:timers/promises'
import { ask, startEcho } from './datagrams.mjs'
import { datagramServer } from './proxies.mjs'
import { endFairlead, insideOf, ports, say, server, startFairlead, totalsOf } from './soakfairlead.mjs'
import { leftOver } from './soakfigures.mjs'

const SESSIONS = { native: 10_000_000, portable: 200_000 }
/** Nobody asks again before the last answer has ended the session. */
const CLIENTS = 4_096
const WINDOW = 128
const COUNTED_MS = 3_000

export async function sessions({ plane, sessions = SESSIONS[plane] }) {
  const echo = await startEcho()
  const [front, api] = await ports(2)
  const once = server(
    `127.0.0.1:${front}`,
    [`127.0.0.1:${echo.port}`],
    datagramServer({ idle: '60s', responses: 1 }),
  )
  const fairlead = await startFairlead({ plane, api, servers: { once }, probed: true })
  const soak = async (questions) => {
    const told = await ask({ to: `127.0.0.1:${front}`, sessions: CLIENTS, window: WINDOW, questions }).told()
    say(
      `${told.answered} of ${told.asked} answered in ${(told.ms / 1000).toFixed(1)} s (${told.rate} a second)`,
    )
    return [
      ...(told.wrong > 0 ? [`${told.wrong} answers were wrong`] : []),
      ...(told.answered < told.asked ? [`${told.asked - told.answered} questions had no answer`] : []),
    ]
  }

  const wrong = await leftOver(fairlead, sessions, soak)
  wrong.push(...(await miscounted(api, sessions)))
  return [...wrong, ...(await insideOf(api, ['once'])), ...(await endFairlead(fairlead))]
}

/** Threads tell what they have counted a little later. */
async function miscounted(api, sessions) {
  const end = performance.now() + COUNTED_MS
  for (;;) {
    const counted = Object.entries(await totalsOf(api, 'once'))
    const wrong = counted.filter(([, count]) => count !== sessions)
    if (wrong.length === 0 || performance.now() > end)
      return wrong.map(([what, count]) => `${what} counted: expected ${sessions}, got ${count}`)
    await sleep(200)
  }
}

// Memory of the proxy process for each session of datagrams.

import { setTimeout as sleep } from 'node:timers/promises'
import { drive, startEcho } from './datagrams.mjs'
import { descriptors, processes } from './machine.mjs'
import { settled } from './memory.mjs'
import { PLANES, label, startTarget } from './proxies.mjs'
import { interleave } from './rounds.mjs'
import { fixed, median, spread, table, verdict } from './statistics.mjs'

const SESSIONS = 12_000
/** Enough to have used up what was left over from the start. */
const SOME = 3_000
/** One may have no more sessions than half of the descriptors of its process. */
const SERVERS = 2
const GOAL_KIB = 1
/** Longer than all of it takes. */
const IDLE = '900s'

export const name = 'udpmemory'

export async function run({ rounds, say, chosen }) {
  const names = chosen(['nginx', ...PLANES])
  const results = await interleave(names, Math.min(rounds, 3), say, measure)
  return Object.fromEntries(names.map((name, i) => [name, results[i]]))
}

/** Starts a proxy afresh, so that no earlier growth hides this one. All in KiB. */
async function measure(name) {
  const echo = await startEcho()
  const probe = PLANES.includes(name) ? new URL('gcprobe.mjs', import.meta.url).href : undefined
  const backends = [`127.0.0.1:${echo.port}`]
  const proxy = await startTarget(name, { backends, servers: SERVERS, probe, udp: { idle: IDLE } })
  const collected = async () => {
    if (probe) await proxy.ask()
    return settled(proxy)
  }
  const opened = (sessions) => drive(proxy, { sessions, seconds: 0.2 })
  const sockets = () => processes(proxy.pid).reduce((sum, pid) => sum + descriptors(pid), 0)
  await sleep(1_000)
  const [none, before] = [await collected(), sockets()]
  await opened(SOME)
  const some = await collected()
  await opened(SESSIONS)
  const uncollected = await settled(proxy)
  const [all, after] = [await collected(), sockets()]
  for (const each of [proxy, echo]) await each.stop()
  if (after - before < SESSIONS)
    throw new Error(`${name}: expected ${SESSIONS} sockets more, got ${after - before}: sessions have ended`)
  return { growth: (all - none) / SESSIONS, further: (all - some) / (SESSIONS - SOME), uncollected }
}

export function report(results) {
  const rows = Object.entries(results).map(([name, runs]) => {
    const of = (key) => runs.map((one) => one[key])
    const worse = Math.max(median(of('growth')), median(of('further')))
    return [
      label(name),
      spread(of('growth'), 2),
      spread(of('further'), 2),
      name === 'native' ? verdict(worse, GOAL_KIB) : '',
      spread(of('uncollected').map((kib) => kib / 1024)),
    ]
  })
  const [all, some] = [fixed(SESSIONS, 0), fixed(SOME, 0)]
  return `
Growth of resident memory from none to ${all} sessions of two servers that each had a question answered, once it has settled, in KiB a
session; read as that of idle connections is. What the kernel keeps for a session's socket is not in it.

${table(['proxy', 'KiB a session', `beyond ${some}`, 'goal', `MiB in all at ${all}`], rows)}`
}

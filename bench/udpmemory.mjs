// Memory of the proxy process for each session of datagrams.

import { drive, startEcho } from './datagrams.mjs'
import { grow, growth, growthTable, startFresh } from './growth.mjs'
import { descriptors, processes } from './machine.mjs'
import { PLANES } from './proxies.mjs'
import { fixed } from './statistics.mjs'

const SESSIONS = 12_000
/** Enough to have used up what was left over from the start. */
const SOME = 3_000
/** One may have no more sessions than half of the descriptors of its process. */
const SERVERS = 2
const GOALS_KIB = { native: 1 }
/** Longer than all of it takes. */
const IDLE = '900s'

export const name = 'udpmemory'

export function run({ rounds, say, chosen }) {
  return grow(chosen(['nginx', ...PLANES]), rounds, say, measure)
}

async function measure(name) {
  const echo = await startEcho()
  const backends = [`127.0.0.1:${echo.port}`]
  const proxy = await startFresh(name, { backends, servers: SERVERS, udp: { idle: IDLE } })
  const sockets = () => processes(proxy.pid).reduce((sum, pid) => sum + descriptors(pid), 0)
  const before = sockets()
  const hold = (sessions) => drive(proxy, { sessions, seconds: 0.2 })
  const result = await growth(proxy, { some: SOME, all: SESSIONS, hold })
  const more = sockets() - before
  for (const each of [proxy, echo]) await each.stop()
  if (more < SESSIONS)
    throw new Error(`${name}: expected ${SESSIONS} sockets more, got ${more}: sessions have ended`)
  return result
}

export function report(results) {
  return `
Growth of resident memory from none to ${fixed(SESSIONS, 0)} sessions of two servers that each had a question answered, once it has settled, in KiB a
session; read as that of idle connections is. What the kernel keeps for a session's socket is not in it.

${growthTable(results, { what: 'session', some: SOME, all: SESSIONS, goals: GOALS_KIB })}`
}

// Memory of the proxy process for each idle connection that it proxies.

import { startClient } from './client.mjs'
import { grow, growth, growthTable, startFresh } from './growth.mjs'
import { PROXIES, startOrigin } from './proxies.mjs'
import { fixed } from './statistics.mjs'

// 18,000 of the 20,000 descriptors a process may have here.
const CONNECTIONS = 9_000
/** Enough to have used up what was left over from the start. */
const SOME = 3_000
const GOALS_KIB = { portable: 14, native: 1 }

export const name = 'memory'

export function run({ rounds, say, chosen }) {
  return grow(chosen(PROXIES), rounds, say, measure)
}

async function measure(name) {
  const origin = await startOrigin()
  const proxy = await startFresh(name, { backends: [`127.0.0.1:${origin.port}`] })
  const client = startClient()
  const hold = (connections) => client.ask({ job: 'hold', port: proxy.port, connections })
  const result = await growth(proxy, { some: SOME, all: CONNECTIONS, hold })
  for (const each of [client, proxy, origin]) await each.stop()
  return result
}

export function report(results) {
  const shown = growthTable(results, { what: 'connection', some: SOME, all: CONNECTIONS, goals: GOALS_KIB })
  const [all, some] = [fixed(CONNECTIONS, 0), fixed(SOME, 0)]
  return `
Growth of resident memory from none to ${all} idle connections that each had one request answered, once it has settled, in KiB a
connection; fairlead has collected its garbage before each reading but the last column. What a proxy needed to start and
no longer needs may hide a part of the growth; it hides nothing beyond ${some} connections. The larger of the two counts
for the goal.

${shown}`
}

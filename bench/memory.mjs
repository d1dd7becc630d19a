// Memory of the proxy process for each idle connection that it proxies.

import { setTimeout as sleep } from 'node:timers/promises'
import { startClient } from './client.mjs'
import { PLANES, PROXIES, label, startOrigin, startTarget } from './proxies.mjs'
import { interleave } from './rounds.mjs'
import { fixed, median, spread, table, verdict } from './statistics.mjs'

// 18,000 of the 20,000 descriptors a process may have here.
const CONNECTIONS = 9_000
/** Enough to have used up what was left over from the start. */
const SOME = 3_000
const GOALS_KIB = { portable: 14, native: 1 }

export const name = 'memory'

export async function run({ rounds, say, chosen }) {
  const names = chosen(PROXIES)
  const results = await interleave(names, Math.min(rounds, 3), say, measure)
  return Object.fromEntries(names.map((name, i) => [name, results[i]]))
}

/** Starts a proxy afresh, so that no earlier growth hides this one. All in KiB. */
async function measure(name) {
  const origin = await startOrigin()
  const probe = PLANES.includes(name) ? new URL('gcprobe.mjs', import.meta.url).href : undefined
  const proxy = await startTarget(name, { backends: [`127.0.0.1:${origin.port}`], probe })
  const client = startClient()
  const collected = async () => {
    if (probe) await proxy.ask()
    return settled(proxy)
  }
  await sleep(1_000)
  const none = await collected()
  await client.ask({ job: 'hold', port: proxy.port, connections: SOME })
  const some = await collected()
  await client.ask({ job: 'hold', port: proxy.port, connections: CONNECTIONS - SOME })
  const uncollected = await settled(proxy)
  const all = await collected()
  for (const each of [client, proxy, origin]) await each.stop()
  return { growth: (all - none) / CONNECTIONS, further: (all - some) / (CONNECTIONS - SOME), uncollected }
}

/** Resident memory once it has stayed within 1 % for 5 s, or after 40 s. */
export async function settled(proxy) {
  let steady = 0
  let last = proxy.residentKiB()
  for (let second = 0; second < 40 && steady < 5; second++) {
    await sleep(1_000)
    const now = proxy.residentKiB()
    steady = Math.abs(now - last) < last / 100 ? steady + 1 : 0
    last = now
  }
  return last
}

export function report(results) {
  const rows = Object.entries(results).map(([name, runs]) => {
    const of = (key) => runs.map((one) => one[key])
    // Neither may hide behind the other: what the start has left over, nor what came late.
    const worse = Math.max(median(of('growth')), median(of('further')))
    return [
      label(name),
      spread(of('growth'), 2),
      spread(of('further'), 2),
      PLANES.includes(name) ? verdict(worse, GOALS_KIB[name]) : '',
      spread(of('uncollected').map((kib) => kib / 1024)),
    ]
  })
  const [all, some] = [fixed(CONNECTIONS, 0), fixed(SOME, 0)]
  return `
Growth of resident memory from none to ${all} idle connections that each had one request answered, once it has settled, in KiB a
connection; fairlead has collected its garbage before each reading but the last column. What a proxy needed to start and
no longer needs may hide a part of the growth; it hides nothing beyond ${some} connections. The larger of the two counts
for the goal.

${table(['proxy', 'KiB a connection', `beyond ${some}`, 'goal', `MiB in all at ${all}`], rows)}`
}

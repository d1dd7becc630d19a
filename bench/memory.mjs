// Memory of the proxy process for each idle connection that it proxies.

import { setTimeout as sleep } from 'node:timers/promises'
import { startClient } from './client.mjs'
import { PROXIES, startOrigin, startTarget } from './proxies.mjs'
import { interleave } from './rounds.mjs'
import { fixed, median, spread, table, verdict } from './statistics.mjs'

// 18,000 of the 20,000 descriptors a process may have here.
const CONNECTIONS = 9_000
/** Enough to have used up what was left over from the start. */
const SOME = 3_000
const GOAL_KIB = 14

export const name = 'memory'

export async function run({ rounds, say }) {
  const results = await interleave(PROXIES, Math.min(rounds, 3), say, measure)
  return Object.fromEntries(PROXIES.map((name, i) => [name, results[i]]))
}

/** Starts a proxy afresh, so that no earlier growth hides this one. All in KiB. */
async function measure(name) {
  const origin = await startOrigin()
  const proxy = await startTarget(name, { backends: [`127.0.0.1:${origin.port}`] })
  const client = startClient()
  await sleep(1_000)
  const none = proxy.residentKiB()
  await client.ask({ job: 'hold', port: proxy.port, connections: SOME })
  const some = await settled(proxy)
  await client.ask({ job: 'hold', port: proxy.port, connections: CONNECTIONS - SOME })
  const all = await settled(proxy)
  for (const each of [client, proxy, origin]) await each.stop()
  return { growth: (all - none) / CONNECTIONS, further: (all - some) / (CONNECTIONS - SOME), all }
}

/** Resident memory once it has stayed within 1 % for 5 s, or after 40 s. */
async function settled(proxy) {
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
  const rows = PROXIES.map((proxy) => {
    const of = (key) => results[proxy].map((one) => one[key])
    return [proxy, spread(of('growth')), spread(of('further')), spread(of('all').map((kib) => kib / 1024))]
  })
  const growth = median(results.fairlead.map(({ growth }) => growth))
  const [all, some] = [fixed(CONNECTIONS, 0), fixed(SOME, 0)]
  return `
Growth of resident memory from none to ${all} idle connections that each had one request answered, once it has settled, in KiB a
connection. Goal: ${verdict(growth, GOAL_KIB)}. What a proxy needed to start and no longer needs hides a part of that; it hides nothing
of the growth beyond ${some} connections.

${table(['proxy', 'KiB a connection', `beyond ${some}`, `MiB in all at ${all}`], rows)}`
}

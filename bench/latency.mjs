// The time a proxy adds to a request at a moderate, fixed rate.

import { startClient } from './client.mjs'
import { PROXIES, TARGETS, startOrigin, startTarget } from './proxies.mjs'
import { interleave } from './rounds.mjs'
import { ratio, spread, table } from './statistics.mjs'

const LOAD = { job: 'paced', connections: 16, rate: 1_000, seconds: 3 }

export const name = 'latency'

export async function run({ rounds, say }) {
  const origin = await startOrigin()
  const targets = []
  for (const name of TARGETS)
    targets.push(await startTarget(name, { backends: [`127.0.0.1:${origin.port}`] }))
  const measure = async ({ port }) => {
    const client = startClient()
    const answer = await client.ask({ ...LOAD, port })
    await client.stop()
    return answer
  }
  for (const target of targets) await measure(target) // to warm up
  const [direct, ...proxied] = await interleave(targets, rounds, say, measure)
  for (const each of [...targets, origin]) await each.stop()
  const added = (key) =>
    Object.fromEntries(
      PROXIES.map((name, i) => [name, proxied[i].map((one, r) => (one[key] - direct[r][key]) * 1000)]),
    )
  return { p50: added('p50'), p99: added('p99'), direct: direct.map(({ p50 }) => p50 * 1000) }
}

export function report({ p50, p99, direct }) {
  const rows = PROXIES.map((proxy) => [
    proxy,
    spread(p50[proxy], 0),
    proxy === 'haproxy' ? '' : ratio(p50[proxy], p50.haproxy),
    spread(p99[proxy], 0),
  ])
  return `
${LOAD.rate.toLocaleString('en-US')} requests a second over ${LOAD.connections} kept connections, in microseconds above the same round without a proxy
(whose median is ${spread(direct, 0)}).

${table(['proxy', 'added at the median', 'to HAProxy', 'added at p99'], rows)}`
}

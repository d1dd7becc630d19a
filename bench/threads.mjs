// What a second thread makes of the processor time of a request.
//
// With one processor for the proxy and one for the load, two threads would take turns where one had been: what they
// cost each other from one processor to the other would not show, and batches would be as large as before. With both
// processors for the proxy and one of them for the load, the second thread would fight for its processor and the first
// would not. So every process here, the proxy with one thread, with two, and the load, may run on both.

import { BOTH_CPUS } from './machine.mjs'
import { label, startOrigin, startTarget } from './proxies.mjs'
import { untilClear } from './rounds.mjs'
import { median, ratio, ratios, spread, table, verdict } from './statistics.mjs'
import { WORKLOADS } from './workloads.mjs'
import { drive } from './wrk.mjs'

const GOAL = 1.1
/** Whose threads are compared; the portable plane has but one. */
const THREADED = ['haproxy', 'nginx', 'native']
/** The kernel deals connections out by their hash: enough that both threads get about the same. */
const CONNECTIONS = 64

export const name = 'threads'

export async function run({ rounds, say, chosen, workloads: keys }) {
  const cpu = BOTH_CPUS
  const origin = await startOrigin({ cpu })
  const names = chosen(THREADED)
  const targets = []
  for (const name of names)
    for (const threads of [1, 2])
      targets.push(await startTarget(name, { backends: [`127.0.0.1:${origin.port}`], threads, cpu }))
  const workloads = []
  for (const { key, name, load } of WORKLOADS.filter(({ key }) => keys.includes(key))) {
    const all = { connections: CONNECTIONS, ...load, cpu }
    for (const target of targets) await drive(target, { ...all, seconds: 1 }) // to warm up
    const of = (results, proxy, key) =>
      [0, 1].map((two) => results[2 * names.indexOf(proxy) + two].map((result) => result[key]))
    const growth = (results) => {
      const [one, two] = of(results, 'native', 'cpuUs')
      return { value: median(ratios(two, one)), goal: GOAL }
    }
    const results = await untilClear(
      targets,
      rounds,
      (line) => say(`${name}: ${line}`),
      (target) => drive(target, all),
      (results) => (names.includes('native') ? [growth(results)] : []),
    )
    for (const proxy of names)
      workloads.push({ name, proxy, cpuUs: of(results, proxy, 'cpuUs'), rate: of(results, proxy, 'rate') })
  }
  for (const each of [...targets, origin]) await each.stop()
  return workloads
}

export function report(workloads) {
  const rows = workloads.map(({ name, proxy, cpuUs: [one, two], rate: [slow, fast] }) => [
    name,
    label(proxy),
    spread(one),
    spread(two),
    ratio(two, one),
    proxy === 'native' ? verdict(median(ratios(two, one)), GOAL) : '',
    ratio(fast, slow),
    one.length,
  ])
  const head = [
    'request',
    'proxy',
    'one thread',
    'two threads',
    'ratio',
    'goal',
    'requests a second',
    'rounds',
  ]
  return `
Processor time of the proxy for each request with one thread and with two, in microseconds, and the ratio of the same
round; then that of the requests a second. The proxy, wrk and the origin may all run on both processors, with one
thread as with two, so that a second thread finds no more and no fewer processors than the first alone.

${table(head, rows)}`
}

// Requests a second and the processor time each costs the proxy.

import { TARGETS, PROXIES, startOrigin, startTarget } from './proxies.mjs'
import { interleave } from './rounds.mjs'
import { interval, median, ratio, ratios, spread, table, verdict } from './statistics.mjs'
import { drive } from './wrk.mjs'

/** `goal` is the most processor time a request may cost, in those of HAProxy. */
const WORKLOADS = [
  { name: 'keep-alive request', goal: 1.5, load: {} },
  { name: 'connect, request, close', goal: 2.2, load: { close: true } },
  { name: '64 KiB body', goal: 1.1, load: { path: '/64k', bytes: 64 * 1024 } },
  {
    name: '10 MiB body',
    goal: 1.1,
    load: { path: '/10m', bytes: 10 * 1024 * 1024, connections: 8, seconds: 3 },
  },
]

export const name = 'throughput'

export async function run({ rounds, say }) {
  const origin = await startOrigin()
  const backends = [`127.0.0.1:${origin.port}`]
  const targets = []
  for (const name of TARGETS) targets.push(await startTarget(name, { backends }))
  const workloads = []
  for (const { name, goal, load } of WORKLOADS) {
    for (const target of targets) await drive(target, { ...load, seconds: 1 }) // to warm up
    const results = await interleave(
      targets,
      rounds,
      (line) => say(`${name}: ${line}`),
      (target) => drive(target, load),
    )
    const of = (key) =>
      Object.fromEntries(TARGETS.map((name, i) => [name, results[i].map((result) => result[key])]))
    workloads.push({ name, goal, rate: of('rate'), cpuUs: of('cpuUs') })
  }
  for (const each of [...targets, origin]) await each.stop()
  return workloads
}

export function report(workloads) {
  const costs = workloads.map(({ name, cpuUs }) => [name, ...PROXIES.map((proxy) => spread(cpuUs[proxy]))])
  const paired = workloads.map(({ name, goal, cpuUs: { fairlead, haproxy, nginx } }) => [
    name,
    ratio(fairlead, haproxy),
    verdict(median(ratios(fairlead, haproxy)), goal),
    ratio(fairlead, nginx),
  ])
  const rates = workloads.map(({ name, rate }) => [name, ...TARGETS.map((target) => spread(rate[target], 0))])
  const { covers } = interval(workloads[0].cpuUs.fairlead)
  return `
Processor time of the proxy for each request, in microseconds: median (lowest – highest).

${table(['request', ...PROXIES], costs)}

fairlead's over another's in the same round: median [interval that covers ${(covers * 100).toFixed(0)} %]. The goal is for the
portable plane.

${table(['request', 'to HAProxy', 'goal', 'to nginx'], paired)}

Requests a second, the proxy on one processor, wrk and the origin together on the other:

${table(['request', ...TARGETS], rates)}`
}

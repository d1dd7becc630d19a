// Requests a second and the processor time each costs the proxy.

import { profiled } from './profile.mjs'
import { PEERS, SPLICING, TARGETS, label, startOrigin, startTargets } from './proxies.mjs'
import { untilClear } from './rounds.mjs'
import { interval, lowest, median, ratio, ratios, spread, table, verdict } from './statistics.mjs'
import { WORKLOADS } from './workloads.mjs'
import { drive } from './wrk.mjs'

export const name = 'throughput'

export async function run({ rounds, say, chosen, workloads: keys, perf }) {
  const origin = await startOrigin()
  const names = chosen(TARGETS)
  const targets = await startTargets(names, { backends: [`127.0.0.1:${origin.port}`] })
  const workloads = []
  for (const { key, name, goals, load } of WORKLOADS.filter(({ key }) => keys.includes(key))) {
    for (const target of targets) await drive(target, { ...load, seconds: 1 }) // to warm up
    const of = (results, key) =>
      Object.fromEntries(names.map((name, i) => [name, results[i].map((result) => result[key])]))
    const results = await untilClear(
      targets,
      rounds,
      (line) => say(`${name}: ${line}`),
      (target) => drive(target, load),
      (results) => goalsOf(goals, of(results, 'cpuUs')),
    )
    workloads.push({ name, goals, rate: of(results, 'rate'), cpuUs: of(results, 'cpuUs') })
    for (const target of perf ? targets.filter(({ pid }) => pid) : [])
      await profiled(perf, target, key, () => drive(target, { ...load, seconds: 4 }))
  }
  for (const each of [...targets, origin]) await each.stop()
  return workloads
}

/** A plane's median ratio to what its goal is about, and the goal; none where one of them was not driven. */
function goalsOf(goals, cpuUs) {
  const others = { portable: cpuUs.haproxy && 'haproxy', native: bestOf(cpuUs) }
  return Object.entries(goals)
    .filter(([plane]) => cpuUs[plane] && others[plane])
    .map(([plane, goal]) => ({ value: median(ratios(cpuUs[plane], cpuUs[others[plane]])), goal }))
}

/** The variant of HAProxy or nginx with the lowest median. */
function bestOf(cpuUs) {
  return lowest(
    PEERS.filter((name) => cpuUs[name]),
    (name) => cpuUs[name],
  )
}

export function report(workloads) {
  const head = ['proxy', ...workloads.map(({ name }) => name)]
  const names = Object.keys(workloads[0].rate)
  const proxies = names.filter((name) => name !== 'direct')
  const cells = (name, key, digits) => [
    label(name),
    ...workloads.map((each) => spread(each[key][name], digits)),
  ]
  const costs = proxies.map((name) => cells(name, 'cpuUs'))
  const rates = names.map((name) => cells(name, 'rate', 0))
  const parts = [
    `Processor time of the proxy for each request, in microseconds: median (lowest – highest).

${table(head, costs)}`,
    ...ofNative(workloads.filter(({ cpuUs }) => cpuUs.native && bestOf(cpuUs))),
    ...ofPortable(workloads.filter(({ cpuUs }) => cpuUs.portable && cpuUs.haproxy && cpuUs.nginx)),
    `Requests a second, the proxy on one processor, wrk and the origin together on the other:

${table(head, rates)}`,
  ]
  return `\n${parts.join('\n\n')}`
}

function ofNative(workloads) {
  if (workloads.length === 0) return []
  const rows = workloads.map(({ name, goals, cpuUs }) => {
    const best = bestOf(cpuUs)
    return [
      name,
      label(best),
      ratio(cpuUs.native, cpuUs[best]),
      verdict(median(ratios(cpuUs.native, cpuUs[best])), goals.native),
      cpuUs[SPLICING] ? ratio(cpuUs.native, cpuUs[SPLICING]) : '',
      cpuUs.native.length,
    ]
  })
  return [
    `The native plane's over that of the best variant of HAProxy and nginx in the same round: ${covered(workloads, 'native')}.
The best is that of ${PEERS.map(label).join(', ')} with the lowest median. Where the ratio was
within 5 % of its goal, there are 15 rounds.

${table(['request', 'best', 'native over it', 'goal', `over ${label(SPLICING)}`, 'rounds'], rows)}`,
  ]
}

function ofPortable(workloads) {
  if (workloads.length === 0) return []
  const rows = workloads.map(({ name, goals, cpuUs: { portable, haproxy, nginx } }) => [
    name,
    ratio(portable, haproxy),
    verdict(median(ratios(portable, haproxy)), goals.portable),
    ratio(portable, nginx),
  ])
  return [
    `The portable plane's over those of HAProxy and nginx without settings: ${covered(workloads, 'portable')}.

${table(['request', 'to HAProxy', 'goal', 'to nginx'], rows)}`,
  ]
}

/** What the brackets of ratios mean. */
function covered(workloads, plane) {
  const covers = Math.min(...workloads.map(({ cpuUs }) => interval(cpuUs[plane]).covers))
  return `median [interval that covers ${Math.floor(covers * 100)} % or more]`
}

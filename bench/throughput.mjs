// Requests a second and the processor time each costs the proxy.

import { profiled } from './profile.mjs'
import { PEERS, RELAY, SPLICING, TARGETS, label, startOrigin, startTargets } from './proxies.mjs'
import { byName, untilClear } from './rounds.mjs'
import { interval, lowest, median, of, ratio, ratios, spread, table, verdict } from './statistics.mjs'
import { WORKLOADS } from './workloads.mjs'
import { drive } from './wrk.mjs'

export const name = 'throughput'

export async function run({ rounds, say, chosen, workloads: keys, perf }) {
  const origin = await startOrigin()
  const all = await startTargets([...chosen(TARGETS), RELAY], { backends: [`127.0.0.1:${origin.port}`] })
  const workloads = []
  for (const { key, name, goals, small, load } of WORKLOADS.filter(({ key }) => keys.includes(key))) {
    const targets = all.filter(({ name }) => small || name !== RELAY)
    const figures = (results, figure) =>
      byName(
        targets.map(({ name }) => name),
        results.map((rounds) => of(rounds, figure)),
      )
    for (const target of targets) await drive(target, { ...load, seconds: 1 }) // to warm up
    const results = await untilClear(
      targets,
      rounds,
      (line) => say(`${name}: ${line}`),
      (target) => drive(target, load),
      (results) => goalsOf(goals, figures(results, 'cpuUs')),
    )
    workloads.push({ name, goals, rate: figures(results, 'rate'), cpuUs: figures(results, 'cpuUs') })
    for (const target of perf ? targets.filter(({ pid }) => pid) : [])
      await profiled(perf, target, key, () => drive(target, { ...load, seconds: 4 }))
  }
  for (const each of [...all, origin]) await each.stop()
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
  const names = [...new Set(workloads.flatMap(({ rate }) => Object.keys(rate)))]
  const proxies = names.filter((name) => name !== 'direct')
  const cells = (name, key, digits) => [
    label(name),
    ...workloads.map(({ [key]: { [name]: values } }) => (values ? spread(values, digits) : '')),
  ]
  const costs = proxies.map((name) => cells(name, 'cpuUs'))
  const rates = names.map((name) => cells(name, 'rate', 0))
  const parts = [
    `Processor time of the proxy for each request, in microseconds: median (lowest – highest). \`relay\` is
\`bench/streamrelay.c\`, which decides nothing, limits nothing and counts nothing: the least that any program may cost
whose bytes take the same way.

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
      cpuUs[RELAY] ? ratio(cpuUs[RELAY], cpuUs[best]) : '',
      cpuUs[SPLICING] ? ratio(cpuUs.native, cpuUs[SPLICING]) : '',
      cpuUs.native.length,
    ]
  })
  return [
    `The native plane's over that of the best variant of HAProxy and nginx in the same round: ${covered(workloads, 'native')}.
The best is that of ${PEERS.map(label).join(', ')} with the lowest median. Where the ratio was
within 5 % of its goal, there are 15 rounds.

${table(['request', 'best', 'native over it', 'goal', `${RELAY} over it`, `native over ${label(SPLICING)}`, 'rounds'], rows)}`,
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

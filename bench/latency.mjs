// The time a proxy adds to a request at a moderate rate and at half load.

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { compiled } from './programs.mjs'
import { PROXIES, label, startOrigin, startTargets } from './proxies.mjs'
import { interleave } from './rounds.mjs'
import { differences, excess, fixed, interval, median, ratio, spread, table } from './statistics.mjs'

const LOADS = [
  { connections: 16, rate: 1_000 },
  // HAProxy is busy half the time then. Its highest rate is four times that: it answers several requests a turn then.
  { connections: 64, rate: 20_000, goal: true },
]
const SECONDS = 3

export const name = 'latency'

export async function run({ rounds, say, chosen }) {
  const origin = await startOrigin()
  const names = chosen(PROXIES)
  const targets = await startTargets(['direct', ...names], { backends: [`127.0.0.1:${origin.port}`] })
  const results = []
  for (const load of LOADS) {
    const measure = (target) => paced(target, load)
    for (const target of targets) await measure(target) // to warm up
    const told = (line) => say(`${load.rate} a second: ${line}`)
    results.push({ load, names, times: await interleave(targets, rounds, told, measure) })
  }
  for (const each of [...targets, origin]) await each.stop()
  return results
}

/** Requests at a mean rate: the times they took in microseconds, and the share of a processor the proxy used. */
async function paced({ port, cpuMs }, { connections, rate }) {
  const [began, before] = [performance.now(), cpuMs?.()]
  const args = [port, connections, rate, SECONDS].map(String)
  const { stdout } = await promisify(execFile)(compiled('paced.c'), args)
  const busy = ((cpuMs?.() - before) / (performance.now() - began)) * 100
  const [, p50, p99, p999] = stdout.trim().split(' ').map(Number)
  return { busy, p50, p99, p999 }
}

export function report(results) {
  return results.map(one).join('\n')
}

function one({ load: { connections, rate, goal }, names, times: [direct, ...proxied] }) {
  const of = (name, key) => proxied[names.indexOf(name)].map((round) => round[key])
  const added = (name, key) =>
    differences(
      of(name, key),
      direct.map((round) => round[key]),
    )
  const peers = names.filter((name) => name === 'haproxy' || name === 'nginx')
  const rows = names.map((name) => [
    label(name),
    spread(added(name, 'p50'), 0),
    name === 'haproxy' || !names.includes('haproxy')
      ? ''
      : ratio(added(name, 'p50'), added('haproxy', 'p50')),
    spread(added(name, 'p99'), 0),
    spread(added(name, 'p999'), 0),
    spread(of(name, 'busy'), 0),
  ])
  const verdicts =
    goal && names.includes('native')
      ? peers.map((peer) => {
          const [native, other] = [of('native', 'p99'), of(peer, 'p99')]
          return ['native', label(peer), excess(native, other), noWorse(differences(native, other))]
        })
      : []
  const beside = `
The native plane's p99 less another's in the same round, in microseconds: median [interval]. The goal is no more.

${table(['plane', 'beside', 'p99 less its', 'goal'], verdicts)}`
  const base = (key) =>
    `${spread(
      direct.map((round) => round[key]),
      0,
    )}`
  return `
${fixed(rate, 0)} requests a second over ${connections} kept connections, in microseconds above the same round without a proxy
(whose median is ${base('p50')} and whose p99 ${base('p99')}).

${table(['proxy', 'added at the median', 'to HAProxy', 'added at p99', 'at p99.9', 'busy, %'], rows)}
${verdicts.length > 0 ? beside : ''}`
}

/** A difference between tails may be chance: its interval says whether it can be told. */
function noWorse(less) {
  if (median(less) <= 0) return 'met (≤ 0)'
  return interval(less).low > 0 ? '**not met** (≤ 0)' : 'not told apart (≤ 0)'
}

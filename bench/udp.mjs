// Datagrams: what a question and its answer cost the proxy, and how many it loses.

import { drive, startEcho } from './datagrams.mjs'
import { freePorts } from './machine.mjs'
import { profiled } from './profile.mjs'
import { PLANES, RELAY, label, startTargets } from './proxies.mjs'
import { byName, interleave, untilClear } from './rounds.mjs'
import { fixed, interval, lossOf, median, of, ratio, ratios } from './statistics.mjs'
import { spread, table, total, verdict } from './statistics.mjs'
import { manySessions, reportMany } from './udpmany.mjs'

/** HAProxy has none. */
const PROXIES = ['nginx', ...PLANES]
/** The most processor time of a plane in those of nginx. */
const LOADS = [
  { sessions: 64, goals: { native: 0.8, portable: 1.6 } },
  { sessions: 4_096, goals: { native: 0.9, portable: 1.6 } },
]
/** Not kept, or not answered; for information. No session has two questions under way. */
const OTHERS = [
  { name: 'a session for each question', udp: { responses: 1 }, load: { kept: false } },
  { name: 'fire and forget', udp: { requests: 1 }, forgets: true, load: {} },
]
const MANY = 4_096
/** Datagrams a second through one thread: a question and its answer are two. */
const DATAGRAMS = 100_000
const IDLE = '60s'

export const name = 'udp'

export async function run({ rounds, say, chosen, perf }) {
  const echo = await startEcho()
  const backends = [`127.0.0.1:${echo.port}`]
  const told = (what) => (line) => say(`${what}: ${line}`)
  const names = chosen(PROXIES)
  const kept = [RELAY, ...names]
  const targets = await startTargets(['direct', ...kept], { backends, udp: { idle: IDLE } })
  const loads = []
  for (const load of LOADS) loads.push(await loaded(targets, load, { rounds, told, perf }))
  for (const each of targets) await each.stop()
  const others = []
  for (const each of OTHERS) others.push(await other(each, { backends, rounds, told, names }))
  const many = await manySessions(kept, { backends, idle: IDLE, rounds, say: told('many sessions') })
  await echo.stop()
  return { loads, others, many }
}

/** At full speed, at half of each one's, and at the rate that one native thread must bear. */
async function loaded(targets, { sessions, goals }, { rounds, told, perf }) {
  const names = targets.map(({ name }) => name)
  const what = `${sessions} sessions`
  for (const target of targets) await drive(target, { sessions, seconds: 0.5 }) // to warm up
  const full = await untilClear(
    targets,
    rounds,
    told(what),
    (target) => drive(target, { sessions }),
    (results) => goalsOf(goals, byName(names, results)),
  )
  const paced = (list, pace, rateOf) =>
    interleave(list, rounds, told(`${what}, ${pace}`), (target) =>
      drive(target, { sessions, rate: rateOf(target) }),
    )
  const halfOf = (target) => median(of(full[targets.indexOf(target)], 'rate')) / 2
  const half = await paced(targets, 'half', halfOf)
  const native = targets.find(({ name }) => name === 'native')
  const borne = native && (await paced([native], `${DATAGRAMS} datagrams a second`, () => DATAGRAMS / 2))
  for (const target of perf ? targets.filter(({ pid }) => pid) : [])
    await profiled(perf, target, `udp-${sessions}`, () => drive(target, { sessions, seconds: 4 }))
  return { sessions, goals, full: byName(names, full), half: byName(names, half), borne: borne?.[0] }
}

async function other({ name, udp, forgets, load }, { backends, rounds, told, names }) {
  const sink = forgets ? await freePorts() : undefined
  const to = sink ? [`127.0.0.1:${sink}`] : backends
  const targets = await startTargets(names, { backends: to, udp: { ...udp, idle: IDLE, sink } })
  const all = { sessions: MANY, sink, ...load }
  for (const target of targets) await drive(target, { ...all, seconds: 0.5 }) // to warm up
  const results = await interleave(targets, rounds, told(name), (target) => drive(target, all))
  for (const each of targets) await each.stop()
  return { name, results: byName(names, results) }
}

/** The planes' median ratios to nginx, and their goals. */
function goalsOf(goals, results) {
  return Object.entries(goals)
    .filter(([plane]) => results[plane] && results.nginx)
    .map(([plane, goal]) => {
      const toNginx = ratios(of(results[plane], 'cpuUs'), of(results.nginx, 'cpuUs'))
      return { plane, goal, value: median(toNginx) }
    })
}

export function report({ loads, others, many }) {
  return `
A datagram of 100 bytes and its answer, 64 questions under way at once. The sessions are those of as many addresses of one
socket, and every one has had an answer before anything is counted. \`relay\` is \`bench/relay.c\`, which decides nothing, forgets nobody and
counts nothing: the least that any program may cost.

Processor time of the proxy for a question and its answer, in microseconds: median (lowest – highest).

${table(...costs(loads))}
${besideNginx(loads)}
Answers a second, the proxy on one processor, and the time to an answer in microseconds (its median of the rounds):

${table(...rates(loads))}

At half of each one's own rate, where nothing may be lost, all rounds together:

${table(...losses(loads))}
${borneByOne(loads)}
For information, ${fixed(MANY, 0)} clients, 64 questions under way at once; what is not answered counts when it has arrived:

${table(...information(others))}

${reportMany(many)}`
}

const countOf = ({ sessions }) => `${fixed(sessions, 0)} sessions`
const timesOf = (runs) => ['p50', 'p99'].map((time) => fixed(median(of(runs, time)), 0)).join(', ')

/** `12 (11 – 13)` of some figures that are shares, in percent. */
const percent = (shares) =>
  spread(
    shares.map((share) => share * 100),
    0,
  )

function costs(loads) {
  const rows = Object.keys(loads[0].full)
    .filter((name) => name !== 'direct')
    .map((name) => [label(name), ...loads.map(({ full }) => spread(of(full[name], 'cpuUs'), 2))])
  return [['proxy', ...loads.map(countOf)], rows]
}

function besideNginx(loads) {
  const rows = loads.flatMap((load) => {
    const { goals, full } = load
    if (!full.nginx) return []
    const row = (name, judged) => [
      `${label(name)}, ${countOf(load)}`,
      ratio(of(full[name], 'cpuUs'), of(full.nginx, 'cpuUs')),
      judged,
      full[name].length,
    ]
    const planes = goalsOf(goals, full).map(({ plane, goal, value }) => row(plane, verdict(value, goal)))
    return [row(RELAY, ''), ...planes]
  })
  if (rows.length === 0) return ''
  const covers = Math.min(...loads.map(({ full: { nginx } }) => interval(of(nginx, 'rate')).covers))
  return `
Over that of nginx in the same round: median [interval that covers ${Math.floor(covers * 100)} % or more].

${table(['proxy', 'to nginx', 'goal', 'rounds'], rows)}
`
}

function rates(loads) {
  const rows = Object.keys(loads[0].full).map((name) => [
    label(name),
    ...loads.flatMap(({ full: { [name]: runs } }) => [
      spread(of(runs, 'rate'), 0),
      timesOf(runs),
      fixed(total(runs, 'lost'), 0),
    ]),
  ])
  return [['target', ...loads.flatMap((load) => [countOf(load), 'p50, p99', 'lost'])], rows]
}

function losses(loads) {
  const rows = loads.flatMap((load) =>
    Object.entries(load.half).map(([name, runs]) => [
      `${label(name)}, ${countOf(load)}`,
      fixed(median(of(runs, 'rate')), 0),
      lossOf(runs),
      PLANES.includes(name) ? verdict(total(runs, 'lost'), 0) : '',
      name === 'direct' ? '' : fixed(median(of(runs, 'busy')) * 100, 0),
      timesOf(runs),
    ]),
  )
  return [['target', 'answers a second', 'lost', 'goal', 'busy, %', 'p50, p99'], rows]
}

function borneByOne(loads) {
  const rows = loads
    .filter(({ borne }) => borne)
    .map((load) => [
      countOf(load),
      spread(
        of(load.borne, 'rate').map((rate) => rate * 2),
        0,
      ),
      lossOf(load.borne),
      percent(of(load.borne, 'busy')),
      timesOf(load.borne),
    ])
  if (rows.length === 0) return ''
  return `
${fixed(DATAGRAMS, 0)} datagrams a second, questions and answers together, through one native thread:

${table(['', 'datagrams a second', 'lost', 'busy, %', 'p50, p99'], rows)}
`
}

function information(others) {
  const rows = others.flatMap(({ name, results }) =>
    Object.entries(results).map(([proxy, runs]) => [
      `${name}, ${label(proxy)}`,
      spread(of(runs, 'cpuUs'), 2),
      results.nginx && proxy !== 'nginx' ? ratio(of(runs, 'cpuUs'), of(results.nginx, 'cpuUs')) : '',
      spread(of(runs, 'rate'), 0),
      lossOf(runs),
    ]),
  )
  return [['', 'µs', 'to nginx', 'a second', 'lost'], rows]
}

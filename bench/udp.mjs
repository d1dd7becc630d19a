// Datagrams: what a question and its answer cost the proxy, and how many it loses.

import { drive, startEcho } from './datagrams.mjs'
import { freePorts } from './machine.mjs'
import { profiled } from './profile.mjs'
import { PLANES, RELAY, label, startTarget } from './proxies.mjs'
import { interleave, untilClear } from './rounds.mjs'
import { fixed, interval, median, ratio, ratios, spread, table, verdict } from './statistics.mjs'

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
/** The cost of a datagram may not grow with these, but for what the kernel's own part grows: that of the relay. */
const FLAT = [10, 1_000, 12_000]
const FLAT_GOAL = 1.1
const FLAT_ROUNDS = 5
/** One may have no more sessions than half of the descriptors of its process. */
const FLAT_SERVERS = 2
const IDLE = '60s'

export const name = 'udp'

export async function run({ rounds, say, chosen, perf }) {
  const echo = await startEcho()
  const backends = [`127.0.0.1:${echo.port}`]
  const told = (what) => (line) => say(`${what}: ${line}`)
  const names = chosen(PROXIES)
  const kept = [RELAY, ...names]
  const driven = await saturated({ backends, rounds, told, names: ['direct', ...kept], perf })
  const others = []
  for (const each of OTHERS) others.push(await other(each, { backends, rounds, told, names }))
  const flat = await flatness({ backends, rounds: Math.min(rounds, FLAT_ROUNDS), told, names: kept })
  await echo.stop()
  return { ...driven, others, flat }
}

/** Full speed, then half of each one's, then the rate that one native thread must bear. */
async function saturated({ backends, rounds, told, names, perf }) {
  const targets = await started(names, { backends, udp: { idle: IDLE } })
  const loads = []
  const half = []
  const paced = []
  for (const { sessions, goals } of LOADS) {
    const load = { sessions }
    for (const target of targets) await drive(target, { ...load, seconds: 0.5 }) // to warm up
    const results = await untilClear(
      targets,
      rounds,
      told(`${sessions} sessions`),
      (target) => drive(target, load),
      (results) => goalsOf(goals, named(names, results)),
    )
    loads.push({ sessions, goals, results: named(names, results) })
    const halves = targets.map((target, i) => ({
      target,
      rate: median(results[i].map(({ rate }) => rate)) / 2,
    }))
    const calm = await interleave(halves, rounds, told(`${sessions} sessions, half`), ({ target, rate }) =>
      drive(target, { sessions, rate }),
    )
    half.push({ sessions, results: named(names, calm) })
    const native = targets.filter(({ name }) => name === 'native')
    const rate = DATAGRAMS / 2
    const [results2 = []] = await (native.length > 0
      ? interleave(native, rounds, told(`${sessions} sessions, ${DATAGRAMS} datagrams a second`), (target) =>
          drive(target, { sessions, rate }),
        )
      : [[]])
    if (results2.length > 0) paced.push({ sessions, results: results2 })
    for (const target of perf ? targets.filter(({ pid }) => pid) : [])
      await profiled(perf, target, `udp-${sessions}`, () => drive(target, { sessions, seconds: 4 }))
  }
  for (const each of targets) await each.stop()
  return { loads, half, paced }
}

async function other({ name, udp, forgets, load }, { backends, rounds, told, names }) {
  const sink = forgets ? await freePorts() : undefined
  const to = sink ? [`127.0.0.1:${sink}`] : backends
  const targets = await started(names, { backends: to, udp: { ...udp, idle: IDLE, sink } })
  const all = { sessions: MANY, sink, ...load }
  for (const target of targets) await drive(target, { ...all, seconds: 0.5 })
  const results = await interleave(targets, rounds, told(name), (target) => drive(target, all))
  for (const each of targets) await each.stop()
  return { name, results: named(names, results) }
}

/**
 * Each number of sessions has a proxy to itself, started afresh: sessions of another would still be there, and several
 * proxies at once would run out of local ports.
 */
async function flatness({ backends, rounds, told, names }) {
  const places = names.flatMap((name) => FLAT.map((sessions) => ({ name, sessions })))
  const results = await interleave(places, rounds, told('many sessions'), async ({ name, sessions }) => {
    const servers = name === RELAY ? 1 : FLAT_SERVERS
    const target = await startTarget(name, { backends, servers, udp: { idle: IDLE } })
    await drive(target, { sessions, seconds: 0.2 })
    const result = await drive(target, { sessions })
    await target.stop()
    return result
  })
  return places.map(({ name, sessions }, i) => ({ name, sessions, cpuUs: of(results[i], 'cpuUs') }))
}

async function started(names, setup) {
  const targets = []
  for (const name of names) targets.push(await startTarget(name, setup))
  return targets
}

function named(names, results) {
  return Object.fromEntries(names.map((name, i) => [name, results[i]]))
}

function of(results, key) {
  return results.map((result) => result[key])
}

/** The planes' median ratios to nginx, and their goals. */
function goalsOf(goals, results) {
  return Object.entries(goals)
    .filter(([plane]) => results[plane] && results.nginx)
    .map(([plane, goal]) => ({ plane, goal, value: median(toNginx(results, plane)) }))
}

function toNginx(results, plane) {
  return ratios(of(results[plane], 'cpuUs'), of(results.nginx, 'cpuUs'))
}

export function report({ loads, half, paced, others, flat }) {
  return `
A datagram of 100 bytes and its answer, 64 questions under way at once. The sessions are those of as many addresses of one
socket, and every one has had an answer before anything is counted. \`relay\` is \`bench/relay.c\`, which decides nothing, forgets nobody and
counts nothing: the least that any program may cost.

Processor time of the proxy for a question and its answer, in microseconds: median (lowest – highest).

${table(...costs(loads))}
${beside(loads)}
Answers a second, the proxy on one processor, and the time to an answer in microseconds (its median of the rounds):

${table(...rates(loads))}

At half of each one's own rate, where nothing may be lost, all rounds together:

${table(...losses(half))}
${bearing(paced)}
For information, ${fixed(MANY, 0)} clients, 64 questions under way at once; what is not answered counts when it has arrived:

${table(...information(others))}

Processor time for a question and its answer with more and more sessions over two servers, each number with a proxy of its
own, and the ratio to the fewest in the same round. The kernel's own part grows as well, which the relay shows: the goal is
about the last ratio over that of the relay.

${table(...flats(flat))}`
}

function heads(loads) {
  return loads.map(({ sessions }) => `${fixed(sessions, 0)} sessions`)
}

function namesOf([{ results }]) {
  return Object.keys(results)
}

function costs(loads) {
  const rows = namesOf(loads)
    .filter((name) => name !== 'direct')
    .map((name) => [label(name), ...loads.map(({ results }) => spread(of(results[name], 'cpuUs'), 2))])
  return [['proxy', ...heads(loads)], rows]
}

function beside(loads) {
  const rows = loads.flatMap(({ sessions, goals, results }) => {
    const row = (name, judged) => [
      `${label(name)}, ${fixed(sessions, 0)} sessions`,
      ratio(of(results[name], 'cpuUs'), of(results.nginx, 'cpuUs')),
      judged,
      results[name].length,
    ]
    const planes = goalsOf(goals, results).map(({ plane, goal, value }) => row(plane, verdict(value, goal)))
    return results.nginx ? [row(RELAY, ''), ...planes] : []
  })
  if (rows.length === 0) return ''
  const covers = Math.min(...loads.map(({ results: { nginx } }) => interval(of(nginx, 'rate')).covers))
  return `
Over that of nginx in the same round: median [interval that covers ${Math.floor(covers * 100)} % or more].

${table(['proxy', 'to nginx', 'goal', 'rounds'], rows)}
`
}

function rates(loads) {
  const rows = namesOf(loads).map((name) => [
    label(name),
    ...loads.flatMap(({ results }) => [
      spread(of(results[name], 'rate'), 0),
      `${fixed(median(of(results[name], 'p50')), 0)}, ${fixed(median(of(results[name], 'p99')), 0)}`,
      sum(results[name], 'lost'),
    ]),
  ])
  return [['target', ...heads(loads).flatMap((head) => [head, 'p50, p99', 'lost'])], rows]
}

function losses(half) {
  const rows = half.flatMap(({ sessions, results }) =>
    Object.entries(results).map(([name, runs]) => [
      `${label(name)}, ${fixed(sessions, 0)} sessions`,
      fixed(median(of(runs, 'rate')), 0),
      `${sum(runs, 'lost')} of ${sum(runs, 'asked')}`,
      PLANES.includes(name)
        ? verdict(
            runs.reduce((all, { lost }) => all + lost, 0),
            0,
          )
        : '',
      name === 'direct' ? '' : fixed(median(of(runs, 'busy')) * 100, 0),
      `${fixed(median(of(runs, 'p50')), 0)}, ${fixed(median(of(runs, 'p99')), 0)}`,
    ]),
  )
  return [['target', 'answers a second', 'lost', 'goal', 'busy, %', 'p50, p99'], rows]
}

function bearing(paced) {
  if (paced.length === 0) return ''
  const rows = paced.map(({ sessions, results }) => [
    `${fixed(sessions, 0)} sessions`,
    spread(
      of(results, 'rate').map((rate) => rate * 2),
      0,
    ),
    `${sum(results, 'lost')} of ${sum(results, 'asked')}`,
    spread(
      of(results, 'busy').map((share) => share * 100),
      0,
    ),
    `${fixed(median(of(results, 'p50')), 0)}, ${fixed(median(of(results, 'p99')), 0)}`,
  ])
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
      `${sum(runs, 'lost')} of ${sum(runs, 'asked')}`,
    ]),
  )
  return [['', 'µs', 'to nginx', 'a second', 'lost'], rows]
}

function flats(flat) {
  const growth = (name) => {
    const [first, ...more] = flat.filter((each) => each.name === name).map(({ cpuUs }) => cpuUs)
    return { first, more, most: ratios(more.at(-1), first) }
  }
  const relay = growth(RELAY)
  const rows = [...new Set(flat.map(({ name }) => name))].map((name) => {
    const { first, more, most } = growth(name)
    return [
      label(name),
      spread(first, 2),
      ...more.flatMap((cpuUs) => [spread(cpuUs, 2), ratio(cpuUs, first)]),
      name === RELAY ? '' : ratio(most, relay.most),
      name === 'native' ? verdict(median(ratios(most, relay.most)), FLAT_GOAL) : '',
    ]
  })
  const [fewest, ...others] = FLAT.map((sessions) => `${fixed(sessions, 0)} sessions`)
  return [['proxy', fewest, ...others.flatMap((head) => [head, 'ratio']), "over the relay's", 'goal'], rows]
}

function sum(runs, key) {
  return fixed(
    runs.reduce((all, one) => all + one[key], 0),
    0,
  )
}

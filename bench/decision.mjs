// How long clients wait for their decision while the proxy does all it can.

import { PLANES, label, startOrigin, startTarget } from './proxies.mjs'
import { interleave } from './rounds.mjs'
import { median, spread, table, verdict } from './statistics.mjs'
import { drive } from './wrk.mjs'

const GOAL_MS = 5
const SECONDS = 8
const ROUNDS = 5
const CLIENTS = { close: true, connections: 64, seconds: SECONDS }
const BODIES = { path: '/10m', bytes: 10 * 1024 * 1024, connections: 8, seconds: SECONDS }
const SCENARIOS = [
  { name: 'new connections', loads: [CLIENTS] },
  { name: 'new connections beside bodies of 10 MiB', loads: [CLIENTS, BODIES] },
]

export const name = 'decision'

export async function run({ rounds, say, chosen }) {
  const origin = await startOrigin()
  const planes = []
  const probe = new URL('waitprobe.mjs', import.meta.url).href
  for (const name of chosen(PLANES))
    planes.push(await startTarget(name, { backends: [`127.0.0.1:${origin.port}`], probe }))
  const cases = SCENARIOS.flatMap((scenario) => planes.map((plane) => ({ ...scenario, plane })))
  for (const plane of planes) await drive(plane, { ...CLIENTS, seconds: 2 }) // to warm up
  const results = await interleave(cases, Math.min(rounds, ROUNDS), say, loaded)
  for (const each of [...planes, origin]) await each.stop()
  return cases.map(({ name, plane }, i) => ({ name, plane: plane.name, runs: results[i] }))
}

/** Drives a plane with everything at once. Resolves with the waits and with what it did meanwhile. */
async function loaded({ plane, loads }) {
  await plane.ask()
  const [clients, bodies] = await Promise.all(loads.map((load) => drive(plane, load)))
  const waits = await plane.ask()
  if (waits.flows < clients.rate * SECONDS * 0.99)
    throw new Error(
      `${plane.name}: expected a wait for each of ${clients.rate * SECONDS} clients, got ${waits.flows}`,
    )
  // Each counts what the proxy used for both.
  return { ...waits, rate: clients.rate, bodies: bodies?.rate ?? 0, busy: clients.busy * 100 }
}

export function report(cases) {
  const rows = cases.map(({ name, plane, runs }) => {
    const of = (key) => runs.map((run) => run[key])
    return [
      name,
      label(plane),
      ...['p50', 'p99', 'p999', 'longest'].map((key) => spread(of(key), 2)),
      plane === 'native' ? verdict(median(of('p999')), GOAL_MS) : '',
      spread(of('rate'), 0),
      spread(of('bodies'), 0),
      spread(of('busy'), 0),
    ]
  })
  const head = ['load', 'plane', 'p50', 'p99', 'p99.9', 'longest', 'goal, p99.9']
  return `
Milliseconds from accept to the dial (\`waited_ms\` of the access log) of every client in ${SECONDS} s, as fast as ${CLIENTS.connections} of them
connect, ask and close; without and with ${BODIES.connections} more that fetch bodies of 10 MiB all the time. Counted inside fairlead by
\`bench/waitprobe.mjs\`, since writing the access log took a fifth of the processor time of a connection. The last column
is the share of its one processor that fairlead used.

${table([...head, 'clients a second', 'bodies a second', 'busy, %'], rows)}`
}

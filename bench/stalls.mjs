// How long new clients wait for their decision while fairlead is busy with something else.

import { writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { startClient } from './client.mjs'
import { LOAD_CPU, freePorts } from './machine.mjs'
import { folder } from './programs.mjs'
import { PLANES, startOrigin, startTarget } from './proxies.mjs'
import { interleave } from './rounds.mjs'
import { fixed, median, spread, table, verdict } from './statistics.mjs'

const BACKENDS = 10_000
const CHECKED = 5_000
const LOAD = { job: 'fresh', rate: 400, seconds: 15 }
const GOAL_MS = 5

/** Each: what fairlead does meanwhile. `setup` gets the port of the backend and that of another origin. */
const SCENARIOS = [
  { name: 'nothing', setup: unchanging },
  { name: `an update of ${fixed(BACKENDS, 0)} backends a second, half of them new`, setup: changing },
  { name: `a scrape of ${fixed(BACKENDS, 0)} backends a second`, setup: unchanging, scrapes: true },
  { name: `${fixed(CHECKED, 0)} checks every 2 s`, setup: checked },
]

export const name = 'stalls'

export async function run({ rounds, say, chosen }) {
  const origin = await startOrigin()
  const cases = SCENARIOS.flatMap((scenario) => chosen(PLANES).map((plane) => ({ ...scenario, plane })))
  const measure = (each) => disturbed(each, origin.port)
  const results = await interleave(cases, Math.min(rounds, 3), say, measure)
  await origin.stop()
  return cases.map(({ name, plane }, i) => ({ name, plane, runs: results[i] }))
}

async function disturbed({ setup, plane, scrapes = false }, other) {
  const [backend, metrics] = [await freePorts(), await freePorts()]
  const client = startClient()
  await client.ask({ job: 'listen', port: backend })
  const fairlead = await startTarget(plane, {
    ...setup(backend, other),
    config: { metrics: { enabled: true, bind: `127.0.0.1:${metrics}` } },
  })
  const timer = scrapes && setInterval(() => void scrape(metrics), 1_000)
  await client.ask({ ...LOAD, port: fairlead.port, seconds: 3 }) // to warm up
  const answer = await client.ask({ ...LOAD, port: fairlead.port })
  clearInterval(timer)
  const inside = decisionsOf(await scrape(metrics))
  await fairlead.stop()
  await client.stop()
  return { ...answer, inside }
}

function unchanging(backend) {
  return { backends: addresses(backend, 0, BACKENDS) }
}

/** Two lists that share half their backends, printed in turn. */
function changing(backend) {
  const [even, odd] = [0, BACKENDS / 2].map((from) => {
    const path = `${folder}/list-${from}`
    writeFileSync(path, addresses(backend, from, BACKENDS).join('\n') + '\n')
    return path
  })
  const print = `if [ $(($(date +%s) % 2)) = 0 ]; then cat ${even}; else cat ${odd}; fi`
  // The program runs beside the load: it shall not stand in the way of fairlead.
  const exec_command = ['taskset', '-c', String(LOAD_CPU), 'sh', '-c', print]
  return { backends: [], server: { discovery: { kind: 'exec', exec_command, interval: '1s' } } }
}

/** The checks are those of a server of its own: this one's backend counts its connections. */
function checked(backend, other) {
  const discovery = { kind: 'static', static_list: addresses(other, 0, CHECKED) }
  const healthcheck = { kind: 'ping', interval: '2s', timeout: '1s' }
  return {
    backends: [`127.0.0.1:${backend}`],
    others: { checked: { bind: '127.0.0.1:0', discovery, healthcheck } },
  }
}

function addresses(port, from, count) {
  return Array.from({ length: count }, (_, i) => `127.1.${(from + i) >> 8}.${(from + i) & 255}:${port}`)
}

function scrape(port) {
  return new Promise((resolve, reject) => {
    const asked = request({ host: '127.0.0.1', port, path: '/metrics', agent: false }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (part) => (text += part))
      response.on('end', () => resolve(text))
    })
    asked.on('error', reject).end()
  })
}

/** The bound below which all but one in a thousand decisions took by fairlead's own count, in milliseconds. */
function decisionsOf(metrics) {
  const series = /^fairlead_server_decision_seconds_bucket\{server="bench\d+",le="([^"]+)"\} (\d+)/gm
  const buckets = [...metrics.matchAll(series)]
  const all = Number(buckets.at(-1)[2])
  const [, bound] = buckets.find(([, , count]) => count >= all * 0.999)
  return bound === '+Inf' ? Infinity : Number(bound) * 1000
}

export function report(cases) {
  const rows = cases.map(({ name, plane, runs }) => {
    const of = (key) => runs.map(({ decision }) => decision[key])
    return [
      name,
      plane,
      spread(of('p50'), 2),
      spread(of('p999'), 2),
      spread(of('max'), 2),
      verdict(median(of('p999')), GOAL_MS),
      spread(
        runs.map(({ firstByte }) => firstByte.p999),
        2,
      ),
      `≤ ${Math.max(...runs.map(({ inside }) => inside))}`,
    ]
  })
  const lost = cases.flatMap(({ runs }) => runs).reduce((sum, { failed }) => sum + failed, 0)
  const head = ['meanwhile', 'plane', 'p50', 'p99.9', 'longest', 'goal, p99.9']
  return `
${LOAD.rate} new clients a second for ${LOAD.seconds} s, in milliseconds: from connect until the backend has a connection, which is when
fairlead has accepted the client and decided; until the first byte of the answer is back; and what deciding alone took
(\`fairlead_server_decision_seconds\`). Clients not served: ${lost}.

${table([...head, 'first byte, p99.9', 'deciding, p99.9'], rows)}`
}

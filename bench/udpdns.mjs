// DNS queries through a proxy: dnsperf asks, Knot answers.

import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { freePorts, start, stop, until } from './machine.mjs'
import { folder } from './programs.mjs'
import { PLANES, RELAY, label, startTargets } from './proxies.mjs'
import { answersDatagram } from './ready.mjs'
import { byName, interleave } from './rounds.mjs'
import { fixed, lossOf, of, ratio, spread, table } from './statistics.mjs'

const CLIENTS = 64
const NAMES = 1_000
const SECONDS = 3
const QUERIES = `${folder}/queries`

export const name = 'udpdns'

export async function run({ rounds, say, chosen }) {
  for (const tool of ['knotd', 'dnsperf'])
    if (!isThere(tool)) {
      say(`${tool} is missing: nothing is measured (scripts/debian.sh bench)`)
      return undefined
    }
  const knot = await startKnot()
  const names = [...chosen(['direct', 'nginx', ...PLANES]), RELAY]
  const setup = { backends: [`127.0.0.1:${knot.port}`], udp: { idle: '60s' } }
  const targets = await startTargets(names, setup)
  for (const target of targets) await queries(target, 1) // to warm up
  const results = await interleave(targets, rounds, say, (target) => queries(target, SECONDS))
  for (const each of [...targets, knot]) await each.stop()
  return byName(names, results)
}

function isThere(tool) {
  try {
    return Boolean(execFileSync('sh', ['-c', `command -v ${tool}`]))
  } catch {
    return false
  }
}

/** A server with one zone of `NAMES` addresses, on one thread. */
async function startKnot() {
  const port = await freePorts()
  const home = `${folder}/knot`
  mkdirSync(`${home}/db`, { recursive: true })
  const hosts = Array.from({ length: NAMES }, (_, i) => `h${i} A 192.0.2.${i % 256}`)
  const head = [
    '$ORIGIN bench.',
    '$TTL 3600',
    '@ SOA ns hostmaster 1 3600 600 86400 1',
    '@ NS ns',
    'ns A 192.0.2.1',
  ]
  writeFileSync(`${home}/bench.zone`, `${[...head, ...hosts].join('\n')}\n`)
  writeFileSync(QUERIES, hosts.map((_, i) => `h${i}.bench A\n`).join(''))
  const config = `
server:
    rundir: "${home}"
    listen: [ 127.0.0.1@${port} ]
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: error
database:
    storage: "${home}/db"
zone:
  - domain: bench
    storage: "${home}"
    file: bench.zone
`
  writeFileSync(`${home}/knot.conf`, config)
  const child = start('knotd', ['-c', `${home}/knot.conf`], {
    stdio: ['ignore', 'ignore', 'inherit'],
    ending: 'SIGTERM',
  })
  await until('Knot', () => answersDatagram(port))
  return { port, stop: () => stop(child, 'SIGTERM') }
}

/** One run of dnsperf: queries a second, processor time of the proxy for each in microseconds, and losses. */
async function queries(target, seconds) {
  const before = target.cpuMs?.()
  const load = { d: QUERIES, l: seconds, c: CLIENTS, q: CLIENTS, T: 1, t: 1 }
  const options = Object.entries({ s: '127.0.0.1', p: target.port, ...load })
  const args = options.flatMap(([name, value]) => [`-${name}`, String(value)])
  const child = start('dnsperf', args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (part) => (text += part))
  await once(child, 'close')
  const usedMs = target.cpuMs?.() - before
  const number = (what) => Number(new RegExp(`${what}:\\s+([\\d.]+)`).exec(text)?.[1])
  const [asked, completed, lost] = ['Queries sent', 'Queries completed', 'Queries lost'].map(number)
  if (!(completed > 0) || !text.includes(`NOERROR ${completed} (100.00%)`))
    throw new Error(`${target.name}: expected every answer to be NOERROR, got ${text}`)
  return { rate: number('Queries per second'), cpuUs: (usedMs * 1000) / completed, asked, lost }
}

export function report(results) {
  if (!results) return '\nNot measured: knotd or dnsperf is missing.'
  const { nginx } = results
  const rows = Object.entries(results).map(([name, runs]) => [
    label(name),
    name === 'direct' ? '' : spread(of(runs, 'cpuUs'), 2),
    nginx && PLANES.includes(name) ? ratio(of(runs, 'cpuUs'), of(nginx, 'cpuUs')) : '',
    spread(of(runs, 'rate'), 0),
    lossOf(runs),
  ])
  return `
dnsperf with ${CLIENTS} clients and as many queries under way, a zone of ${fixed(NAMES, 0)} names, Knot with one thread on the processor of
dnsperf: processor time of the proxy for a query, in microseconds, and queries a second.

${table(['target', 'µs a query', 'to nginx', 'queries a second', 'lost'], rows)}`
}

// `npm run soak [-- FLOWS]`: 200,000 flows of every sort through a running fairlead; afterwards its descriptors,
// timers, handles and heap must be back where they were after a warm-up of a tenth of that. Status 1 when not.

import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { descriptors, freePorts, start, until } from './machine.mjs'

const FLOWS = Number(process.argv[2] ?? 200_000)
const CLIENTS = 2
const CONCURRENCY = 64
const MIB = 2 ** 20
/** What garbage collection leaves to chance: a leak of ten bytes a flow is as much. */
const HEAP_SLACK = 2 * MIB
/** Handles and requests that may be kept to be used again. */
const ALIVE_SLACK = 8
/** How long what is left over may take to go. */
const SETTLE_MS = 20_000
const LIMIT_MS = 280_000

const folder = mkdtempSync(`${tmpdir()}/fairlead-soak-`)
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
setTimeout(() => end([`not done within ${LIMIT_MS / 1000} s`]), LIMIT_MS).unref()

const began = performance.now()
const [backend, dead, web, refused, idle, api] = await ports(6)
await once(forked(file('soakbackend.mjs'), String(backend)), 'message')
// The flags of the first line of bin/fairlead.
const asStarted = ['--single-threaded-gc', '--max-semi-space-size=4']
const probe = new URL('soakprobe.mjs', import.meta.url).href
const fairlead = forked(
  ...asStarted,
  '--expose-gc',
  '--import',
  probe,
  file('../bin/fairlead'),
  '-c',
  config(),
)
fairlead.once('exit', (code) => end([`fairlead ended with ${code}`]))
const clients = Array.from({ length: CLIENTS }, () => forked(file('soakclient.mjs')))
await until('figures of fairlead', () => figures())
await sleep(1_000)

await soak(Math.ceil(FLOWS / 10), 'warm-up')
await sleep(3_000)
const before = await figures()
show('before', before)
const wrong = await soak(FLOWS, 'flows')
show('at once', await figures())
const { after, leaks } = await settle(performance.now() + SETTLE_MS)
show('after', after)
const inside = (await Promise.all(['web', 'refused', 'idle'].map(insideOf))).flat()

fairlead.removeAllListeners('exit')
fairlead.kill('SIGTERM')
const [status] = await once(fairlead, 'exit')
end([...wrong, ...leaks, ...inside, ...(status === 0 ? [] : [`SIGTERM: expected status 0, got ${status}`])])

/** Has the clients do so many flows together. Resolves with what went wrong, a line each. */
async function soak(flows, what) {
  const wrong = new Map()
  let done = 0
  let told = 0
  const share = Math.ceil(flows / CLIENTS)
  const ends = clients.map((client) => {
    client.send({ flows: share, concurrency: CONCURRENCY, ports: { web, refused, idle } })
    return new Promise((resolve) => {
      client.on('message', function heard(message) {
        done += message.progress ?? 0
        if (done - told >= 20_000) say(`${what}: ${(told = done)} of ${flows}`)
        if (!message.wrong) return
        for (const [fault, count] of Object.entries(message.wrong))
          wrong.set(fault, (wrong.get(fault) ?? 0) + count)
        client.off('message', heard)
        resolve()
      })
    })
  })
  await Promise.all(ends)
  say(`${what}: ${share * CLIENTS} done`)
  return [...wrong].map(([fault, count]) => `${count} × ${fault}`)
}

/** What is alive in fairlead after a collection of garbage. */
async function figures() {
  fairlead.send('figures')
  const [told] = await once(fairlead, 'message')
  return { ...told, descriptors: descriptors(fairlead.pid) }
}

/** Asks until nothing is left over, or until `end`. */
async function settle(end) {
  for (;;) {
    const after = await figures()
    const leaks = leaksOf(after)
    if (leaks.length === 0 || performance.now() > end) return { after, leaks }
    await sleep(500)
  }
}

function leaksOf(after) {
  const leaks = []
  const more = (what, now, then, slack) =>
    now > then + slack && leaks.push(`${what}: expected ${then}, got ${now}`)
  more('descriptors', after.descriptors, before.descriptors, 0)
  more('bytes of heap', after.heap, before.heap, HEAP_SLACK)
  more('bytes beside the heap', after.external, before.external, HEAP_SLACK)
  for (const [type, count] of Object.entries(after.alive))
    more(type, count, before.alive[type] ?? 0, ALIVE_SLACK)
  return leaks
}

/** The clients that a server, or one of its backends, believes to be there still: a line each. */
async function insideOf(name) {
  const response = await fetch(`http://127.0.0.1:${api}/servers/${name}/stats`)
  const { active_connections, backends } = await response.json()
  const counts = [[name, active_connections]]
  for (const { host, port, stats } of backends)
    counts.push([`${name} ${host}:${port}`, stats.active_connections])
  return counts
    .filter(([, count]) => count !== 0)
    .map(([who, count]) => `active_connections of ${who}: expected 0, got ${count}`)
}

function show(when, { heap, external, descriptors, alive }) {
  const handles = Object.entries(alive)
    .filter(([, count]) => count > 0)
    .map(([type, count]) => `${type} ${count}`)
  const mib = (bytes) => `${(bytes / MIB).toFixed(2)} MiB`
  say(
    `${when}: ${descriptors} descriptors, heap ${mib(heap)}, beside it ${mib(external)}; ${handles.join(', ')}`,
  )
}

/** Two of `web`'s backends, fewer than are tried for one client, and all of `refused`'s take no connections. */
function config() {
  const live = [1, 2, 3, 4].map((n) => `127.0.0.${n}:${backend}`)
  const gone = [1, 2].map((n) => `127.0.0.${n}:${dead}`)
  const server = (port, backends, more) => ({
    bind: `0.0.0.0:${port}`,
    balance: 'roundrobin',
    discovery: { kind: 'static', static_list: backends },
    ...more,
  })
  const servers = {
    web: server(web, [...live, ...gone]),
    refused: server(refused, gone),
    idle: server(idle, live, { client_idle_timeout: '200ms' }),
  }
  const path = `${folder}/fairlead.json`
  writeFileSync(
    path,
    JSON.stringify({
      logging: { level: 'error' },
      api: { enabled: true, bind: `127.0.0.1:${api}` },
      servers,
    }),
  )
  return path
}

async function ports(count) {
  const first = await freePorts(count)
  return Array.from({ length: count }, (_, i) => first + i)
}

function forked(...args) {
  return start(process.execPath, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
}

function file(name) {
  return fileURLToPath(new URL(name, import.meta.url))
}

function say(line) {
  console.log(`[${((performance.now() - began) / 1000).toFixed(0)} s] ${line}`)
}

function end(faults) {
  for (const fault of faults) console.log(`FAULT ${fault}`)
  console.log(
    faults.length === 0 ? 'all flows went as they should, and everything is back where it began' : 'failed',
  )
  process.exit(faults.length === 0 ? 0 : 1)
}

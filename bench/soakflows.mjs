// Flows of every sort; afterwards descriptors, timers, handles and memory must be back where they were after the first
// tenth.

import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { compiled, drive, endFairlead, insideOf, ports, say } from './soakfairlead.mjs'
import { server, startFairlead, tolerated } from './soakfairlead.mjs'

const CONCURRENCY = 128
const MIB = 2 ** 20
/** What garbage collection leaves to chance: a leak of ten bytes a flow is as much. */
const HEAP_SLACK = 2 * MIB
/** What V8 and malloc leave to chance: a leak of nine bytes a flow is as much after a million. */
const RESIDENT_SLACK = 8 * MIB
/** Handles and requests that may be kept to be used again. */
const ALIVE_SLACK = 8
/** How long what is left over may take to go. */
const SETTLE_MS = 20_000

export async function flows({ plane, flows }) {
  const streams = compiled('streams')
  const [backend, dead, web, refused, idle, api] = await ports(6)
  const fairlead = await startFairlead({
    plane,
    api,
    servers: servers({ backend, dead, web, refused, idle }),
    probed: true,
  })
  // Several addresses, so that ports in TIME_WAIT do not run out.
  const everywhere = (port) => Array.from({ length: 8 }, (_, i) => `127.0.0.${i + 1}:${port}`)
  const soak = async (count, seed) => {
    const { done } = drive(streams, {
      to: everywhere(web),
      refused: everywhere(refused),
      idle: everywhere(idle),
      backend: `0.0.0.0:${backend}`,
      ...tolerated(plane),
      short: true,
      concurrency: CONCURRENCY,
      flows: count,
      seed,
    })
    const told = await done
    for (const line of told.lines) say(line)
    say(`${told.flows} flows in ${(told.ms / 1000).toFixed(1)} s; ${JSON.stringify(told.plans)}`)
    return told.faults > 0 ? [`${told.faults} flows did not go as they should`] : []
  }

  const first = Math.ceil(flows / 10)
  const wrong = await soak(first, 1)
  await sleep(3_000)
  const before = await figures(fairlead)
  show(`after ${first}`, before)
  wrong.push(...(await soak(flows - first, 2)))
  show('at once', await figures(fairlead))
  const { after, leaks } = await settle(fairlead, before)
  show(`after ${flows}`, after)
  const inside = await insideOf(api, ['web', 'refused', 'idle'])
  return [...wrong, ...leaks, ...inside, ...(await endFairlead(fairlead))]
}

/** Two of `web`'s backends, fewer than are tried for one client, and all of `refused`'s take no connections. */
function servers({ backend, dead, web, refused, idle }) {
  const live = [1, 2, 3, 4].map((n) => `127.0.0.${n}:${backend}`)
  const gone = [1, 2].map((n) => `127.0.0.${n}:${dead}`)
  return {
    web: server(`0.0.0.0:${web}`, [...live, ...gone]),
    refused: server(`0.0.0.0:${refused}`, gone),
    idle: server(`0.0.0.0:${idle}`, live, { client_idle_timeout: '200ms' }),
  }
}

/** What is alive in fairlead after a collection of garbage. */
async function figures(fairlead) {
  fairlead.child.send('figures')
  const [told] = await once(fairlead.child, 'message')
  return { ...told, descriptors: fairlead.descriptors() }
}

/** Asks until nothing is left over, or for SETTLE_MS. */
async function settle(fairlead, before) {
  const end = performance.now() + SETTLE_MS
  for (;;) {
    const after = await figures(fairlead)
    const leaks = leaksOf(before, after)
    if (leaks.length === 0 || performance.now() > end) return { after, leaks }
    await sleep(500)
  }
}

function leaksOf(before, after) {
  const leaks = []
  const more = (what, now, then, slack) =>
    now > then + slack && leaks.push(`${what}: expected ${then}, got ${now}`)
  more('descriptors', after.descriptors, before.descriptors, 0)
  more('bytes of heap', after.heap, before.heap, HEAP_SLACK)
  more('bytes beside the heap', after.external, before.external, HEAP_SLACK)
  // AddressSanitizer keeps what was freed for a while.
  if (!process.env.ASAN_OPTIONS) more('bytes resident', after.resident, before.resident, RESIDENT_SLACK)
  for (const [type, count] of Object.entries(after.alive))
    more(type, count, before.alive[type] ?? 0, ALIVE_SLACK)
  return leaks
}

function show(when, { heap, external, resident, descriptors, alive }) {
  const handles = Object.entries(alive)
    .filter(([, count]) => count > 0)
    .map(([type, count]) => `${type} ${count}`)
  const mib = (bytes) => `${(bytes / MIB).toFixed(2)} MiB`
  say(
    `${when}: ${descriptors} descriptors, resident ${mib(resident)}, heap ${mib(heap)}, ` +
      `beside it ${mib(external)}; ${handles.join(', ')}`,
  )
}

// What is alive in a fairlead that a soak run has probed (soakprobe.mjs), and what has been left over.

import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { endFairlead, insideOf, say } from './soakfairlead.mjs'

export const MIB = 2 ** 20
/** What garbage collection leaves to chance: a leak of ten bytes a flow is as much. */
const HEAP_SLACK = 2 * MIB
/** What V8 and malloc leave to chance: a leak of nine bytes a flow is as much after a million. */
const RESIDENT_SLACK = 8 * MIB
/** Handles and requests that may be kept to be used again. */
const ALIVE_SLACK = 8
/** After a first tenth, until what goes by itself has gone. */
const REST_MS = 3_000
/** How long what is left over may take to go. */
const SETTLE_MS = 20_000

/** What is alive in fairlead after a collection of garbage. */
export async function figures(fairlead) {
  fairlead.child.send('figures')
  const [told] = await once(fairlead.child, 'message')
  return { ...told, descriptors: fairlead.descriptors() }
}

/**
 * Has `work(count, part)` do a tenth of so many, then the rest. What went wrong, and what has been left over since the
 * first tenth: what is needed once has been had by then.
 */
export async function leftOver(fairlead, count, work) {
  const first = Math.ceil(count / 10)
  const wrong = await work(first, 1)
  await sleep(REST_MS)
  const before = await figures(fairlead)
  show(`after ${first}`, before)
  wrong.push(...(await work(count - first, 2)))
  show('at once', await figures(fairlead))
  const { after, leaks } = await settle(fairlead, before)
  show(`after ${count}`, after)
  return [...wrong, ...leaks]
}

/** Ends fairlead when all sessions are over, and says what is left of them beside what there was when it had `begun`. */
export async function emptied(fairlead, api, names, begun) {
  const unbounded = { heap: Infinity, external: Infinity, resident: Infinity }
  const { after, leaks } = await settle(fairlead, { ...begun, ...unbounded })
  show('when all are gone', after)
  return [...leaks, ...(await insideOf(api, names)), ...(await endFairlead(fairlead))]
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

export function show(when, { heap, external, resident, descriptors, alive }) {
  const handles = Object.entries(alive)
    .filter(([, count]) => count > 0)
    .map(([type, count]) => `${type} ${count}`)
  const mib = (bytes) => `${(bytes / MIB).toFixed(2)} MiB`
  say(
    `${when}: ${descriptors} descriptors, resident ${mib(resident)}, heap ${mib(heap)}, ` +
      `beside it ${mib(external)}; ${handles.join(', ')}`,
  )
}

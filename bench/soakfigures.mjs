// What is alive in a fairlead that a soak run has probed (soakprobe.mjs), and what has been left over.

import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { say } from './soakfairlead.mjs'

export const MIB = 2 ** 20
/** What garbage collection leaves to chance: a leak of ten bytes a flow is as much. */
const HEAP_SLACK = 2 * MIB
/** What V8 and malloc leave to chance: a leak of nine bytes a flow is as much after a million. */
const RESIDENT_SLACK = 8 * MIB
/** Handles and requests that may be kept to be used again. */
const ALIVE_SLACK = 8
/** How long what is left over may take to go. */
const SETTLE_MS = 20_000

/** What is alive in fairlead after a collection of garbage. */
export async function figures(fairlead) {
  fairlead.child.send('figures')
  const [told] = await once(fairlead.child, 'message')
  return { ...told, descriptors: fairlead.descriptors() }
}

/** Asks until nothing is left over, or for SETTLE_MS. */
export async function settle(fairlead, before) {
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

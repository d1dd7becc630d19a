// A connection that tells of changes, kept up: opened again whenever it ends.

import { pause } from '../core/clock.ts'
import type { Clock } from '../core/clock.ts'
import { oneLine } from '../core/errors.ts'
import type { Watcher } from './discovery.ts'

/** The wait after a connection that ended, doubled each time up to the longest. */
const SHORTEST_MS = 100
const LONGEST_MS = 10_000

/**
 * One connection, from its opening to its end. Calls `established` once it will hear of changes, and settles when
 * it hears of none any more: resolves when the other side ended it, rejects with what went wrong. Closes
 * everything and settles when `signal` aborts.
 */
export type Connection = (signal: AbortSignal, established: () => void) => Promise<void>

/**
 * Runs `connect` again and again until `signal` aborts: `watcher` is told of every connection established and
 * every one lost. Waits between two, 100 ms at first and up to 10 s while none is established.
 */
export function keepWatching(clock: Clock, signal: AbortSignal, watcher: Watcher, connect: Connection): void {
  void keep(clock, signal, watcher, connect)
}

async function keep(clock: Clock, signal: AbortSignal, watcher: Watcher, connect: Connection): Promise<void> {
  let wait = SHORTEST_MS
  // Nothing is said before the caller has returned.
  await Promise.resolve()
  while (!signal.aborted) {
    const began = clock.now()
    let up = false
    const established = () => {
      if (up || signal.aborted) return
      up = true
      watcher.connected()
    }
    const why = await connect(signal, established).then(() => 'the other side ended it', oneLine)
    if (signal.aborted) return
    watcher.lost(why)
    // One that held for a while was a good one.
    if (up && clock.now() - began > LONGEST_MS) wait = SHORTEST_MS
    await pause(clock, wait * (0.5 + clock.random() / 2), signal)
    wait = Math.min(LONGEST_MS, wait * 2)
  }
}

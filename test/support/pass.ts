// Time that passes in small steps, so that work of a few turns ends in between.

import type { FakeClock } from './clock.ts'

/** Moves `clock` by `ms` in `steps` equal steps; everything that needs a handful of turns is done after each. */
export async function pass(clock: FakeClock, ms: number, steps = 1): Promise<void> {
  for (let i = 0; i < steps; i++) {
    await clock.advance(ms / steps)
    for (let turn = 0; turn < 4; turn++) await clock.advance(0)
  }
}

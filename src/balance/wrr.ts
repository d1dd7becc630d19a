// Turns in proportion to weights, as evenly apart as they can be.

import { balancer } from './balancer.ts'
import { Rotation } from './rotation.ts'
import { Tables } from './tables.ts'

/**
 * Smooth weighted round robin: between two turns of one backend every other has had its weight's worth,
 * rounded up or down. A full backend's turn goes to the next; changes of the pool keep the rotation.
 */
export const wrr = balancer({ weighted: true }, (_settings, { clock }) => {
  const rotations = new Tables<Rotation>(
    clock,
    (electable, before) => new Rotation(electable, clock.random(), before),
  )
  return { elect: (_key, electable) => rotations.of(electable).next(electable) }
})

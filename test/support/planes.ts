// The planes the contract suite runs on, and why one is left out.

import type { Plane } from '../../src/plane/plane.ts'
import { portablePlane } from '../../src/plane/portable/plane.ts'

export interface PlaneCase {
  readonly name: Plane['name']
  /** Why it cannot be tried here; false when it can. */
  readonly skip: string | false
  readonly make: () => Plane
}

export const PLANES: readonly PlaneCase[] = [
  { name: 'portable', skip: false, make: () => portablePlane() },
  {
    name: 'native',
    skip: 'plane native: not part of this build',
    make: () => {
      throw new Error('not part of this build')
    },
  },
]

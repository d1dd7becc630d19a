// The planes the contract suite runs on.

import type { Plane } from '../../src/plane/plane.ts'
import { portablePlane } from '../../src/plane/portable/plane.ts'

export interface PlaneCase {
  readonly name: Plane['name']
  readonly make: () => Plane
}

export const PLANES: readonly PlaneCase[] = [{ name: 'portable', make: () => portablePlane() }]

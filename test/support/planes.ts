// The planes that contract and flow tests run on, each made once.

import { realClock } from '../../src/core/clock.ts'
import { loadAddon } from '../../src/plane/native/load.ts'
import { nativePlane } from '../../src/plane/native/plane.ts'
import type { Plane } from '../../src/plane/plane.ts'
import { portablePlane } from '../../src/plane/portable/plane.ts'

export interface PlaneCase {
  readonly name: Plane['name']
  /** Why it cannot be tried here; false where it can. */
  readonly skip: string | false
  readonly make: () => Plane
}

const loaded = loadAddon()
let portable: Plane | undefined
let native: Plane | undefined

export const PLANES: readonly PlaneCase[] = [
  { name: 'portable', skip: false, make: () => (portable ??= portablePlane()) },
  {
    name: 'native',
    skip: 'addon' in loaded ? false : `the native plane cannot be used here: ${loaded.why}`,
    make: () => (native ??= nativePlane(theAddon(), { threads: 2, clock: realClock })),
  },
]

function theAddon() {
  if ('addon' in loaded) return loaded.addon
  throw new Error(loaded.why)
}

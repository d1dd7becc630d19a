// The planes that contract and flow tests run on, each made once.

import t from 'tap'
import type { Test } from 'tap'
import { realClock } from '../../src/core/clock.ts'
import { loadAddon } from '../../src/plane/native/load.ts'
import { nativePlane } from '../../src/plane/native/plane.ts'
import type { Plane } from '../../src/plane/plane.ts'
import { portablePlane } from '../../src/plane/portable/plane.ts'
import { running } from './running.ts'

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

/** Registers tests on `t`; their managers run on the plane of that name. */
type Tests = (t: Test, running_: typeof running, name: Plane['name']) => void

/** Runs the same tests on each plane, one plane after the other, below a test of the plane's name. */
export function onEveryPlane(tests: Tests): void {
  for (const { name, skip, make } of PLANES)
    void t.test(`plane ${name}`, { skip }, async (t) => {
      tests(t, (t, document, overrides) => running(t, document, { plane: make(), ...overrides }), name)
    })
}

/** The addon of the native plane, where it can be used. */
export function theAddon() {
  if ('addon' in loaded) return loaded.addon
  throw new Error(loaded.why)
}

// What a list of backends did to the one before.

import { sameSettings } from '../core/backend.ts'
import type { Found } from '../core/backend.ts'
import { inSlices } from '../core/slices.ts'

/** Backends by identity. */
export type Backends = ReadonlyMap<string, Found>

/** Backends of a change that the status names; the rest is counted. */
const NAMED = 100

/** What a list did to the one before, by identity; at most a hundred of each, and how many there were. */
export interface Changed {
  /** Milliseconds since 1970. */
  readonly at: number
  readonly added: Names
  readonly removed: Names
  readonly changed: Names
}

/** How many, and the first of them. */
export interface Names {
  readonly count: number
  readonly first: readonly string[]
}

/** What `next` changes in `before`, in slices; undefined when nothing is different. `at` is milliseconds since 1970. */
export async function difference(before: Backends, next: Backends, at: number): Promise<Changed | undefined> {
  const [added, removed, changed] = [names(), names(), names()]
  await inSlices(next.values(), (found) => {
    const known = before.get(found.identity)
    if (!known) note(added, found)
    else if (!sameSettings(known, found)) note(changed, found)
  })
  await inSlices(before.values(), (found) => {
    if (!next.has(found.identity)) note(removed, found)
  })
  if (added.count + removed.count + changed.count === 0) return undefined
  return { at, added, removed, changed }
}

function names(): { count: number; first: string[] } {
  return { count: 0, first: [] }
}

function note(into: { count: number; first: string[] }, { identity }: Found): void {
  if (++into.count <= NAMED) into.first.push(identity)
}

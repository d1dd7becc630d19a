// Paths into a JSON value, as gobetween's users write them: `meta.addresses.[0]`, `labels."fairlead.weight"`.

import { name } from '../../core/settings.ts'

/** Names of fields and places in lists, from the outside in. */
export type Path = readonly (string | number)[]

/** One step and the dot behind it; a dot may be left out in front of "[0]". */
const STEP = /(?:\[(\d{1,9})\]|"([^"]*)"|'([^']*)'|([^.[\]"']+))(?:\.(?=.)|(?=\[)|$)/y

/** The steps of a path, or undefined when the text is none. The empty text is the value itself. */
export function parsePath(text: string): Path | undefined {
  const path: (string | number)[] = []
  for (STEP.lastIndex = 0; STEP.lastIndex < text.length;) {
    const step = STEP.exec(text)
    if (!step) return undefined
    path.push(step[1] !== undefined ? Number(step[1]) : (step[2] ?? step[3] ?? step[4])!)
  }
  return path
}

/** The value at a path; undefined when there is none. */
export function valueAt(value: unknown, path: Path): unknown {
  for (const step of path) {
    if (typeof value !== 'object' || value === null) return undefined
    if (Array.isArray(value) !== (typeof step === 'number') || !Object.hasOwn(value, step)) return undefined
    value = (value as Record<string | number, unknown>)[step]
  }
  return value
}

const EXPECTED = 'a path such as "meta.addresses.[0]"'

/** A path into a value. */
export const path = () => name().refine((text) => parsePath(text) !== undefined, { error: EXPECTED })

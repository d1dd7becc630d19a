// Backends out of a JSON document: one for each element of a list.

import type { Found } from '../../core/backend.ts'
import { messageOf } from '../../core/errors.ts'
import { inSlices } from '../../core/slices.ts'
import type { Answer } from '../discovery.ts'
import { elementsOf } from './jsonlist.ts'
import { NAMES, readNamed } from './named.ts'
import { parsePath, valueAt } from './paths.ts'
import type { Path } from './paths.ts'
import { Rejects } from './rejects.ts'

/** More elements than anybody has backends. */
const MOST_ELEMENTS = 100_000

/** The longest element; reading one keeps clients waiting. */
const MOST_BYTES = 64 * 1024

/** Where everything stands: `items` is the path to the list, the others lead into an element. */
export type Patterns = Readonly<Record<string, string>>

/** gobetween's: the list is the document, and fields are called what they are. */
export const USUAL: Patterns = { items: '', ...Object.fromEntries(NAMES.map((name) => [name, name])) }

/**
 * The backends of a document, in slices; the later of two equal ones counts, at the place of the first.
 * Rejects with what was expected when the document cannot be read, and when it lists more than 100,000
 * elements. Stops when `signal` aborts.
 */
export async function readElements(json: Buffer, patterns: Patterns, signal: AbortSignal): Promise<Answer> {
  const paths = new Map(Object.entries(patterns).map(([name, text]) => [name, parsePath(text) ?? []]))
  const backends = new Map<string, Found>()
  const rejects = new Rejects()
  let index = -1
  await inSlices(elementsOf(json, paths.get('items')!), (bytes) => {
    signal.throwIfAborted()
    if (!bytes) return
    if (++index === MOST_ELEMENTS) throw new Error(`the list has more than ${MOST_ELEMENTS} elements`)
    const { backend, wrong } = readElement(bytes, paths, patterns, `${patterns.items}[${index}]`)
    for (const each of wrong) rejects.add(each)
    if (backend) backends.set(backend.identity, backend)
  })
  return { backends: [...backends.values()], rejected: rejects.list() }
}

function readElement(
  bytes: Buffer,
  paths: ReadonlyMap<string, Path>,
  patterns: Patterns,
  place: string,
): ReturnType<typeof readNamed> {
  if (bytes.length > MOST_BYTES)
    return refused(`${place}: expected at most ${MOST_BYTES} bytes, got ${bytes.length}`)
  const element = parse(bytes, place)
  const valueOf = (name: string) => valueAt(element, paths.get(name)!)
  // Mesos-DNS answers with one such element when a service has no tasks.
  if (valueOf('host') === '' && valueOf('port') === '') return { backend: undefined, wrong: [] }
  const { backend, wrong } = readNamed(valueOf, (name) => patterns[name]!)
  return { backend, wrong: wrong.map((each) => `${place}: ${each}`) }
}

function refused(wrong: string): ReturnType<typeof readNamed> {
  return { backend: undefined, wrong: [wrong] }
}

function parse(bytes: Buffer, place: string): unknown {
  try {
    return JSON.parse(bytes.toString())
  } catch (error) {
    throw new Error(`the JSON cannot be read at ${place}: ${messageOf(error)}`, { cause: error })
  }
}

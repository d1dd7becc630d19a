// JSON the way gobetween answers: four blanks a level, no newline at the end, HTML escaped as Go does.

import { inSlices } from '../core/slices.ts'
import type { Chunks } from './chunks.ts'

const BLANKS = '    '

/** `value` as Go's `json.MarshalIndent` writes it, `depth` levels deep; what JavaScript leaves out is left out. */
export function goJson(value: unknown, depth = 0): string {
  const text = escaped(JSON.stringify(value, null, 4))
  // A line break in JSON is never part of a string.
  return depth === 0 ? text : text.replaceAll('\n', '\n' + BLANKS.repeat(depth))
}

/** Adds an object to `to`, `depth` levels deep; its entries are asked for and written a slice at a time. */
export function addObject(
  to: Chunks,
  entries: Iterable<readonly [string, unknown]>,
  depth = 0,
): Promise<void> {
  const texts = mapped(entries, ([key, value]) => `${goJson(key)}: ${goJson(value, depth + 1)}`)
  return enclosed(to, '{', '}', texts, depth)
}

/** Adds a list to `to`, `depth` levels deep; its items are asked for and written a slice at a time. */
export function addList(to: Chunks, items: Iterable<unknown>, depth = 0): Promise<void> {
  return enclosed(
    to,
    '[',
    ']',
    mapped(items, (item) => goJson(item, depth + 1)),
    depth,
  )
}

/** What `change` makes of each item, when it is asked for. */
export function* mapped<T, U>(items: Iterable<T>, change: (item: T) => U): Iterable<U> {
  for (const item of items) yield change(item)
}

async function enclosed(to: Chunks, open: string, close: string, texts: Iterable<string>, depth: number) {
  const line = '\n' + BLANKS.repeat(depth)
  let before = open
  await inSlices(texts, (text) => {
    to.add(before + line + BLANKS + text)
    before = ','
  })
  to.add(before === open ? open + close : line + close)
}

function escaped(json: string): string {
  if (!/[<>&\u2028\u2029]/.test(json)) return json
  return json.replace(
    /[<>&\u2028\u2029]/g,
    (each) => '\\u' + each.charCodeAt(0).toString(16).padStart(4, '0'),
  )
}

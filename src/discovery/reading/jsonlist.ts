// The elements of a list in a JSON document, one by one, so that a large one is read in slices: JSON.parse would
// keep every client waiting until it has read the whole.

import type { Path } from './paths.ts'
import { quote } from './options.ts'

/** After so many bytes the work may be interrupted. */
const STRIDE = 4096

/** A longer name of a field is not the one that is looked for. */
const LONGEST_NAME = 4096

const [TAB, LINE_FEED, RETURN, BLANK] = [0x09, 0x0a, 0x0d, 0x20]
const [QUOTE, BACKSLASH, COLON, COMMA] = [0x22, 0x5c, 0x3a, 0x2c]
const [LIST, LIST_END, TABLE, TABLE_END] = [0x5b, 0x5d, 0x7b, 0x7d]

/** Steps through the document; nothing is yielded where the work may be interrupted. */
type Walk<Result> = Generator<undefined, Result>

/**
 * The bytes of each element of the list at `path`, and nothing where the work may be interrupted. Elements are
 * not looked into; what stands beside the list must be brackets in pairs, and is not judged further. Throws
 * what was expected when there is no such list, or the document is cut short.
 */
export function* elementsOf(json: Buffer, path: Path): Generator<Buffer | undefined> {
  const list = yield* find(json, path)
  let at = yield* blank(json, list + 1)
  while (json[at] !== LIST_END) {
    const end = yield* skip(json, at)
    if (end === at) throw fault(json, at, 'a value')
    yield json.subarray(at, end)
    at = yield* next(json, end, LIST_END)
  }
  at = yield* blank(json, path.length > 0 ? yield* skip(json, at + 1, path.length) : at + 1)
  if (at < json.length) throw fault(json, at, 'the end')
}

/** Where the list at `path` begins. */
function* find(json: Buffer, path: Path): Walk<number> {
  let at = yield* blank(json, json[0] === 0xef ? 3 : 0)
  for (const step of path) {
    const inside = typeof step === 'number' ? yield* element(json, at, step) : yield* field(json, at, step)
    if (inside === undefined) throw new Error(`expected ${listAt(path)}, got nothing there`)
    at = inside
  }
  if (json[at] !== LIST) throw fault(json, at, listAt(path))
  return at
}

function listAt(path: Path): string {
  return path.length > 0 ? `a list at ${quote(path.join('.'))}` : 'a list of elements'
}

/** Where element number `index` of the list at `at` begins; undefined when there is none. */
function* element(json: Buffer, at: number, index: number): Walk<number | undefined> {
  if (json[at] !== LIST) return undefined
  at = yield* blank(json, at + 1)
  for (let i = 0; json[at] !== LIST_END; i++) {
    if (i === index) return at
    at = yield* next(json, yield* skip(json, at), LIST_END)
  }
  return undefined
}

/** Where the value of a field of the table at `at` begins; undefined when there is none. */
function* field(json: Buffer, at: number, name: string): Walk<number | undefined> {
  if (json[at] !== TABLE) return undefined
  at = yield* blank(json, at + 1)
  while (json[at] !== TABLE_END) {
    if (json[at] !== QUOTE) throw fault(json, at, 'the name of a field')
    const end = yield* skip(json, at)
    const found = isName(json.subarray(at, end), name)
    at = yield* blank(json, end)
    if (json[at] !== COLON) throw fault(json, at, '":"')
    at = yield* blank(json, at + 1)
    if (found) return at
    at = yield* next(json, yield* skip(json, at), TABLE_END)
  }
  return undefined
}

function isName(bytes: Buffer, name: string): boolean {
  return bytes.length <= LONGEST_NAME && JSON.parse(bytes.toString()) === name
}

/** Behind the comma after a value, or at the end of what holds it. */
function* next(json: Buffer, from: number, end: number): Walk<number> {
  const at = yield* blank(json, from)
  if (json[at] === end) return at
  if (json[at] !== COMMA) throw fault(json, at, '","')
  const following = yield* blank(json, at + 1)
  if (json[following] === end) throw fault(json, following, 'a value')
  return following
}

/** Behind the value at `from`; or, inside `open` brackets, behind the last of those. */
function* skip(json: Buffer, from: number, open = 0): Walk<number> {
  let quoted = false
  let due = from + STRIDE
  for (let at = from; at < json.length; at++) {
    if (at >= due) {
      due = at + STRIDE
      yield
    }
    const byte = json[at]!
    if (quoted) {
      if (byte === BACKSLASH) at++
      else if (byte === QUOTE) quoted = false
      if (!quoted && open === 0) return at + 1
    } else if (byte === QUOTE) quoted = true
    else if (byte === LIST || byte === TABLE) open++
    else if (byte === LIST_END || byte === TABLE_END) {
      if (open === 0) return at
      if (--open === 0) return at + 1
    } else if (open === 0 && (byte === COMMA || byte === COLON || isBlank(byte))) return at
  }
  if (quoted || open > 0) throw new Error('the JSON is cut short')
  return json.length
}

/** Behind the blanks at `from`. */
function* blank(json: Buffer, from: number): Walk<number> {
  let at = from
  for (let due = from + STRIDE; at < json.length && isBlank(json[at]!); at++) {
    if (at < due) continue
    due = at + STRIDE
    yield
  }
  return at
}

function isBlank(byte: number): boolean {
  return byte === BLANK || byte === LINE_FEED || byte === RETURN || byte === TAB
}

function fault(json: Buffer, at: number, expected: string): Error {
  const got = at < json.length ? quote(json.toString('utf8', at, at + 100)) : 'the end'
  return new Error(`expected ${expected} at byte ${at + 1} of the JSON, got ${got}`)
}

// A zod schema seen as a tree of keys: what tidying, display and the reference ask of it.

import { z } from 'zod'
import { formatDuration } from '../core/duration.ts'

type Schema = z.core.$ZodType

/** The schema inside its optional, default, prefault and pipe wrappers. */
export function core(schema: Schema): Schema {
  if (schema instanceof z.core.$ZodPipe) return core(schema._zod.def.in)
  const inner = (schema._zod.def as { innerType?: Schema }).innerType
  return inner ? core(inner) : schema
}

/** Its keys, when it is an object. */
export function keysOf(schema: Schema): Readonly<Record<string, Schema>> | undefined {
  const inside = core(schema)
  return inside instanceof z.core.$ZodObject ? inside._zod.def.shape : undefined
}

/** What its items are, when it is a list of tables. */
export function itemsOf(schema: Schema): Schema | undefined {
  const inside = core(schema)
  const item = inside instanceof z.core.$ZodArray ? inside._zod.def.element : undefined
  return item && (keysOf(item) || kindsOf(item)) ? item : undefined
}

/** Its alternatives by kind, when it is a union of objects told apart by `kind`. */
export function kindsOf(schema: Schema): ReadonlyMap<string, Schema> | undefined {
  const inside = core(schema)
  if (!(inside instanceof z.core.$ZodDiscriminatedUnion)) return undefined
  let kinds = KINDS.get(inside)
  if (!kinds)
    KINDS.set(inside, (kinds = new Map(inside._zod.def.options.map((each) => [kindOf(each), each]))))
  return kinds
}

const KINDS = new WeakMap<Schema, ReadonlyMap<string, Schema>>()

/** True when its text is a duration. */
export function isDuration(schema: Schema): boolean {
  for (let each: Schema | undefined = schema; each; each = within(each)) {
    if (z.globalRegistry.get(each)?.duration) return true
  }
  return false
}

/** What stands for it when it is not written, in the words of a document; undefined when nothing does. */
export function usual(schema: Schema): unknown {
  if (schema instanceof z.core.$ZodPrefault) return schema._zod.def.defaultValue
  const inner = within(schema)
  if (!(schema instanceof z.core.$ZodDefault)) return inner && usual(inner)
  const { defaultValue } = schema._zod.def
  return isDuration(schema) ? durationText(defaultValue as number) : defaultValue
}

/** As short as an operator would write it: `30s`, `1m`, `0`. */
export function durationText(ms: number): string {
  return ms === 0
    ? '0'
    : formatDuration(ms)
        .replace(/(?<=m)0s$/, '')
        .replace(/(?<=h)0m$/, '')
}

function within(schema: Schema): Schema | undefined {
  return (schema._zod.def as { innerType?: Schema }).innerType
}

function kindOf(option: Schema): string {
  const kind = keysOf(option)!.kind as z.core.$ZodLiteral
  return String(kind._zod.def.values[0])
}

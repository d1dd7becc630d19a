// A document reduced to what its schema knows: names matched, nulls dropped, strays named.

import * as balancers from '../balance/kinds.ts'
import type { Problem } from '../core/errors.ts'
import { homesOf } from './homes.ts'
import { legacyAdvice } from './legacy.ts'
import { nearest } from './nearest.ts'
import { pathText, valueText } from './problems.ts'
import { itemsOf, keysOf, kindsOf } from './shape.ts'
import type { z } from 'zod'

type Schema = z.core.$ZodType

const UNKNOWN = 'is not a known setting'
export type Table = Record<string, unknown>

/**
 * A copy of `value` with only the keys of `schema`, spelt as in the schema. Keys match exactly, else in any
 * case; null stands for "not written". Each key left out is added to `strays`. What is not a table, and
 * sections of unknown kind, stay as they are for the schema to judge.
 */
export function tidy(
  schema: Schema,
  value: unknown,
  path: readonly PropertyKey[],
  strays: Problem[],
): unknown {
  const items = itemsOf(schema)
  if (items && Array.isArray(value)) return value.map((each, i) => tidy(items, each, [...path, i], strays))
  if (!isTable(value)) return value
  const kinds = kindsOf(schema)
  const kind = kinds && written(value, 'kind')
  const shape = keysOf(kinds ? (kinds.get(kind as string) ?? schema) : schema)
  if (!shape) return kinds ? spelt(value, 'kind') : value

  const tidied: Table = {}
  for (const [raw, inside] of Object.entries(value)) {
    const key = match(raw, shape, value)
    if (key === undefined)
      strays.push({
        path: pathText([...path, raw]),
        message: strays.length < MOST_ADVISED ? advice(raw, shape, kinds, kind) : UNKNOWN,
      })
    else if (inside !== null && inside !== undefined)
      tidied[key] = tidy(shape[key]!, inside, [...path, key], strays)
  }
  return tidied
}

/** Drops the keys of a server that belong to balancer kinds other than its own, and names them in `strays`. */
export function tidyBalance(server: Table, path: readonly PropertyKey[], strays: Problem[]): void {
  const balance = server.balance ?? 'weight'
  if (typeof balance !== 'string' || !Object.hasOwn(balancers, balance)) return
  const own = settingsOf(balance)
  for (const [key, owners] of BALANCE_KEYS) {
    if (!Object.hasOwn(server, key) || Object.hasOwn(own, key)) continue
    delete server[key]
    const message = `is a setting of ${owners.join(', ')}; balance is ${valueText(balance)}`
    strays.push({ path: pathText([...path, key]), message })
  }
}

/** True for a table of a document: an object that is no list and no date. */
export function isTable(value: unknown): value is Table {
  if (typeof value !== 'object' || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === null || prototype === Object.prototype
}

/** The spelling of `key` that `table` uses: exact, else in any case. */
export function spellingIn(table: Table, key: string): string | undefined {
  if (Object.hasOwn(table, key)) return key
  return Object.keys(table).find((each) => each.toLowerCase() === key)
}

function written(table: Table, key: string): unknown {
  const spelling = spellingIn(table, key)
  return spelling === undefined ? undefined : table[spelling]
}

function spelt(table: Table, key: string): Table {
  return { ...table, [key]: written(table, key) }
}

function match(raw: string, shape: Readonly<Record<string, Schema>>, table: Table): string | undefined {
  if (Object.hasOwn(shape, raw)) return raw
  const lower = raw.toLowerCase()
  const key = Object.keys(shape).find((each) => each.toLowerCase() === lower)
  // The exact spelling wins when both are there.
  return key !== undefined && spellingIn(table, key) === raw ? key : undefined
}

/** Looking for what was meant costs more than reading; nobody reads so many answers. */
const MOST_ADVISED = 100

type Kinds = ReadonlyMap<string, Schema>

function advice(raw: string, shape: Readonly<Record<string, Schema>>, kinds?: Kinds, kind?: unknown): string {
  const legacy = legacyAdvice(raw)
  if (legacy) return legacy
  const owners = [...(kinds ?? [])]
    .filter(([, each]) => Object.hasOwn(keysOf(each)!, raw))
    .map(([name]) => name)
  if (owners.length > 0) return `is a setting of ${owners.join(', ')}; kind is ${valueText(kind)}`
  const homes = homesOf(raw)
  if (homes.length > 0) return `${UNKNOWN} here; it belongs in ${homes.join(', ')}`
  const meant = nearest(raw, Object.keys(shape))
  return meant ? `${UNKNOWN}; did you mean ${meant}?` : UNKNOWN
}

function settingsOf(balance: string): object {
  return balancers[balance as keyof typeof balancers].settings
}

/** Each key a balancer kind owns, with the kinds that do. */
const BALANCE_KEYS = new Map<string, string[]>()
for (const [name, { settings }] of Object.entries(balancers)) {
  for (const key of Object.keys(settings)) BALANCE_KEYS.set(key, [...(BALANCE_KEYS.get(key) ?? []), name])
}

// The schema told to people and editors: JSON Schema, and the tables of docs/configuration.md.

import { z } from 'zod'
import * as balancers from '../balance/kinds.ts'
import { documentSchema } from './schema.ts'
import { core, isDuration, itemsOf, keysOf, kindsOf, usual } from './shape.ts'

type Schema = z.core.$ZodType
type Json = Record<string, unknown>

/** The document as JSON Schema (draft 2020-12), for editors. */
export function jsonSchema(): Json {
  const schema = z.toJSONSchema(documentSchema, {
    io: 'input',
    override: ({ zodSchema, jsonSchema }) => polish(zodSchema, jsonSchema as Json),
  }) as Json
  return { $schema: schema.$schema, title: 'fairlead configuration', ...schema }
}

/** Marks of zod's own making that say nothing to an editor become words that do. */
function polish(schema: Schema, json: Json): void {
  const standard = usual(schema)
  if (standard !== undefined && !keysOf(schema) && !kindsOf(schema)) json.default = standard
  if (typeof json.least === 'number') {
    const { least } = json
    json.anyOf = (json.anyOf as Json[]).map((each) =>
      each.type === 'string' ? each : { type: 'integer', minimum: least },
    )
  }
  delete json.least
  delete json.duration
}

/** One key of the document: `servers.NAME.discovery.interval`. */
export interface Key {
  readonly name: string
  readonly type: string
  /** As a config would write it; empty when there is none. */
  readonly standard: string
  readonly required: boolean
  readonly description: string
}

/** Every section with its keys: `general`, `api`, `api.basic_auth`, `server`, `server.discovery.exec` … */
export function sections(): ReadonlyMap<string, readonly Key[]> {
  const found = new Map<string, readonly Key[]>()
  const { servers, ...rest } = keysOf(documentSchema)!
  collect('', rest, found)
  const server = core(servers!) as z.core.$ZodRecord
  collect('server', keysOf(server._zod.def.valueType)!, found)
  return found
}

function collect(
  name: string,
  shape: Readonly<Record<string, Schema>>,
  found: Map<string, readonly Key[]>,
): void {
  const plain = Object.entries(shape).filter(([, schema]) => !keysOf(schema) && !kindsOf(schema))
  found.set(
    name || 'general',
    plain.map(([key, schema]) => keyOf(name, key, schema)),
  )
  for (const [key, schema] of Object.entries(shape)) {
    const path = name ? `${name}.${key}` : key
    const inside = keysOf(schema)
    if (inside) collect(path, inside, found)
    for (const [kind, each] of kindsOf(schema) ?? []) collectKind(path, kind, each, schema, found)
  }
}

/** Keys that most kinds have are told once, those of a kind under its name. */
function collectKind(
  path: string,
  kind: string,
  each: Schema,
  union: Schema,
  found: Map<string, readonly Key[]>,
): void {
  const shapes = [...kindsOf(union)!.values()].map((option) => keysOf(option)!)
  const isCommon = (key: string) =>
    shapes.filter((shape) => Object.hasOwn(shape, key)).length > shapes.length / 2
  const own = Object.entries(keysOf(each)!).filter(([key]) => !isCommon(key))
  if (!found.has(path)) {
    const common = Object.entries(Object.assign({}, ...shapes) as (typeof shapes)[number]).filter(([key]) =>
      isCommon(key),
    )
    found.set(
      path,
      common.map(([key, schema]) => keyOf(path, key, schema, [...kindsOf(union)!.keys()])),
    )
  }
  found.set(
    `${path}.${kind}`,
    own.map(([key, schema]) => keyOf(path, key, schema)),
  )
}

function keyOf(section: string, key: string, schema: Schema, kinds?: readonly string[]): Key {
  const standard = usual(schema)
  const place = section.split('.').at(-1)!
  const described = z.globalRegistry.get(schema)?.description ?? ''
  const owners = place === 'server' ? ownersOf(key) : []
  return {
    name: key,
    type: key === 'kind' && kinds ? kinds.map(code).join(', ') : typeOf(schema),
    standard: standard === undefined ? '' : JSON.stringify(standard),
    required: standard === undefined && schema._zod.optin !== 'optional',
    description: owners.length > 0 ? `${described} For balance ${owners.map(code).join(', ')}.` : described,
  }
}

/** The balancer kinds that own a key. */
function ownersOf(key: string): string[] {
  return Object.entries(balancers)
    .filter(([, { settings }]) => Object.hasOwn(settings, key))
    .map(([name]) => name)
}

function typeOf(schema: Schema): string {
  const inside = core(schema)
  if (isDuration(schema)) return 'duration'
  if (inside instanceof z.core.$ZodEnum)
    return Object.values(inside._zod.def.entries).map(String).map(code).join(', ')
  if (inside instanceof z.core.$ZodBoolean) return 'true or false'
  if (itemsOf(schema)) return 'list of tables'
  if (inside instanceof z.core.$ZodArray || inside instanceof z.core.$ZodTuple) return 'list of strings'
  if (inside instanceof z.core.$ZodRecord) return 'table of strings'
  if (!(inside instanceof z.core.$ZodUnion)) return 'string'
  if (inside._zod.def.options.some((each) => each instanceof z.core.$ZodArray))
    return 'string or list of strings'
  return 'number'
}

/**
 * `markdown` with what stands between `<!-- keys SECTION -->` and `<!-- end -->` replaced by the table of that
 * section. Throws when it names a section there is none of, or leaves one out.
 */
export function fillTables(markdown: string): string {
  const all = sections()
  const told = new Set<string>()
  const filled = markdown.replace(
    /(<!-- keys (\S+) -->\n)[^]*?(<!-- end -->)/g,
    (_, head: string, name: string, tail: string) => {
      const keys = all.get(name)
      if (!keys) throw new Error(`there is no section ${name}`)
      told.add(name)
      return `${head}\n${tableOf(keys)}\n${tail}`
    },
  )
  const missing = [...all].filter(([name, keys]) => keys.length > 0 && !told.has(name)).map(([name]) => name)
  if (missing.length > 0) throw new Error(`sections without a table: ${missing.join(', ')}`)
  return filled
}

function tableOf(keys: readonly Key[]): string {
  const rows = keys.map(({ name, type, standard, required, description }) => {
    const usually = required ? 'required' : standard && code(standard)
    return `| ${code(name)} | ${type} | ${cell(usually)} | ${cell(description)} |\n`
  })
  return '| key | type | default | meaning |\n|---|---|---|---|\n' + rows.join('')
}

function code(text: string): string {
  return `\`${text}\``
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|')
}

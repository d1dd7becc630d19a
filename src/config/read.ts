// A document that came from anywhere, checked whole: a config, or every problem in it at once.

import { ConfigError } from '../core/errors.ts'
import type { Problem } from '../core/errors.ts'
import { maskProblems, pathText, problemsOf, valueText, wordsFor } from './problems.ts'
import { connectionOptions, serverSchema } from './server.ts'
import type { ServerSettings } from './server.ts'
import { generalSchema } from './schema.ts'
import type { General } from './schema.ts'
import { isTable, spellingIn, tidy, tidyBalance } from './tidy.ts'
import type { Table } from './tidy.ts'
import type { z } from 'zod'

/** A server as it runs, and as it was written. */
export interface ServerConfig {
  readonly name: string
  readonly settings: ServerSettings
  /** What the operator wrote, known keys only; gobetween's four connection options also from `[defaults]`. */
  readonly written: Readonly<Table>
}

/** What `[defaults]` says, as written; only keys that are valid. */
export type Defaults = Readonly<Table>

export interface Config extends Omit<General, 'defaults'> {
  readonly defaults: Defaults
  readonly servers: ReadonlyMap<string, ServerConfig>
  /** The document as written, known keys only, without its servers. */
  readonly written: Readonly<Table>
}

export interface ReadOptions {
  /** Unknown keys are problems instead of warnings. */
  readonly strict?: boolean
}

/**
 * Reads a whole document. Unknown keys are warnings and otherwise ignored. Throws `ConfigError` with every
 * problem found; `source` names the document in it.
 */
export function readDocument(
  input: unknown,
  source: string,
  { strict = false }: ReadOptions = {},
): { config: Config; warnings: Problem[] } {
  if (!isTable(input))
    throw new ConfigError(source, [{ path: '', message: `expected a table, got ${valueText(input)}` }])
  const warnings: Problem[] = []
  const serversKey = spellingIn(input, 'servers')
  const rest = Object.fromEntries(Object.entries(input).filter(([key]) => key !== serversKey))
  const written = tidy(generalSchema, rest, [], warnings) as Table
  const parsed = parse(generalSchema, written)
  const problems = problemsOf(parsed.issues, written)
  const defaults = validDefaults(written.defaults, parsed.issues)

  const servers = new Map<string, ServerConfig>()
  const tables: unknown = (serversKey && input[serversKey]) ?? {}
  if (!isTable(tables))
    problems.push({ path: 'servers', message: `expected a table, got ${valueText(tables)}` })
  else
    for (const [name, table] of Object.entries(tables)) {
      const server = readOne(name, table, defaults, warnings, problems)
      if (server) servers.set(name, server)
    }

  if (parsed.output) problems.push(...maskProblems(written))
  refuse(source, problems, warnings, strict)
  return { config: { ...parsed.output!, defaults, servers, written }, warnings }
}

/**
 * Reads one server on its own, as the REST API is given it; `defaults` are those of the running config.
 * Throws `ConfigError` with every problem found.
 */
export function readServer(
  name: string,
  input: unknown,
  defaults: Defaults,
  { strict = false }: ReadOptions = {},
): { server: ServerConfig; warnings: Problem[] } {
  const warnings: Problem[] = []
  const problems: Problem[] = []
  const server = readOne(name, input, defaults, warnings, problems)
  refuse(`server ${JSON.stringify(name)}`, problems, warnings, strict)
  return { server: server!, warnings }
}

/** Throws `ConfigError` when there is a problem; under `strict` every warning is one. */
function refuse(source: string, problems: Problem[], warnings: Problem[], strict: boolean): void {
  if (strict) problems.push(...warnings)
  if (problems.length > 0) throw new ConfigError(source, problems, strict ? [] : warnings)
}

function readOne(
  name: string,
  input: unknown,
  defaults: Defaults,
  warnings: Problem[],
  problems: Problem[],
): ServerConfig | undefined {
  const path = ['servers', name]
  const own = tidy(serverSchema, input, path, warnings)
  if (isTable(own)) tidyBalance(own, path, warnings)
  const whole = isTable(own) ? { ...defaults, ...own } : own
  const { output, issues } = parse(serverSchema, whole)
  problems.push(...problemsOf(issues, whole, path))
  if (output) problems.push(...maskProblems(own, path))
  if (name === '') problems.push({ path: 'servers', message: 'expected a server name, got ""' })
  if (!output || !isTable(own)) return undefined
  warnings.push(...weakVersions(own, path))
  if (output.udp && output.protocol !== 'udp') {
    const message = `has no effect: protocol is ${valueText(output.protocol)}`
    warnings.push({ path: pathText([...path, 'udp']), message })
  }
  return { name, settings: output, written: { ...connectionDefaults(defaults), ...own } }
}

/** A schema's answer: what it read, or why it could not. */
function parse<S extends z.ZodType>(
  schema: S,
  input: unknown,
): { output?: z.output<S>; issues: z.core.$ZodIssue[] } {
  const result = schema.safeParse(input, { error: (issue) => wordsFor(issue) })
  return result.success ? { output: result.data, issues: [] } : { issues: result.error.issues }
}

/** A wrong default is told once, not again for each server that would take it. */
function validDefaults(written: unknown, issues: readonly z.core.$ZodIssue[]): Defaults {
  if (!isTable(written)) return {}
  const wrong = new Set(issues.filter(({ path }) => path[0] === 'defaults').map(({ path }) => path[1]))
  return Object.fromEntries(Object.entries(written).filter(([key]) => !wrong.has(key)))
}

function connectionDefaults(defaults: Defaults): Table {
  return Object.fromEntries(Object.entries(defaults).filter(([key]) => Object.hasOwn(connectionOptions, key)))
}

const VERSIONS = ['', 'tls1', 'tls1.1', 'tls1.2', 'tls1.3']

/** gobetween takes any text as a TLS version and ignores what it does not know. */
function weakVersions(server: Table, path: readonly string[]): Problem[] {
  const found: Problem[] = []
  for (const section of ['tls', 'backends_tls'])
    for (const key of ['min_version', 'max_version']) {
      const version = (server[section] as Table | undefined)?.[key]
      if (version === undefined || VERSIONS.includes(version as string)) continue
      const message = `has no effect: expected one of ${VERSIONS.slice(1).join(', ')}, got ${valueText(version)}`
      found.push({ path: [...path, section, key].join('.'), message })
    }
  return found
}

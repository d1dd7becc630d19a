// What zod found, in words for the operator: where it stood, what was expected there, what was got.

import type { z } from 'zod'
import type { Problem } from '../core/errors.ts'

type Path = readonly PropertyKey[]

/** Keys whose values are never shown. */
const SECRET = /password|token|login|secret|(?:^|_)acl(?:$|_)/i

/** Keys of lists that may hold secrets: an HTTP header is one as often as not. */
const SECRETS = /_headers$/i

/** User and password inside a URL. */
const CREDENTIALS = /(?<=:\/\/)[^/\s]+(?=@)/g

const MASK = '***'
const SHOWN = 60

/** Most problems told of one server, or of what is not a server. */
const MOST = 1000

/** All issues as problems, one a place, with values looked up in `input`, the document that was parsed. */
export function problemsOf(issues: readonly z.core.$ZodIssue[], input: unknown, at: Path = []): Problem[] {
  const problems = new Map<string, Problem>()
  for (const issue of issues.slice(0, MOST)) {
    const path = pathText([...at, ...issue.path])
    // A value that could not be read fails the rules about it as well: the first word says why.
    if (problems.has(path)) continue
    problems.set(path, { path, message: `expected ${expectation(issue)}, got ${got(input, issue.path)}` })
  }
  const more = issues.length - MOST
  return [
    ...problems.values(),
    ...(more > 0 ? [{ path: pathText(at), message: `${more} more problems` }] : []),
  ]
}

/** `servers.web.access.rules[2]`; names that would be misread are quoted. */
export function pathText(path: Path): string {
  return path.reduce<string>((text, part) => {
    if (typeof part === 'number') return `${text}[${part}]`
    const name = String(part)
    const key = /^[\w-]+$/.test(name) ? name : JSON.stringify(name)
    return text ? `${text}.${key}` : key
  }, '')
}

/** The value as JSON without its secrets, cut to what fits a line. */
export function valueText(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (typeof value === 'number') return String(value)
  const json = jsonText(value)
  return json.length > SHOWN ? `${json.slice(0, SHOWN)}…` : json
}

/** A copy of `value` with every secret in it replaced by `***`. */
export function withoutSecrets<T>(value: T): T {
  return JSON.parse(JSON.stringify(value, mask)) as T
}

/** Secrets that are the mask `withoutSecrets` puts in their place: a dump that was loaded again. */
export function maskProblems(input: unknown, at: Path = []): Problem[] {
  if (typeof input !== 'object' || input === null) return []
  return Object.entries(input).flatMap(([key, value]) => {
    const path = [...at, key]
    if (value !== MASK || !isSecret(key)) return maskProblems(value, path)
    const message = `expected the secret itself, got the mask of a dump; /dump?secrets=true shows it`
    return [{ path: pathText(path), message }]
  })
}

/** True for a key, or a line of a file, that may hold a secret. */
export function isSecret(text: string): boolean {
  return SECRET.test(text) || SECRETS.test(text)
}

/** zod's contextual error map: words for issues whose schema brings none. */
export function wordsFor(issue: { code?: string; expected?: string; options?: unknown }): string | undefined {
  if (Array.isArray(issue.options)) return `one of ${issue.options.join(', ')}`
  if (issue.code !== 'invalid_type') return undefined
  return TYPES[issue.expected ?? ''] ?? issue.expected
}

const TYPES: Record<string, string> = {
  object: 'a table',
  record: 'a table',
  array: 'a list',
  string: 'a string',
  number: 'a number',
  boolean: 'true or false',
}

function expectation(issue: z.core.$ZodIssue): string {
  const raw = issue as { options?: unknown; message: string }
  return issue.code === 'invalid_union' && Array.isArray(raw.options) ? wordsFor(raw)! : issue.message
}

function got(input: unknown, path: Path): string {
  const key = path.findLast((part) => typeof part === 'string') ?? ''
  const value = valueAt(input, path)
  const isHidden = isSecret(key) || path.some((part) => SECRETS.test(String(part)))
  return isHidden && value !== undefined ? 'a value that is not shown' : valueText(value)
}

function valueAt(input: unknown, path: Path): unknown {
  return path.reduce<unknown>((value, part) => {
    const inside = typeof value === 'object' && value !== null && Object.hasOwn(value, part)
    return inside ? (value as Record<PropertyKey, unknown>)[part] : undefined
  }, input)
}

function jsonText(value: unknown): string {
  try {
    return JSON.stringify(value, mask)
  } catch {
    // Nested deeper than the stack.
    return 'a value too deep to show'
  }
}

function mask(key: string, value: unknown): unknown {
  // A table stays one: a server may be called "login".
  if (value !== undefined && (SECRETS.test(key) || (isSecret(key) && typeof value !== 'object'))) return MASK
  return typeof value === 'string' ? value.replace(CREDENTIALS, MASK) : value
}

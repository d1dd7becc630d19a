// Text to a document: TOML or JSON, with the line and a caret where it breaks.

import { parse as readToml } from 'toml'
import { ConfigError, messageOf } from '../core/errors.ts'
import { jsonFault } from './json.ts'
import { isSecret } from './problems.ts'

export const FORMATS = ['toml', 'json'] as const
export type Format = (typeof FORMATS)[number]

/** What `text` says. Throws `ConfigError` with line, column and the line itself when it cannot be read. */
export function parseText(text: string, format: Format, source: string): unknown {
  return format === 'json' ? parseJson(text, source) : parseToml(text, source)
}

/** What the JSON in `text` says; the position of a fault does not depend on the Node release. */
export function parseJson(text: string, source: string): unknown {
  const bare = text.replace(/^\uFEFF/, '')
  try {
    return JSON.parse(bare)
  } catch (error) {
    const fault = jsonFault(bare)
    if (!fault) throw new ConfigError(source, [{ path: '', message: messageOf(error) }])
    const before = bare.slice(0, fault.at).split('\n')
    throw syntaxError(bare, source, before.length, before.at(-1)!.length + 1, fault.why)
  }
}

function parseToml(text: string, source: string): unknown {
  try {
    return readToml(text)
  } catch (error) {
    const { line, column, why } = tomlFault(error)
    throw syntaxError(text, source, line, column, why)
  }
}

interface TomlFault {
  line?: number
  column?: number
  location?: { start: { line: number; column: number } }
  found?: string | null
}

/** The parser has a position in one of two places, and lists of everything it would have taken. */
function tomlFault(thrown: unknown): { line: number; column: number; why: string } {
  const { line, column, location, found } = thrown as TomlFault
  const start = location?.start ?? { line: line ?? 0, column: column ?? 0 }
  const why = location ? `unexpected ${thing(found)}` : plain(messageOf(thrown))
  return { ...start, why }
}

/** Lower case, no full stop. */
function plain(sentence: string): string {
  return sentence.charAt(0).toLowerCase() + sentence.slice(1).replace(/\.$/, '')
}

function thing(found: string | null | undefined): string {
  if (found === null || found === undefined) return 'end of file'
  return found === '\n' || found === '\r' ? 'end of line' : JSON.stringify(found)
}

const WIDTH = 100

function syntaxError(text: string, source: string, line: number, column: number, why: string): ConfigError {
  if (line === 0) return new ConfigError(source, [{ path: '', message: why }])
  const row = text.split(/\r?\n/, line)[line - 1] ?? ''
  const from = Math.max(0, column - 1 - WIDTH / 2)
  const excerpt = row.slice(from, from + WIDTH).replaceAll('\t', ' ')
  const lines =
    isSecret(row) || row === ''
      ? []
      : [`    ${excerpt}`, `    ${' '.repeat(Math.max(0, column - 1 - from))}^`]
  return new ConfigError(source, [
    { path: `${source}:${line}:${column}`, message: [why, ...lines].join('\n') },
  ])
}

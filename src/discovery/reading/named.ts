// A backend told by named values: the fields of a JSON element, the groups of a pattern.

import { parseBackendAddress } from '../../core/address.ts'
import { found } from '../../core/backend.ts'
import type { Found } from '../../core/backend.ts'
import { optionOf, OPTION_NAMES, quote, readOption } from './options.ts'

/** The values a backend is told by. */
export const NAMES = ['host', 'port', ...OPTION_NAMES]

/**
 * Reads a backend; `valueOf` gives the value of a name and `placeOf` says where it was looked for. Without a
 * host and a port there is no backend. An option that is wrong is told in `wrong` and has no effect, as with labels.
 */
export function readNamed(
  valueOf: (name: string) => unknown,
  placeOf: (name: string) => string,
): { readonly backend: Found | undefined; readonly wrong: readonly string[] } {
  const wrong: string[] = []
  const refuse = (name: string, expected: string) =>
    void wrong.push(`expected ${expected} at ${quote(placeOf(name))}, got ${shown(valueOf(name))}`)

  const host = hostText(valueOf('host'))
  if (host === undefined) refuse('host', 'a host')
  const address = host === undefined ? undefined : parseBackendAddress(`${host}:${portText(valueOf('port'))}`)
  if (!address) {
    if (host !== undefined) refuse('port', 'a port')
    return { backend: undefined, wrong }
  }
  const options: Record<string, unknown> = {}
  for (const name of OPTION_NAMES) {
    const value = valueOf(name)
    if (value === undefined || value === null || value === '') continue
    const option = optionOf(name)!
    const read = readOption(option, textOf(value))
    if (typeof read === 'object') refuse(name, read.expected)
    else options[option] = read
  }
  return { backend: found(address, options), wrong }
}

/** A host as addresses have it, IPv6 in brackets; undefined when the value is none. */
function hostText(value: unknown): string | undefined {
  if (typeof value !== 'string' || value.length > 253 || value === 'unix') return undefined
  const host = value.includes(':') && !value.startsWith('[') ? `[${value}]` : value
  return parseBackendAddress(`${host}:1`) ? host : undefined
}

/** A port as text; empty for what is none. */
function portText(value: unknown): string {
  return typeof value === 'number' || typeof value === 'string' ? String(value) : ''
}

/** A value as text; of a number the whole part, as in gobetween. Empty for a list or a table. */
function textOf(value: unknown): string {
  if (typeof value === 'number') return String(Math.trunc(value))
  return typeof value === 'string' || typeof value === 'boolean' ? String(value) : ''
}

function shown(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (typeof value === 'string') return quote(value)
  if (Array.isArray(value)) return 'a list'
  return typeof value === 'object' && value !== null ? 'a table' : JSON.stringify(value)
}

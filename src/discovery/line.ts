// Backend lines: "host:port weight=1 priority=1 max_connections=0 sni=name", read into what they describe.

import { parseBackendAddress } from '../core/address.ts'
import { found, identity } from '../core/backend.ts'
import type { Found } from '../core/backend.ts'
import { inSlices } from '../core/slices.ts'
import type { Answer } from './discovery.ts'

/** Rejected entries that are named one by one; the rest is counted. */
const NAMED = 100

/** The largest number an option takes: 31 bits, what the pool's columns hold. */
const LARGEST = 2 ** 31 - 1

const OPTIONS = {
  weight: 'weight',
  priority: 'priority',
  max_connections: 'maxConnections',
  sni: 'sni',
} as const

/**
 * Reads one backend line: an address, then options in any order with blanks between them. Says what was
 * expected and what was got instead when it is not one.
 */
export function readLine(line: string): Found | { readonly wrong: string } {
  const [address, ...options] = line.trim().split(/\s+/)
  const where = parseBackendAddress(address!)
  if (!where) return wrong('host:port, host:* or unix:/path', address!)
  const settings: Record<string, number | string> = {}
  for (const option of options) {
    const [key, value] = cut(option)
    const name = Object.hasOwn(OPTIONS, key) ? OPTIONS[key as keyof typeof OPTIONS] : undefined
    if (!name || value === undefined)
      return wrong('weight=N, priority=N, max_connections=N or sni=NAME', option)
    if (name in settings) return wrong(`${key} once`, option)
    const read = name === 'sni' ? value : readNumber(value)
    if (read === undefined) return wrong(`${key}= with a whole number, 0 to ${LARGEST}`, option)
    if (read === '') return wrong('sni= with a name', option)
    settings[name] = read
  }
  return found(where, settings)
}

/** Reads a text of backend lines, in slices. Blank lines are skipped; the later of two equal backends counts. */
export function readLines(text: string): Promise<Answer> {
  return readEntries(text.split('\n'), (index) => `line ${index + 1}`)
}

/** Reads entries that are a backend line each; `place` names the one that is rejected. */
export async function readEntries(
  entries: readonly string[],
  place: (index: number) => string,
): Promise<Answer> {
  const backends = new Map<string, Found>()
  const rejected: string[] = []
  let more = 0
  let index = -1
  await inSlices(entries, (entry) => {
    index++
    if (entry.trim() === '') return
    const read = readLine(entry)
    if (!('wrong' in read)) backends.set(identity(read), read)
    else if (rejected.length < NAMED) rejected.push(`${place(index)}: ${read.wrong}`)
    else more++
  })
  if (more > 0) rejected.push(`and ${more} more`)
  return { backends: [...backends.values()], rejected }
}

function cut(option: string): [string, string | undefined] {
  const at = option.indexOf('=')
  return at < 0 ? [option, undefined] : [option.slice(0, at), option.slice(at + 1)]
}

function readNumber(text: string): number | undefined {
  if (!/^\d+$/.test(text)) return undefined
  const value = Number(text)
  return value <= LARGEST ? value : undefined
}

function wrong(expected: string, got: string): { wrong: string } {
  const shown = got.length > 80 ? got.slice(0, 80) + '…' : got
  return { wrong: `expected ${expected}, got ${JSON.stringify(shown)}` }
}

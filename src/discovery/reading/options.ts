// What the owner of a backend may say of it: weight, priority, limit, name, drain. One reader for backend lines,
// labels, tags and metadata.

import type { Found } from '../../core/backend.ts'

/** The settings of a backend that its source may give. */
export type Options = Partial<Omit<Found, 'address' | 'identity'>>

type Option = keyof Options

/** The largest number an option takes: 31 bits, what the pool's columns hold. */
const LARGEST = 2 ** 31 - 1

const NAMES: Readonly<Record<string, Option>> = {
  weight: 'weight',
  priority: 'priority',
  max_connections: 'maxConnections',
  sni: 'sni',
  drain: 'drain',
}

/** The names of all options, for sentences that say what was expected. */
export const OPTION_NAMES: readonly string[] = Object.keys(NAMES)

/** What an option called `name` sets; undefined when there is none of that name. */
export function optionOf(name: string): Option | undefined {
  return Object.hasOwn(NAMES, name) ? NAMES[name] : undefined
}

/** The value of an option as its text says it, or what was expected instead. */
export function readOption(option: Option, text: string): number | string | boolean | { expected: string } {
  if (option === 'sni') return /^\S{1,1024}$/.test(text) ? text : { expected: 'a name' }
  if (option === 'drain') return readFlag(text) ?? { expected: 'true or false' }
  return readNumber(text) ?? { expected: `a whole number, 0 to ${LARGEST}` }
}

/** `fairlead.weight`; Consul's metadata allows no dot and DNS names no underscore, so these part the words too. */
const LABEL = /^fairlead[._-](.+)$/

/**
 * The options among labels: `fairlead.weight = 5`, and likewise `priority`, `max_connections`, `sni` and
 * `drain`. Other labels are passed over. A wrong one is told in `wrong` and has no effect.
 */
export function labelOptions(labels: Iterable<readonly [name: string, value: string]>): {
  readonly options: Options
  readonly wrong: readonly string[]
} {
  const options: Record<string, unknown> = {}
  const wrong: string[] = []
  for (const [label, value] of labels) {
    const name = LABEL.exec(label)?.[1]?.replaceAll('-', '_')
    if (name === undefined) continue
    const option = optionOf(name)
    const read = option ? readOption(option, value.trim()) : { expected: '' }
    if (!option) wrong.push(`${label.slice(0, 80)}: expected one of ${OPTION_NAMES.join(', ')}`)
    else if (typeof read === 'object') wrong.push(`${label}: expected ${read.expected}, got ${quote(value)}`)
    else options[option] = read
  }
  return { options, wrong }
}

/** Labels that are written as one text each: `fairlead.weight=5`, as Consul's tags are. */
export function* pairs(texts: Iterable<string>): Generator<readonly [string, string]> {
  for (const text of texts) {
    const at = text.indexOf('=')
    if (at > 0) yield [text.slice(0, at), text.slice(at + 1)]
  }
}

/** What was got, short enough for a log. */
export function quote(got: string): string {
  return JSON.stringify(got.length > 80 ? got.slice(0, 80) + '…' : got)
}

function readNumber(text: string): number | undefined {
  if (!/^\d+$/.test(text)) return undefined
  const value = Number(text)
  return value <= LARGEST ? value : undefined
}

function readFlag(text: string): boolean | undefined {
  return text === 'true' || text === '1' ? true : text === 'false' || text === '0' ? false : undefined
}

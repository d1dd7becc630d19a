// The lines of a text behind a URL, each read by a pattern.

import { RE2JS } from 're2js'
import type { Found } from '../core/backend.ts'
import { name } from '../core/settings.ts'
import { inSlices } from '../core/slices.ts'
import { discovery } from './discovery.ts'
import { endpoint } from './reading/endpoint.ts'
import { lineReader } from './reading/line.ts'
import type { ReadLines } from './reading/line.ts'
import { linesOf, LONGEST_LINE } from './reading/lines.ts'
import { readNamed } from './reading/named.ts'
import { quote } from './reading/options.ts'
import { Rejects } from './reading/rejects.ts'

/** gobetween's line syntax as the pattern its users know. */
const LINE = [
  String.raw`^(?P<host>\S+):(?P<port>\d+)`,
  String.raw`(\sweight=(?P<weight>\d+))?`,
  String.raw`(\spriority=(?P<priority>\d+))?`,
  String.raw`(\smax_connections=(?P<max_connections>\d+))?`,
  String.raw`(\ssni=(?P<sni>[^\s]+))?$`,
].join('')

/** A pattern in RE2's syntax, which matches in linear time whatever a line holds. */
const pattern = () =>
  name().refine(isPattern, { error: 'a regular expression (RE2 syntax) with groups named host and port' })

const { settings, source, conflicts, fetch } = endpoint(
  'plaintext',
  'URL of a text with a backend a line.',
  'text/plain, */*',
)

export const plaintext = discovery(
  {
    settings: {
      ...settings,
      plaintext_regex_pattern: pattern()
        .default(LINE)
        .describe(
          'Regular expression (RE2) for a line, with groups named host, port, weight, priority, max_connections, sni and drain; the default takes lines as static_list has them.',
        ),
    },
    timeoutMs: 5_000,
    source: (settings) => `plaintext ${source(settings)}`,
    conflicts,
  },
  (settings) => {
    const { plaintext_regex_pattern } = settings
    const read = plaintext_regex_pattern === LINE ? lineReader() : patternReader(plaintext_regex_pattern)
    return { ask: async (signal) => read(await fetch(settings, signal), signal) }
  },
)

/** Reads lines by a pattern of the user's; of two equal backends the later counts. */
function patternReader(pattern: string): ReadLines {
  const expression = RE2JS.compile(pattern)
  const groups = expression.namedGroups()
  return async (text, signal) => {
    const backends = new Map<string, Found>()
    const rejects = new Rejects()
    let number = 0
    await inSlices(linesOf(text, signal), (line) => {
      const place = `line ${++number}`
      const trimmed = line.trim()
      if (trimmed === '') return
      const matcher = line.length <= LONGEST_LINE && expression.matcher(trimmed)
      if (!matcher || !matcher.find())
        return rejects.add(`${place}: expected what the pattern matches, got ${quote(trimmed)}`)
      const valueOf = (name: string) =>
        (Object.hasOwn(groups, name) ? matcher.group(name) : null) ?? undefined
      const { backend, wrong } = readNamed(valueOf, (name) => name)
      for (const each of wrong) rejects.add(`${place}: ${each}`)
      if (backend) backends.set(backend.identity, backend)
    })
    return { backends: [...backends.values()], rejected: rejects.list() }
  }
}

function isPattern(text: string): boolean {
  try {
    const groups = RE2JS.compile(text).namedGroups()
    return Object.hasOwn(groups, 'host') && Object.hasOwn(groups, 'port')
  } catch {
    // Any throw is its way to say no.
    return false
  }
}

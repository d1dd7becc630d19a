// The lines of a text behind a URL, each read by a pattern.

import { RE2JS } from 're2js'
import { name } from '../core/settings.ts'
import { discovery } from './discovery.ts'
import { unsupported } from './unsupported.ts'

/** gobetween's line syntax as the pattern its users know. */
const LINE = [
  String.raw`^(?P<host>\S+):(?P<port>\d+)`,
  String.raw`(\sweight=(?P<weight>\d+))?`,
  String.raw`(\spriority=(?P<priority>\d+))?`,
  String.raw`(\smax_connections=(?P<max_connections>\d+))?`,
  String.raw`(\ssni=(?P<sni>[^\s]+))?$`,
].join('')

/** A pattern in RE2's syntax, which matches in linear time whatever a line holds. */
const pattern = () => name().refine(compiles, { error: 'a regular expression (RE2 syntax)' })

export const plaintext = discovery(
  {
    settings: {
      plaintext_endpoint: name().describe('URL of a text with a backend a line.'),
      plaintext_regex_pattern: pattern()
        .default(LINE)
        .describe(
          'Regular expression (RE2) for a line, with groups named host, port, weight, priority, max_connections and sni.',
        ),
    },
    timeoutMs: 5_000,
    source: ({ plaintext_endpoint }) => `plaintext ${plaintext_endpoint}`,
  },
  unsupported('plaintext', 'fetching a text of backends'),
)

function compiles(text: string): boolean {
  try {
    RE2JS.compile(text)
    return true
  } catch {
    // Any throw is its way to say no.
    return false
  }
}

// `fairlead check`: what would be wrong, without starting.

import { loadConfig, sourceName } from '../config/source.ts'
import type { Source } from '../config/source.ts'
import { ConfigError, problemText } from '../core/errors.ts'
import { idleSections, unsupportedServers } from './missing.ts'

/** Reads and validates a configuration, reports to `write` line by line, and returns the exit status: 0 or 2. */
export async function runCheck(
  { source, strict }: { readonly source: Source; readonly strict: boolean },
  write: (line: string) => void,
): Promise<0 | 2> {
  try {
    const { config, warnings } = await loadConfig(source, { strict })
    for (const warning of warnings) write(`warning: ${problemText(warning)}`)
    const missing = [...unsupportedServers(config), ...idleSections(config)]
    for (const message of missing) write(`warning: ${message}`)
    if (strict && missing.length > 0) return 2
    const { size } = config.servers
    write(`${sourceName(source)}: ok, ${size} ${size === 1 ? 'server' : 'servers'}`)
    return 0
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    write(error.message)
    return 2
  }
}

// The backends a program prints, a line each.

import { run } from '../core/run.ts'
import { texts } from '../core/settings.ts'
import { discovery } from './discovery.ts'
import { lineReader } from './line.ts'

/** The most a program may print: some 20,000 backends. */
const MOST_BYTES = 1024 * 1024

const COMMAND = 'a list of strings: a program and its arguments'

export const exec = discovery(
  {
    settings: {
      exec_command: texts()
        .min(1, { error: COMMAND })
        .describe('Program and its arguments, run without a shell; it prints a backend a line.'),
    },
    timeoutMs: 3_000,
    source: ({ exec_command }) => `exec ${exec_command[0]}`,
  },
  ({ exec_command }) => {
    const readLines = lineReader()
    return { ask: async (signal) => readLines(await run(exec_command, signal, MOST_BYTES)) }
  },
)

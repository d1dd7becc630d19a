// The program: what the command line asks for, and the exit status that says how it went.

import { ConfigError, Fault } from '../core/errors.ts'
import { closeLogs, reopenLogs } from '../core/log.ts'
import { parseCommand, UsageError } from './args.ts'
import type { Command } from './args.ts'
import { helpText } from './help.ts'
import { version } from './version.ts'

/** Asked and done; could not start or run; the command line or the configuration is wrong. */
const DONE = 0
const FAILED = 1
const WRONG = 2

/**
 * Does what `argv` (the arguments after the program's name) asks for and ends the process. A fault is told on
 * stderr in words; anything else that is thrown is a bug and shows its stack.
 */
export async function main(argv: readonly string[], environment: NodeJS.ProcessEnv): Promise<void> {
  process.on('SIGUSR1', reopenLogs)
  // Whoever reads what we print may leave, `fairlead --help | head -1`; that ends nothing.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
  try {
    process.exitCode = await follow(parseCommand(argv, environment))
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    process.stderr.write(`fairlead: ${error.message}\n`)
    process.exitCode = error instanceof ConfigError || error instanceof UsageError ? WRONG : FAILED
  }
  await closeLogs()
  // Something may still be open that nobody waits for, such as a look-up of a name.
  process.exit()
}

/** Long parts of the program are loaded by the command that needs them. */
async function follow(command: Command): Promise<number> {
  switch (command.command) {
    case 'help':
      say(helpText(command.topic))
      return DONE
    case 'version':
      say(version)
      return DONE
    case 'check':
      return (await import('./check.ts')).runCheck(command, say)
    case 'info':
      say((await import('./info.ts')).infoText())
      return DONE
    case 'demo':
      return (await import('./demo.ts')).runDemo(say)
    case 'run':
      return (await import('./run.ts')).runSource(command.source, command.pidfile)
  }
}

function say(text: string): void {
  process.stdout.write(text.endsWith('\n') ? text : text + '\n')
}

// The command line, read into what is to be done.

import { parseArgs } from 'node:util'
import type { Environment } from '../config/environment.ts'
import { nearest } from '../config/nearest.ts'
import { FORMATS } from '../config/parse.ts'
import type { Format } from '../config/parse.ts'
import type { Origin, Source } from '../config/source.ts'
import { isUnix, parseBackendAddress } from '../core/address.ts'
import { Fault } from '../core/errors.ts'
import { COMMANDS } from './help.ts'
import type { CommandName } from './help.ts'

export type Command =
  | { readonly command: 'help'; readonly topic?: CommandName }
  | { readonly command: 'version' }
  | { readonly command: 'info' | 'demo' }
  | { readonly command: 'run'; readonly source: Source; readonly pidfile?: string }
  | { readonly command: 'check'; readonly source: Source; readonly strict: boolean }

/** A command line nobody can follow; the message says what to do instead. Exit status 2. */
export class UsageError extends Fault {
  constructor(message: string) {
    super('USAGE', message)
  }
}

const OPTIONS = {
  config: { type: 'string', short: 'c' },
  version: { type: 'boolean', short: 'v' },
  pidfile: { type: 'string', short: 'p' },
  format: { type: 'string', short: 'f' },
  'use-config-env-vars': { type: 'boolean', short: 'e' },
  help: { type: 'boolean', short: 'h' },
  key: { type: 'string', short: 'k' },
  scheme: { type: 'string', short: 's' },
  strict: { type: 'boolean' },
} as const

type Option = keyof typeof OPTIONS

type Taker = CommandName | 'run'

const STARTING: readonly Taker[] = ['run', 'from-file', 'from-url', 'from-consul']

/** Options that only some commands have; the rest belong to all. `run` is a command line without a command. */
const ONLY: Partial<Record<Option, readonly Taker[]>> = {
  config: ['run', 'check'],
  pidfile: STARTING,
  format: [...STARTING, 'check'],
  'use-config-env-vars': [...STARTING, 'check'],
  key: ['from-consul'],
  scheme: ['from-consul'],
  strict: ['check'],
}

/**
 * Reads `argv`, the arguments after the program's name. FAIRLEAD or GOBETWEEN in the environment, a JSON
 * list of strings, stands for them when there are none. Throws `UsageError`.
 */
export function parseCommand(argv: readonly string[], environment: Environment): Command {
  const { flags, words } = readArguments(argumentsFrom(argv, environment))
  const [first, ...rest] = words
  const name = first === undefined ? undefined : commandName(first)
  if (flags.help) return help(name ?? 'help', name === 'help' ? rest : [])
  if (flags.version) return { command: 'version' }
  if (name === 'help') return help(name, rest)
  refuseStrangers(flags, name ?? 'run')
  if (name === 'check') return check(flags, rest)
  if (name === 'info' || name === 'demo') return alone(name, rest)
  if (name) return run(flags, originOf(name, rest, flags))
  if (flags.config === undefined) return { command: 'help' }
  return run(flags, { kind: 'file', path: flags.config })
}

function argumentsFrom(argv: readonly string[], environment: Environment): readonly string[] {
  const [variable, other] = ['FAIRLEAD', 'GOBETWEEN'].filter((name) => environment[name])
  if (!variable) return argv
  if (other) throw new UsageError(`both ${variable} and ${other} are set: unset one of them`)
  if (argv.length > 0)
    throw new UsageError(
      `arguments were given and ${variable} is set: drop the arguments or unset ${variable}`,
    )
  return listFrom(variable, environment[variable]!)
}

function listFrom(variable: string, text: string): string[] {
  const wrong = () =>
    new UsageError(`${variable} has to be a JSON list of strings such as ["-c", "fairlead.toml"]`)
  let list: unknown
  try {
    list = JSON.parse(text)
  } catch {
    throw wrong()
  }
  if (!Array.isArray(list) || !list.every((each) => typeof each === 'string')) throw wrong()
  return list
}

interface Flags {
  config?: string
  version?: boolean
  pidfile?: string
  format?: string
  'use-config-env-vars'?: boolean
  help?: boolean
  key?: string
  scheme?: string
  strict?: boolean
}

function readArguments(args: readonly string[]): { flags: Flags; words: string[] } {
  const parsed = parseArgs({
    args: [...args],
    options: OPTIONS,
    strict: false,
    allowPositionals: true,
    tokens: true,
  })
  for (const token of parsed.tokens) {
    if (token.kind !== 'option') continue
    if (!Object.hasOwn(OPTIONS, token.name)) throw unknownOption(token.rawName)
    const takesValue = OPTIONS[token.name as Option].type === 'string'
    const swallowed = token.inlineValue === false && token.value?.startsWith('-') && token.value !== '-'
    if (takesValue && (token.value === undefined || swallowed || token.value === ''))
      throw new UsageError(`${token.rawName} needs a value`)
    if (!takesValue && token.value !== undefined)
      parsed.values[token.name] = truth(token.rawName, token.value)
  }
  return { flags: parsed.values as Flags, words: parsed.positionals }
}

function truth(option: string, value: string): boolean {
  if (/^(1|t|true)$/i.test(value)) return true
  if (/^(0|f|false)$/i.test(value)) return false
  throw new UsageError(`${option} takes no value but true or false, got ${JSON.stringify(value)}`)
}

function unknownOption(raw: string): UsageError {
  const meant = raw.startsWith('--') ? nearest(raw.slice(2), Object.keys(OPTIONS)) : undefined
  return new UsageError(
    `unknown option ${raw}; ${meant ? `did you mean --${meant}?` : 'see fairlead --help'}`,
  )
}

function commandName(word: string): CommandName {
  if (Object.hasOwn(COMMANDS, word)) return word as CommandName
  const meant = nearest(word, Object.keys(COMMANDS))
  const advice = meant ? `did you mean ${meant}?` : `to start with a file: fairlead -c ${word}`
  throw new UsageError(`unknown command ${JSON.stringify(word)}; ${advice}`)
}

function help(name: CommandName, topics: readonly string[]): Command {
  if (name !== 'help') return { command: 'help', topic: name }
  if (topics.length > 1) throw new UsageError('help takes one command')
  return topics[0] === undefined ? { command: 'help' } : { command: 'help', topic: commandName(topics[0]) }
}

function refuseStrangers(flags: Flags, name: Taker): void {
  for (const [option, commands] of Object.entries(ONLY) as [Option, readonly string[]][]) {
    if (flags[option] === undefined || commands.includes(name)) continue
    const owners = commands.filter((each) => each !== 'run')
    const where = owners.length > 0 ? `only ${owners.join(', ')} takes it` : 'no command takes it'
    throw new UsageError(`--${option} has no meaning ${name === 'run' ? 'here' : `with ${name}`}: ${where}`)
  }
}

function originOf(name: CommandName, rest: readonly string[], flags: Flags): Origin {
  const [usage] = COMMANDS[name]
  const [where] = rest
  if (rest.length !== 1 || !where)
    throw new UsageError(`expected one argument, got ${rest.length}: fairlead ${usage}`)
  if (name === 'from-file') return { kind: 'file', path: where }
  if (name === 'from-url') return { kind: 'url', url: where }
  const { key = 'gobetween', scheme } = flags
  const address = parseBackendAddress(where)
  if (!address || isUnix(address) || address.port === 0)
    throw new UsageError(
      `expected HOST:PORT of a Consul agent, got ${JSON.stringify(where)}: fairlead ${usage}`,
    )
  if (scheme !== undefined && scheme !== 'http' && scheme !== 'https')
    throw new UsageError(`--scheme has to be http or https, got ${JSON.stringify(scheme)}`)
  return { kind: 'consul', host: where, key, ...(scheme && { scheme }) }
}

function check(flags: Flags, rest: readonly string[]): Command {
  const paths = [...(flags.config === undefined ? [] : [flags.config]), ...rest]
  const [path] = paths
  if (paths.length !== 1 || !path)
    throw new UsageError(`expected one file, got ${paths.length}: fairlead ${COMMANDS.check[0]}`)
  return { command: 'check', source: source(flags, { kind: 'file', path }), strict: flags.strict ?? false }
}

function alone(command: 'info' | 'demo', rest: readonly string[]): Command {
  if (rest.length > 0) throw new UsageError(`${command} takes no arguments`)
  return { command }
}

function run(flags: Flags, origin: Origin): Command {
  const { pidfile } = flags
  return { command: 'run', source: source(flags, origin), ...(pidfile && { pidfile }) }
}

function source(flags: Flags, origin: Origin): Source {
  const { format } = flags
  if (format !== undefined && !FORMATS.includes(format as Format))
    throw new UsageError(`--format has to be ${FORMATS.join(' or ')}, got ${JSON.stringify(format)}`)
  const substitute = flags['use-config-env-vars'] ?? false
  return { origin, substitute, ...(format && { format: format as Format }) }
}

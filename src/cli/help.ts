// What `--help` says.

/** The commands, with what follows each and what it does in a line. */
export const COMMANDS = {
  'from-file': ['from-file PATH', 'start with the configuration in a file'],
  'from-url': ['from-url URL', 'start with the configuration behind a URL'],
  'from-consul': ['from-consul HOST:PORT', 'start with the configuration under a key of Consul'],
  check: ['check FILE', 'read and validate a configuration without starting'],
  info: ['info', 'print what a report of a problem should say about this machine'],
  demo: ['demo', 'run a balancer in front of backends of its own, to look at'],
  help: ['help [COMMAND]', 'show this text, or that of a command'],
} as const

export type CommandName = keyof typeof COMMANDS

const OPTION = {
  config: ['-c, --config FILE', 'configuration file; the same as from-file FILE'],
  version: ['-v, --version', 'print the version'],
  format: ['-f, --format FORMAT', 'toml or json; by default what the ending of the name says, else toml'],
  substitute: ['-e, --use-config-env-vars', 'replace ${NAME} and ${NAME:-default} in the configuration'],
  pidfile: ['-p, --pidfile FILE', 'write the process id to a file'],
  key: ['-k, --key KEY', 'key that holds the configuration (default gobetween)'],
  scheme: ['-s, --scheme SCHEME', 'http or https (default http, or what CONSUL_HTTP_SSL says)'],
  strict: ['    --strict', 'unknown keys and other warnings are problems'],
  help: ['-h, --help', 'show this text'],
} as const

type Row = readonly [string, string]

const SHARED: readonly Row[] = [OPTION.format, OPTION.substitute]
const STARTING: readonly Row[] = [...SHARED, OPTION.pidfile, OPTION.help]

const NOTES: Record<CommandName, { options: readonly Row[]; notes: readonly string[] }> = {
  'from-file': { options: STARTING, notes: [] },
  'from-url': {
    options: STARTING,
    notes: ['The answer has to come within 10 s, with a status of 200 to 299.'],
  },
  'from-consul': {
    options: [OPTION.key, OPTION.scheme, ...STARTING],
    notes: [
      'Honours CONSUL_HTTP_TOKEN, CONSUL_HTTP_TOKEN_FILE, CONSUL_HTTP_AUTH, CONSUL_HTTP_SSL,',
      'CONSUL_HTTP_SSL_VERIFY, CONSUL_CACERT, CONSUL_CLIENT_CERT, CONSUL_CLIENT_KEY,',
      'CONSUL_TLS_SERVER_NAME and CONSUL_NAMESPACE.',
    ],
  },
  check: {
    options: [OPTION.config, OPTION.strict, ...SHARED, OPTION.help],
    notes: ['Exit status: 0 when the configuration can be used, 2 when it has problems.'],
  },
  info: { options: [OPTION.help], notes: [] },
  demo: { options: [OPTION.help], notes: [] },
  help: { options: [OPTION.help], notes: [] },
}

/** The text for a command, or for all of them. */
export function helpText(topic?: CommandName): string {
  return topic ? commandText(topic) : overview()
}

function overview(): string {
  return lines(
    'fairlead - a Layer-4 load balancer that finds its own backends',
    '',
    'Usage:',
    '  fairlead -c FILE',
    '  fairlead COMMAND [options]',
    '',
    'Commands:',
    ...table(Object.values(COMMANDS)),
    '',
    'Options:',
    ...table([OPTION.config, OPTION.version, ...STARTING]),
    '',
    'The environment variable FAIRLEAD (or GOBETWEEN) may hold all arguments instead, as a JSON list:',
    `  FAIRLEAD='["from-url", "http://host/fairlead.toml"]' fairlead`,
    '',
    'Exit status: 0 asked and done, 1 could not start or run, 2 the command line or the configuration is wrong.',
  )
}

function commandText(name: CommandName): string {
  const [usage, summary] = COMMANDS[name]
  const { options, notes } = NOTES[name]
  const tail = notes.length > 0 ? ['', ...notes] : []
  return lines(
    `Usage: fairlead ${usage} [options]`,
    '',
    sentence(summary),
    '',
    'Options:',
    ...table(options),
    ...tail,
  )
}

function table(rows: readonly Row[]): string[] {
  const width = Math.max(...rows.map(([left]) => left.length))
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`)
}

function sentence(text: string): string {
  return `${text[0]!.toUpperCase()}${text.slice(1)}.`
}

function lines(...parts: string[]): string {
  return parts.join('\n') + '\n'
}

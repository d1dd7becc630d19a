// The faults that cross a boundary: the world or the operator is wrong, and here is where.

/** One thing wrong with a document: where it is, and what was expected there. */
export interface Problem {
  /** Dotted path to the value, `servers.web.bind`; empty for the document itself. */
  readonly path: string
  readonly message: string
}

/** A fault with a stable code; texts may change, codes are API. */
export class Fault extends Error {
  readonly code: string
  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = new.target.name
    this.code = code
  }
}

/** A configuration that cannot be used; `problems` lists everything found, `warnings` what is only odd. */
export class ConfigError extends Fault {
  readonly source: string
  readonly problems: readonly Problem[]
  readonly warnings: readonly Problem[]
  constructor(source: string, problems: readonly Problem[], warnings: readonly Problem[] = []) {
    const count = problems.length === 1 ? '1 problem' : `${problems.length} problems`
    const lines = problems.map((each) => `  ${problemText(each)}`)
    const asides = warnings.map((each) => `  warning: ${problemText(each)}`)
    super('CONFIG_INVALID', [`${source} has ${count}`, ...lines, ...asides].join('\n'))
    this.source = source
    this.problems = problems
    this.warnings = warnings
  }
}

/** A problem in a line: `servers.web.bind: expected …`. */
export function problemText({ path, message }: Problem): string {
  return path ? `${path}: ${message}` : message
}

/** A server of this name is already running. */
export class NameTakenError extends Fault {
  constructor(server: string) {
    super('SERVER_EXISTS', `Server with this name already exists: ${server}`)
  }
}

/** A listener could not be opened; names the server and the address. */
export class BindError extends Fault {
  constructor(server: string, address: string, cause: NodeJS.ErrnoException) {
    super('BIND_FAILED', `server ${server} cannot listen on ${address}: ${describeErrno(cause)}`, { cause })
  }
}

/** Asked for something this build or machine cannot do; the message names what is missing. */
export class UnsupportedError extends Fault {
  constructor(message: string) {
    super('UNSUPPORTED', message)
  }
}

/** One failed question to a discovery; `schedule.ts` turns it into the failpolicy. */
export class DiscoveryError extends Fault {
  constructor(message: string, options?: ErrorOptions) {
    super('DISCOVERY_FAILED', message, options)
  }
}

/** The plainest text for anything thrown. */
export function messageOf(thrown: unknown): string {
  if (thrown instanceof AggregateError && thrown.errors.length > 0) return messageOf(thrown.errors[0])
  return thrown instanceof Error ? thrown.message : String(thrown)
}

/** The message in one line, for a sentence that goes on: OpenSSL's end with a line break. */
export function oneLine(thrown: unknown): string {
  return messageOf(thrown)
    .replace(/\s*\n\s*/g, ' ')
    .trim()
}

const ERRNO: Record<string, string> = {
  EADDRINUSE: 'the address is already in use',
  EADDRNOTAVAIL: 'no interface of this machine has that address',
  EACCES: 'permission denied',
}

function describeErrno(error: NodeJS.ErrnoException): string {
  const said = error.code && ERRNO[error.code]
  return said ? `${said} (${error.code})` : error.message
}

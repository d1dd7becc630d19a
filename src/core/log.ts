// Named loggers over pino. A muted level costs a call to a no-op.

import { closeSync, openSync } from 'node:fs'
import { pino } from 'pino'
import type { Logger as Pino } from 'pino'
import { Fault, messageOf } from './errors.ts'

/** The names gobetween accepts, and the pino level each means. */
const LEVELS = {
  panic: 'fatal',
  fatal: 'fatal',
  error: 'error',
  warn: 'warn',
  warning: 'warn',
  info: 'info',
  debug: 'debug',
  trace: 'trace',
} as const

export type LogLevel = keyof typeof LEVELS
export const LOG_LEVELS = Object.keys(LEVELS) as readonly LogLevel[]

export interface LogSettings {
  readonly level: LogLevel
  /** `stdout`, `stderr` or a file's path. */
  readonly output: string
  /** `json`; anything else is text. */
  readonly format: string
}

export interface Logger {
  error(message: string): void
  warn(message: string): void
  info(message: string): void
  debug(message: string): void
}

/** Where lines go: opened once, opened again under the same name when a log rotator asks. */
export interface Sink {
  /** Hands a line over; it is written soon. A reader that falls 4 MiB behind misses lines. */
  write(line: string): void
  /** Closes and opens the file again; a terminal or pipe stays as it is. */
  reopen(): void
  /** Resolves when what was handed over is written, or after a second without that. */
  close(): Promise<void>
}

/** Lines nobody has taken yet, in bytes: a disk or a reader that is stuck must neither block us nor fill memory. */
const MOST_PENDING = 4 * 1024 * 1024
const CLOSING_MS = 1_000

const sinks = new Set<Sink>()

/** A log file could not be opened. */
export class LogError extends Fault {
  constructor(output: string, cause: unknown) {
    super('LOG_FAILED', `log ${output} cannot be opened: ${messageOf(cause)}`, { cause })
  }
}

/** Opens `stdout`, `stderr` or the file at `output` for appending. Throws `LogError`. */
export function openSink(output: string): Sink {
  const isFile = output !== 'stdout' && output !== 'stderr'
  if (isFile) tryOpen(output)
  const dest = isFile ? output : output === 'stdout' ? 1 : 2
  const stream = pino.destination({ dest, append: true, sync: false, maxLength: MOST_PENDING })
  // A full disk or a reader that has gone must not end the balancer; the lines are lost.
  stream.on('error', () => {})
  let closed = false
  const sink: Sink = {
    write: (line) => void (closed || stream.write(line)),
    reopen: () => isFile && stream.reopen(),
    close: () => {
      closed = true
      sinks.delete(sink)
      return new Promise((resolve) => {
        const limit = setTimeout(() => {
          // Left alone, it would try again and again as the process exits, and keep it from doing so.
          stream.destroy()
          resolve()
        }, CLOSING_MS)
        stream.once('close', () => {
          clearTimeout(limit)
          resolve()
        })
        stream.end()
      })
    },
  }
  sinks.add(sink)
  return sink
}

function tryOpen(path: string): void {
  try {
    closeSync(openSync(path, 'a'))
  } catch (error) {
    throw new LogError(path, error)
  }
}

/** Opens every log file again under its name: what a log rotator asks for after it has moved them. */
export function reopenLogs(): void {
  for (const sink of sinks) sink.reopen()
}

/** Writes out what was logged, for the moment before the process ends: nothing is logged after this. */
export async function closeLogs(): Promise<void> {
  // Lines of this turn may have been gathered for the next.
  await new Promise(setImmediate)
  await Promise.all([...sinks].map((sink) => sink.close()))
}

const loggers = new Map<string, Named>()
let current = openSink('stderr')
let root = build('info', 'text', current)

/**
 * Sends all loggers, those already handed out too, where and how `settings` say. Throws `LogError`, and then
 * nothing has changed. Resolves when what was logged before is written.
 */
export function configureLogging({ level, output, format }: LogSettings): Promise<void> {
  const before = current
  current = openSink(output)
  root = build(level, format, current)
  for (const each of loggers.values()) each.bind()
  return before.close()
}

/** The logger of that name: one a part of the program, such as `manager`. */
export function logger(name: string): Logger {
  let named = loggers.get(name)
  if (!named) loggers.set(name, (named = new Named(name)))
  return named
}

/** `log` with `prefix` before every message: for things that come and go, which get no name of their own. */
export function prefixed(log: Logger, prefix: string | (() => string)): Logger {
  const before = typeof prefix === 'string' ? () => prefix : prefix
  return {
    error: (message) => log.error(before() + message),
    warn: (message) => log.warn(before() + message),
    info: (message) => log.info(before() + message),
    debug: (message) => log.debug(before() + message),
  }
}

/** Keeps the methods it hands out in step with the root, so that a muted one stays pino's no-op. */
class Named implements Logger {
  error!: Logger['error']
  warn!: Logger['warn']
  info!: Logger['info']
  debug!: Logger['debug']
  readonly #name: string

  constructor(name: string) {
    this.#name = name
    this.bind()
  }

  bind(): void {
    const child = root.child({ name: this.#name })
    this.error = child.error.bind(child)
    this.warn = child.warn.bind(child)
    this.info = child.info.bind(child)
    this.debug = child.debug.bind(child)
  }
}

function build(level: LogLevel, format: string, sink: Sink): Pino {
  return pino(
    {
      level: LEVELS[level],
      base: null,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label === 'warn' ? 'warning' : label }) },
    },
    format === 'json' ? sink : { write: (line) => sink.write(textLine(JSON.parse(line) as LogRecord)) },
  )
}

interface LogRecord {
  level: string
  time: string
  name: string
  msg: string
}

/** gobetween's line: `2006-01-02 15:04:05 [LEVEL] (logger): message`, in local time. */
function textLine({ level, time, name, msg }: LogRecord): string {
  return `${localTime(new Date(time))} [${level.toUpperCase().slice(0, 5).padEnd(5)}] (${name}): ${msg}\n`
}

/** `2006-01-02 15:04:05` in local time. */
export function localTime(date: Date): string {
  const two = (value: number) => String(value).padStart(2, '0')
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
}

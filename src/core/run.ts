// Runs a program, to its end or for as long as it goes on: no shell, its own process group, bounded output.

import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import type { Readable } from 'node:stream'
import { pause } from './clock.ts'
import type { Clock } from './clock.ts'
import { messageOf } from './errors.ts'

/** How much of stderr is kept, and how many of its last lines an error shows. */
const STDERR_BYTES = 4096
const STDERR_LINES = 3

/** How long something else may hold the output open in silence after the program has ended. */
const GRACE_MS = 200

/** The output of a program that goes on is read this seldom, so that one that floods it waits, and nobody else. */
const PACE_MS = 10

/**
 * What the program of `argv` wrote to stdout. Rejects when it cannot be started, ends with another status than
 * 0 or writes more than `maxBytes`; with the signal's reason when that aborts. Whatever is left of its process
 * group is killed when it is cut short, or when it still holds the output after the program's own end. A
 * descendant that let go of the output, or left the group, lives on.
 */
export async function run(argv: readonly string[], signal: AbortSignal, maxBytes: number): Promise<Buffer> {
  signal.throwIfAborted()
  const program = argv[0]
  const child = start(argv)
  const stdout: Buffer[] = []
  let size = 0
  let stderr = NOTHING
  let abort = () => {}
  try {
    await new Promise<void>((resolve, reject) => {
      abort = () => reject(signal.reason as Error)
      signal.addEventListener('abort', abort)
      child.on('error', (error) => reject(cannotRun(program!, error)))
      listen(child.stdout, reject, (chunk) => {
        stdout.push(chunk)
        size += chunk.length
        if (size > maxBytes) reject(new Error(`${program} wrote more than ${maxBytes} bytes`))
      })
      listen(child.stderr, reject, (chunk) => {
        stderr = lastOf(stderr, chunk)
      })
      ended(child, resolve)
    })
  } finally {
    signal.removeEventListener('abort', abort)
    dispose(child)
  }
  if (child.exitCode !== 0) throw new Error(withLast(`${program} ${endOf(child)}`, stderr))
  return Buffer.concat(stdout)
}

/**
 * Runs the program of `argv` and gives `hear` what it writes to stdout as it comes, in pieces with a wait between
 * them; a program that writes faster is blocked meanwhile. Never resolves: rejects when the program has ended or
 * closed its output, with how and the last lines of its stderr; with what `hear` throws; and with the signal's
 * reason when that aborts. Whatever is left of its process group is then killed.
 */
export async function follow(
  argv: readonly string[],
  clock: Clock,
  signal: AbortSignal,
  hear: (chunk: Buffer) => void,
): Promise<never> {
  signal.throwIfAborted()
  const program = argv[0]!
  const child = start(argv)
  const over = new AbortController()
  let stderr = NOTHING
  let abort = () => {}
  const paced = async (output: Output, take: (chunk: Buffer) => void) => {
    for await (const chunk of (output ?? []) as AsyncIterable<Buffer>) {
      take(chunk)
      await pause(clock, PACE_MS, over.signal)
    }
  }
  try {
    await new Promise<void>((resolve, reject) => {
      abort = () => reject(signal.reason as Error)
      signal.addEventListener('abort', abort)
      const soon = () => void clock.after(GRACE_MS, resolve)
      child.on('error', (error) => reject(cannotRun(program, error)))
      child.on('close', resolve).on('exit', soon)
      paced(child.stdout, hear).then(soon, reject)
      paced(child.stderr, (chunk) => (stderr = lastOf(stderr, chunk))).catch(reject)
    })
  } finally {
    signal.removeEventListener('abort', abort)
    over.abort()
    dispose(child)
  }
  throw new Error(withLast(`${program} ${endOf(child)}`, stderr))
}

function start([program, ...args]: readonly string[]): ChildProcess {
  return spawn(program!, args, { detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
}

const NOTHING: Buffer = Buffer.alloc(0)

/** What is kept of stderr. */
function lastOf(before: Buffer, chunk: Buffer): Buffer {
  return Buffer.concat([before, chunk]).subarray(-STDERR_BYTES)
}

/** Out of descriptors, Node gives the child no streams at all. */
type Output = Readable | null | undefined

function listen(output: Output, failed: (error: Error) => void, data: (chunk: Buffer) => void): void {
  output?.on('error', failed)
  output?.on('data', data)
}

/** Calls `done` when the program has ended and its output is read, or others hold that and say nothing. */
function ended(child: ChildProcess, done: () => void): void {
  child.on('close', done)
  child.on('exit', () => {
    let heard = false
    child.stdout?.on('data', () => (heard = true))
    // After a stall of ours the timer is first to run; the output that came meanwhile is read before the next turn.
    const judge = () => setImmediate(() => (heard ? wait() : done()))
    let silence: NodeJS.Timeout
    const wait = () => {
      heard = false
      silence = setTimeout(judge, GRACE_MS)
    }
    wait()
    child.on('close', () => clearTimeout(silence))
  })
}

function dispose(child: ChildProcess): void {
  const outputs: Output[] = [child.stdout, child.stderr]
  const runs = child.exitCode === null && child.signalCode === null
  if (runs || outputs.some((output) => output?.closed === false)) killGroup(child)
  for (const output of outputs) output?.destroy()
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return
  try {
    if (process.platform === 'win32') child.kill('SIGKILL')
    else process.kill(-child.pid, 'SIGKILL')
  } catch {
    // The group is empty: everybody has ended meanwhile.
  }
}

function endOf({ exitCode, signalCode }: ChildProcess): string {
  if (signalCode) return `was ended by ${signalCode}`
  return exitCode === null ? 'closed its output' : `exited with status ${exitCode}`
}

/** A sentence, and the last lines of stderr. */
function withLast(sentence: string, stderr: Buffer): string {
  const said = lastLines(stderr.toString())
  return said ? `${sentence}: ${said}` : sentence
}

function lastLines(text: string): string {
  const lines = text.split('\n').map((line) => line.trim())
  return JSON.stringify(lines.filter(Boolean).slice(-STDERR_LINES).join(' | ')).slice(1, -1)
}

function cannotRun(program: string, error: Error): Error {
  const { code } = error as NodeJS.ErrnoException
  const why = code === 'ENOENT' ? 'no such file' : code === 'EACCES' ? 'permission denied' : messageOf(error)
  return new Error(`cannot run ${program}: ${why}`, { cause: error })
}

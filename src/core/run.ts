// Runs a program to its end: no shell, its own process group, bounded output.

import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import type { Readable } from 'node:stream'
import { messageOf } from './errors.ts'

/** How much of stderr is kept, and how many of its last lines an error shows. */
const STDERR_BYTES = 4096
const STDERR_LINES = 3

/** How long something else may hold the output open in silence after the program has ended. */
const GRACE_MS = 200

/**
 * What the program of `argv` wrote to stdout. Rejects when it cannot be started, ends with another status than
 * 0 or writes more than `maxBytes`; with the signal's reason when that aborts. Whatever is left of its process
 * group is killed when it is cut short, or when it still holds the output after the program's own end. A
 * descendant that let go of the output, or left the group, lives on.
 */
export async function run(argv: readonly string[], signal: AbortSignal, maxBytes: number): Promise<string> {
  signal.throwIfAborted()
  const [program, ...args] = argv
  const child = spawn(program!, args, { detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  const stdout: Buffer[] = []
  let size = 0
  let stderr = Buffer.alloc(0)
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
        stderr = Buffer.concat([stderr, chunk]).subarray(-STDERR_BYTES)
      })
      ended(child, resolve)
    })
  } finally {
    signal.removeEventListener('abort', abort)
    dispose(child)
  }
  const fault = faultOf(child, program!, stderr.toString())
  if (fault) throw fault
  return Buffer.concat(stdout).toString()
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
    // After a stall of ours the timer is first to run; the output that came meanwhile is read before the next turn.
    const silence = setTimeout(() => setImmediate(done), GRACE_MS)
    child.stdout?.on('data', () => silence.refresh())
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

function faultOf(child: ChildProcess, program: string, stderr: string): Error | undefined {
  if (child.exitCode === 0) return undefined
  const how = child.signalCode ? `was ended by ${child.signalCode}` : `exited with status ${child.exitCode}`
  const said = lastLines(stderr)
  return new Error(said ? `${program} ${how}: ${said}` : `${program} ${how}`)
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

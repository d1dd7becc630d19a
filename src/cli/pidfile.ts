// The file that tells others our process id, and keeps a second balancer from starting over it.

import { linkSync, readFileSync, renameSync, unlinkSync, writeFileSync } from 'node:fs'
import { Fault } from '../core/errors.ts'

/** Another balancer is running, or the file cannot be written. */
export class PidfileError extends Fault {
  constructor(path: string, why: string, options?: ErrorOptions) {
    super('PIDFILE', `Unable to write pidfile ${path}: ${why}`, options)
  }
}

/**
 * Writes our process id to `path`, whole or not at all. Throws `PidfileError` when the file names a process
 * that is alive; one that is not is overwritten.
 */
export function writePidfile(path: string): void {
  const draft = `${path}.${process.pid}`
  try {
    writeFileSync(draft, String(process.pid), { mode: 0o644 })
    publish(draft, path)
  } catch (error) {
    if (error instanceof PidfileError) throw error
    throw new PidfileError(path, (error as Error).message, { cause: error })
  } finally {
    discard(draft)
  }
}

/** Removes the file, if it still names us. */
export function removePidfile(path: string): void {
  try {
    if (ownerOf(path) === process.pid) unlinkSync(path)
  } catch {
    // It is gone, or was never readable: nothing of ours is left.
  }
}

function publish(draft: string, path: string): void {
  try {
    // A link appears only where nothing is, so of two that start at once one sees the other.
    linkSync(draft, path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    const owner = ownerOf(path)
    if (Number.isNaN(owner)) throw new PidfileError(path, 'it exists and does not hold a process id')
    if (isAlive(owner)) throw new PidfileError(path, `process with pid ${owner} is still running`)
    renameSync(draft, path)
  }
}

function discard(draft: string): void {
  try {
    unlinkSync(draft)
  } catch {
    // It was renamed, or could not be written in the first place.
  }
}

function ownerOf(path: string): number {
  const text = readFileSync(path, 'utf8').trim()
  // What a full disk or a crash leaves behind names nobody who could be alive.
  if (text === '') return 0
  return /^\d+$/.test(text) ? Number(text) : NaN
}

function isAlive(pid: number): boolean {
  // Signal 0 to process 0 would reach our own group; and a container gives every start the same id.
  if (pid === 0 || pid === process.pid) return false
  try {
    return process.kill(pid, 0)
  } catch (error) {
    // It lives, and belongs to somebody else.
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

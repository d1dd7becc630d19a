// A file, or the files of a folder, read without waiting for anything that is no file.

import { constants } from 'node:fs'
import type { Stats } from 'node:fs'
import { open, opendir, stat } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { aborted } from '../../core/aborted.ts'
import { messageOf } from '../../core/errors.ts'

/** The most that is read, of all files together. */
const MOST_BYTES = 16 * 1024 * 1024

/** More files than anybody keeps backends in. */
const MOST_FILES = 1000

const CHUNK_BYTES = 64 * 1024

export interface FileText {
  readonly path: string
  readonly text: Buffer
}

export interface FileTexts {
  readonly files: readonly FileText[]
  /** Names of a folder that could not be used, and why. */
  readonly rejected: readonly string[]
}

/**
 * The file at `path`, or the files of that folder by their names. Hidden ones, and folders in it, are passed
 * over. Rejects when anything cannot be read, for what is missing would look like backends that are gone;
 * beyond 1,000 files or 16 MiB in all; and with the signal's reason when that aborts.
 */
export async function readFiles(path: string, signal: AbortSignal): Promise<FileTexts> {
  signal.throwIfAborted()
  return Promise.race([readAll(path, signal), aborted(signal)])
}

async function readAll(path: string, signal: AbortSignal): Promise<FileTexts> {
  const found = await stat(path).catch((error: unknown) => {
    throw unreadable(path, error)
  })
  const isFolder = found.isDirectory()
  const paths = isFolder ? (await namesIn(path)).map((name) => join(path, name)) : [path]
  const files: FileText[] = []
  const rejected: string[] = []
  let left = MOST_BYTES
  for (const each of paths) {
    signal.throwIfAborted()
    const read = await readOne(each, left, isFolder)
    if (read === undefined) continue
    if (typeof read === 'string') rejected.push(`${basename(each)}: ${read}`)
    else files.push({ path: each, text: read })
    left -= read.length
  }
  return { files, rejected }
}

async function namesIn(folder: string): Promise<string[]> {
  const names: string[] = []
  for await (const { name } of await opendir(folder)) {
    if (!name.startsWith('.')) names.push(name)
    if (names.length > MOST_FILES) throw new Error(`${folder} has more than ${MOST_FILES} files`)
  }
  return names.sort()
}

/** The bytes of a file; why it cannot be used; or nothing for a folder in a folder. */
async function readOne(path: string, most: number, inFolder: boolean): Promise<Buffer | string | undefined> {
  let handle: FileHandle
  try {
    // A FIFO would keep a plain open waiting for whoever writes to it.
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    if (inFolder && isGone(error)) return 'no such file'
    throw unreadable(path, error)
  }
  try {
    const found = await handle.stat()
    if (found.isDirectory()) return undefined
    if (found.isFile()) return await readTo(handle, path, most)
    if (inFolder) return `expected a file, got ${typeOf(found)}`
    throw new Error(`${path}: expected a file or a folder, got ${typeOf(found)}`)
  } finally {
    await handle.close()
  }
}

async function readTo(handle: FileHandle, path: string, most: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  for (;;) {
    const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(CHUNK_BYTES), 0, CHUNK_BYTES, null)
    if (bytesRead === 0) return Buffer.concat(chunks)
    chunks.push(buffer.subarray(0, bytesRead))
    size += bytesRead
    if (size > most) throw new Error(`${path}: more than ${MOST_BYTES / 1024 / 1024} MiB to read`)
  }
}

/** It went between the listing of its folder and now, or is a link to nothing. */
function isGone(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException
  return code === 'ENOENT' || code === 'ENXIO'
}

function unreadable(path: string, error: unknown): Error {
  const { code } = error as NodeJS.ErrnoException
  const why = code === 'ENOENT' ? 'no such file' : code === 'EACCES' ? 'permission denied' : messageOf(error)
  return new Error(`${path} cannot be read: ${why}`, { cause: error })
}

function typeOf(found: Stats): string {
  if (found.isFIFO()) return 'a pipe'
  return found.isSocket() ? 'a socket' : 'a device'
}

// Lists that survive a restart: the last believed one of each source, a file each.

import { createHash } from 'node:crypto'
import { mkdir, open, readFile, rename, rm, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import type { Found } from '../core/backend.ts'
import { pause } from '../core/clock.ts'
import type { Clock } from '../core/clock.ts'
import { messageOf } from '../core/errors.ts'
import { logger } from '../core/log.ts'
import { inSlices } from '../core/slices.ts'
import type { Kept } from './roster.ts'
import { lineOf, readEntries } from './reading/line.ts'

/** A file is written, and its time set, at most this often. */
const WRITE_MS = 1_000
const CONFIRM_MS = 10_000

/** The largest file that is read: a million backends. */
const MOST_BYTES = 64 * 1024 * 1024

const log = logger('state')

/** One source's file. Nothing here throws or rejects: what fails is logged, once until it works again. */
export interface Keeper {
  /** What an earlier run kept; undefined when there is nothing that can be read. */
  load(): Promise<Kept | undefined>
  /** Keeps this list from now on. */
  keep(backends: readonly Found[]): void
  /** An answer has said the same again. */
  confirm(): void
  /** Removes the file: nobody wants the source any more. */
  forget(): void
}

/** The folder of all lists. One for the process. */
export class State {
  readonly #folder: string
  readonly #clock: Clock
  readonly #files = new Map<string, File>()

  constructor(folder: string, clock: Clock) {
    this.#folder = folder
    this.#clock = clock
  }

  /** The file of the source that `key` identifies; `source` names it for people, without secrets. */
  of(key: string, source: string): Keeper {
    const name = createHash('sha256').update(key).digest('hex').slice(0, 32)
    let file = this.#files.get(name)
    if (!file) {
      const gone = () => void this.#files.delete(name)
      this.#files.set(name, (file = new File(this.#folder, name, source, this.#clock, gone)))
    }
    file.users++
    return file
  }

  /** Writes at once what is still to be written; resolves when it is. */
  async settled(): Promise<void> {
    await Promise.all([...this.#files.values()].map((file) => file.settled()))
  }
}

/** What is to be done with a file next. */
type Wanted = readonly Found[] | 'confirm' | 'forget'

class File implements Keeper {
  readonly #folder: string
  readonly #path: string
  readonly #source: string
  readonly #clock: Clock
  /** Sources that have it; a server that is made anew may come before the file of the one before is removed. */
  users = 0
  #wanted: Wanted | undefined
  /** What was to be kept last. */
  #list: readonly Found[] | undefined
  #work: Promise<void> | undefined
  readonly #gone: () => void
  readonly #hurry = new AbortController()
  #writtenAt = -Infinity
  #confirmedAt = -Infinity
  #failed = false

  constructor(folder: string, name: string, source: string, clock: Clock, gone: () => void) {
    this.#folder = folder
    this.#path = join(folder, `${name}.json`)
    this.#source = source
    this.#clock = clock
    this.#gone = gone
  }

  async load(): Promise<Kept | undefined> {
    try {
      const { mtimeMs, size } = await stat(this.#path)
      if (size > MOST_BYTES) throw new Error(`it has ${size} bytes, expected ${MOST_BYTES} or less`)
      const lines = linesOf(JSON.parse(await readFile(this.#path, 'utf8')))
      const { backends, rejected = [] } = await readEntries(lines, (index) => `backends[${index}]`)
      for (const each of rejected) log.warn(`${this.#path}: ${each}`)
      return { backends, ageMs: Math.max(0, this.#clock.date() - mtimeMs) }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        log.warn(`${this.#path} cannot be read: ${messageOf(error)}`)
      return undefined
    }
  }

  keep(backends: readonly Found[]): void {
    this.#list = backends
    this.#want(backends)
  }

  confirm(): void {
    if (this.#wanted !== undefined || this.#clock.now() - this.#confirmedAt < CONFIRM_MS) return
    this.#want('confirm')
  }

  forget(): void {
    this.users--
    this.#want('forget')
  }

  async settled(): Promise<void> {
    this.#hurry.abort()
    while (this.#work) await this.#work
  }

  #want(what: Wanted): void {
    this.#wanted = what
    this.#work ??= this.#run().finally(() => {
      this.#work = undefined
    })
  }

  /** Does what is wanted last, and again if something else was wanted meanwhile. */
  async #run(): Promise<void> {
    while (this.#wanted !== undefined) {
      const wait = this.#writtenAt + WRITE_MS - this.#clock.now()
      if (wait > 0) await pause(this.#clock, wait, this.#hurry.signal)
      const wanted = this.#wanted
      this.#wanted = undefined
      await this.#do(wanted).then(
        () => (this.#failed = false),
        (error: unknown) => this.#tell(error),
      )
    }
  }

  #tell(error: unknown): void {
    if (!this.#failed) log.warn(`${this.#source} cannot be kept in ${this.#folder}: ${messageOf(error)}`)
    this.#failed = true
  }

  async #do(wanted: Wanted): Promise<void> {
    this.#confirmedAt = this.#clock.now()
    if (wanted === 'forget') return this.#remove()
    // What the file holds then is not what is confirmed.
    const what = wanted === 'confirm' && this.#failed ? (this.#list ?? wanted) : wanted
    if (what === 'confirm') return touch(this.#path, this.#clock.date())
    await this.#write(what)
  }

  async #remove(): Promise<void> {
    await rm(this.#path, { force: true })
    if (this.users === 0) this.#gone()
  }

  /** Whole or not at all, also when the machine goes down meanwhile. */
  async #write(backends: readonly Found[]): Promise<void> {
    this.#writtenAt = this.#clock.now()
    const lines: string[] = []
    await inSlices(backends, (found) => void lines.push(lineOf(found)))
    const text = JSON.stringify({ source: this.#source, backends: lines }, null, 1) + '\n'
    await mkdir(this.#folder, { recursive: true })
    const fresh = `${this.#path}.${process.pid}.new`
    const file = await open(fresh, 'w', 0o600)
    try {
      await file.writeFile(text)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(fresh, this.#path)
  }
}

async function touch(path: string, date: number): Promise<void> {
  await utimes(path, date / 1000, date / 1000)
}

function linesOf(document: unknown): string[] {
  const { backends } = (document ?? {}) as { backends?: unknown }
  if (!Array.isArray(backends) || !backends.every((line) => typeof line === 'string'))
    throw new Error('expected a list of backend lines at "backends"')
  return backends
}

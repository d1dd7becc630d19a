// Changes of a file or a folder, as the kernel tells of them.
//
//      event ─► 20 ms without another, or 100 ms in all ─► hint
//      another folder at that path, or none ─► over: whoever called watches again

import { watch } from 'node:fs'
import { stat } from 'node:fs/promises'
import { basename, dirname, resolve as absolute } from 'node:path'
import { pause } from '../../core/clock.ts'
import type { Cancel, Clock } from '../../core/clock.ts'

/** Whoever empties a file and then fills it has done both by then. */
const SETTLE_MS = 20
const LONGEST_SETTLE_MS = 100

/** How often a path is looked at whose folder is not there, or may be another one by now. */
const LOOK_MS = 500

/**
 * Calls `established`, then `changed` after every change of the file at `path`, or of the files in the folder.
 * Waits for the folder to be there. Rejects when it has gone or another has taken its place, or when the kernel cannot
 * watch it; resolves when `signal` aborts.
 */
export async function watchFiles(
  path: string,
  clock: Clock,
  signal: AbortSignal,
  established: () => void,
  changed: () => void,
): Promise<void> {
  const place = await appears(path, clock, signal)
  if (!place || signal.aborted) return
  const watcher = watch(place.folder, { persistent: false })
  const over = new AbortController()
  const end = () => over.abort()
  signal.addEventListener('abort', end)
  try {
    await new Promise<void>((resolve, reject) => {
      over.signal.addEventListener('abort', () => resolve())
      watcher.on('error', reject)
      const gone = () => reject(new Error(`${place.folder} was removed or replaced`))
      const look = async () => {
        if ((await placeOf(path))?.id !== place.id) gone()
      }
      const settling = new Settling(clock, over.signal, changed)
      watcher.on('change', (event, file) => {
        if (isAbout(place, file)) settling.rise()
        // The end of a folder is told by its own name. Its number may be given to the next one at once.
        if (event === 'rename' && file === basename(place.folder)) gone()
      })
      established()
      void keepLooking(look, clock, over.signal)
    })
  } finally {
    signal.removeEventListener('abort', end)
    over.abort()
    watcher.close()
  }
}

/** What is watched: a folder, all of it or one name in it. */
interface Place {
  readonly folder: string
  readonly file: string | undefined
  /** Another folder of the same name is another one. */
  readonly id: string
}

async function appears(path: string, clock: Clock, signal: AbortSignal): Promise<Place | undefined> {
  while (!signal.aborted) {
    const place = await placeOf(path)
    if (place) return place
    await pause(clock, LOOK_MS, signal)
  }
  return undefined
}

/** Not every change of place is told: a link may lead to another folder now. */
async function keepLooking(look: () => Promise<void>, clock: Clock, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await pause(clock, LOOK_MS, signal)
    await look()
  }
}

async function placeOf(written: string): Promise<Place | undefined> {
  const path = absolute(written)
  const found = await stat(path).catch(() => undefined)
  const file = found?.isDirectory() ? undefined : basename(path)
  const folder = file === undefined ? path : dirname(path)
  const inside = await stat(folder).catch(() => undefined)
  return inside && { folder, file, id: `${inside.dev} ${inside.ino} ${file}` }
}

/** Kubernetes swaps a link whose name begins with two dots; the files beside it are links through that. */
function isAbout({ file }: Place, changed: string | Buffer | null): boolean {
  return file === undefined || changed === null || changed === file || changed.toString().startsWith('..')
}

/** Many changes in a burst, told as one. */
class Settling {
  readonly #clock: Clock
  readonly #tell: () => void
  #since: number | undefined
  #cancel: Cancel = () => {}

  constructor(clock: Clock, signal: AbortSignal, tell: () => void) {
    this.#clock = clock
    this.#tell = tell
    signal.addEventListener('abort', () => this.#cancel())
  }

  rise(): void {
    const now = this.#clock.now()
    this.#since ??= now
    this.#cancel()
    const wait = Math.min(SETTLE_MS, this.#since + LONGEST_SETTLE_MS - now)
    this.#cancel = this.#clock.after(Math.max(0, wait), () => {
      this.#since = undefined
      this.#tell()
    })
  }
}

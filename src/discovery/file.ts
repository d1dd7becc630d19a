// The backends in a file, or in the files of a folder, read again when they change.

import { basename } from 'node:path'
import type { Found } from '../core/backend.ts'
import { name } from '../core/settings.ts'
import type { Answer } from './discovery.ts'
import { discovery } from './discovery.ts'
import { readElements, USUAL } from './reading/elements.ts'
import { readFiles } from './file/files.ts'
import { watchFiles } from './file/watch.ts'
import { lineReader } from './reading/line.ts'
import type { ReadLines } from './reading/line.ts'
import { Rejects } from './reading/rejects.ts'
import { keepWatching } from './watching.ts'

export const file = discovery(
  {
    settings: {
      file_path: name().describe(
        'File with a backend a line, or a list of JSON elements if it ends in ".json"; or a folder of such files.',
      ),
    },
    timeoutMs: 3_000,
    source: ({ file_path }) => `file ${file_path}`,
  },
  ({ file_path }, { clock }) => {
    const reader = new Reader()
    return {
      ask: (signal) => reader.read(file_path, signal),
      watch: (signal, watcher) =>
        keepWatching(clock, signal, watcher, (signal, established) =>
          watchFiles(file_path, clock, signal, established, () => watcher.hint()),
        ),
    }
  },
)

/** Reads the files, and knows the lines it has read of each the last time. */
class Reader {
  #lines = new Map<string, ReadLines>()

  /** Of a backend in two files the first counts, by their names; in one file the later line. */
  async read(path: string, signal: AbortSignal): Promise<Answer> {
    const { files, rejected } = await readFiles(path, signal)
    const before = this.#lines
    this.#lines = new Map()
    const backends = new Map<string, Found>()
    const rejects = new Rejects()
    for (const each of rejected) rejects.add(each)
    for (const { path, text } of files) {
      const readLines = before.get(path) ?? lineReader()
      this.#lines.set(path, readLines)
      const answer = await (
        path.endsWith('.json') ? readElements(text, USUAL, signal) : readLines(text, signal)
      ).catch((error: Error) => {
        throw signal.aborted
          ? signal.reason
          : new Error(`${basename(path)}: ${error.message}`, { cause: error })
      })
      for (const each of answer.rejected ?? []) rejects.add(`${basename(path)} ${each}`)
      for (const each of answer.backends) if (!backends.has(each.identity)) backends.set(each.identity, each)
    }
    return { backends: [...backends.values()], rejected: rejects.list() }
  }
}

// The backends a program prints, a line each: run for every question, or going on and printing list after list.

import { EventEmitter, once } from 'node:events'
import type { Clock } from '../core/clock.ts'
import { DiscoveryError, messageOf } from '../core/errors.ts'
import { follow, run } from '../core/run.ts'
import { flag, texts } from '../core/settings.ts'
import { Blocks } from './reading/blocks.ts'
import type { Discovery } from './discovery.ts'
import { discovery } from './discovery.ts'
import { lineReader } from './reading/line.ts'
import type { ReadLines } from './reading/line.ts'
import { keepWatching } from './watching.ts'

/** The most a program may print: some 20,000 backends. */
const MOST_BYTES = 1024 * 1024

const COMMAND = 'a list of strings: a program and its arguments'

export const exec = discovery(
  {
    settings: {
      exec_command: texts()
        .min(1, { error: COMMAND })
        .describe('Program and its arguments, run without a shell; it prints a backend a line.'),
      exec_stream: flag()
        .default(false)
        .describe(
          'The program goes on and prints a whole list again and again, each followed by an empty line; it is started again when it ends.',
        ),
    },
    timeoutMs: 3_000,
    source: ({ exec_command }) => `exec ${exec_command[0]}`,
  },
  ({ exec_command, exec_stream }, { clock }) => {
    const read = lineReader()
    if (exec_stream) return stream(exec_command, clock, read)
    return {
      ask: async (signal) => read(await run(exec_command, signal, MOST_BYTES), signal),
    }
  },
)

/** A program that goes on: what it printed last is the answer while it runs, and how it ended the error then. */
function stream(command: readonly string[], clock: Clock, read: ReadLines): Discovery {
  const latest = new Latest()
  return {
    ask: async (signal) => read(await latest.list(signal), signal),
    watch(signal, watcher) {
      keepWatching(clock, signal, watcher, async (signal, established) => {
        const blocks = new Blocks()
        let heard = false
        const hear = (chunk: Buffer) => {
          const list = blocks.add(chunk)
          if (!list) return
          latest.is(list)
          if (heard) watcher.hint()
          else established()
          heard = true
        }
        try {
          await follow(command, clock, signal, hear)
        } catch (error) {
          latest.isLost(messageOf(error))
          if (!signal.aborted) watcher.hint()
          throw error
        }
      })
    },
  }
}

/** The last list, once there is one. */
class Latest {
  #list: Buffer | undefined
  #lost: string | undefined
  readonly #changes = new EventEmitter()

  /** Waits for the first list; rejects while the program that printed it is no more. */
  async list(signal: AbortSignal): Promise<Buffer> {
    signal.throwIfAborted()
    while (!this.#list && this.#lost === undefined)
      await once(this.#changes, 'change', { signal }).catch(() => signal.throwIfAborted())
    if (!this.#list) throw new DiscoveryError(this.#lost!)
    return this.#list
  }

  is(list: Buffer): void {
    this.#list = list
    this.#lost = undefined
    this.#changes.emit('change')
  }

  isLost(why: string): void {
    this.#list = undefined
    this.#lost = why
    this.#changes.emit('change')
  }
}

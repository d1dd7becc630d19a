// The set of running servers: created, removed and found by name, one change at a time.

import { readServer } from '../config/read.ts'
import type { Config, ServerConfig } from '../config/read.ts'
import { Fault, messageOf, NameTakenError } from '../core/errors.ts'
import type { Problem } from '../core/errors.ts'
import { logger } from '../core/log.ts'
import type { Ending } from '../core/reasons.ts'
import { Server } from '../server/server.ts'
import type { ServerContext } from '../server/server.ts'

const log = logger('manager')

export class Manager {
  readonly config: Config
  readonly context: ServerContext
  readonly #servers = new Map<string, Server>()
  /** The last change of each name that has one under way; the next one waits for it. */
  readonly #changes = new Map<string, Promise<unknown>>()
  #ending = false

  constructor(config: Config, context: ServerContext) {
    this.config = config
    this.context = context
  }

  /** Running servers by name, in the order they were created. */
  get servers(): ReadonlyMap<string, Server> {
    return this.#servers
  }

  /** Starts every server of the config, all at once. Rejects with the first failure and leaves none running. */
  async initialize(): Promise<void> {
    log.info('Initializing...')
    const starts = [...this.config.servers].map(([name, config]) =>
      this.#change(name, () => this.#start(name, config)),
    )
    const failed = (await Promise.allSettled(starts)).find((result) => result.status === 'rejected')
    if (failed) {
      await this.stop(0, 'killed')
      throw failed.reason
    }
    log.info('Initialized')
  }

  /**
   * Reads `input` as a server and starts it under `name`. Rejects with `ConfigError`, `NameTakenError`,
   * `UnsupportedError` or `BindError`, and then nothing has changed. Resolves with what was odd about it.
   */
  async create(name: string, input: unknown): Promise<readonly Problem[]> {
    try {
      return await this.#change(name, async () => {
        if (this.#ending) throw new Fault('ENDING', `server ${name} is not started: fairlead is ending`)
        if (this.#servers.has(name)) throw new NameTakenError(name)
        const { server, warnings } = readServer(name, input, this.config.defaults)
        await this.#start(name, server)
        return warnings
      })
    } catch (error) {
      log.warn(`Could not create '${name}': ${messageOf(error)}`)
      throw error
    }
  }

  /** Closes the server of that name with all its flows; false when there is none. Its port is free afterwards. */
  remove(name: string): Promise<boolean> {
    return this.#change(name, async () => {
      const server = this.#servers.get(name)
      if (!server) return false
      server.forget()
      await server.stop(0, 'killed')
      this.#servers.delete(name)
      return true
    })
  }

  /** Stops all servers for good: none is created any more. Flows may finish for `graceMs`, then they end with `reason`. */
  async stop(graceMs: number, reason: Ending): Promise<void> {
    this.#ending = true
    // Those that are being created are stopped as soon as they are there.
    const names = new Set([...this.#servers.keys(), ...this.#changes.keys()])
    await Promise.all(
      [...names].map((name) =>
        this.#change(name, async () => {
          await this.#servers.get(name)?.stop(graceMs, reason)
          this.#servers.delete(name)
        }),
      ),
    )
  }

  async #start(name: string, config: ServerConfig): Promise<void> {
    const { balance, discovery, healthcheck } = config.settings
    const binds = [config.written.bind].flat().join(', ')
    log.info(`Creating '${name}': ${binds} ${balance} ${discovery.kind} ${healthcheck.kind}`)
    const server = new Server(name, config, this.context)
    await server.start()
    this.#servers.set(name, server)
  }

  #change<T>(name: string, change: () => Promise<T>): Promise<T> {
    const before = this.#changes.get(name) ?? Promise.resolve()
    const after = before.then(change, change)
    const settled = after.then(ignore, ignore).then(() => {
      if (this.#changes.get(name) === settled) this.#changes.delete(name)
    })
    this.#changes.set(name, settled)
    return after
  }
}

function ignore(): void {}

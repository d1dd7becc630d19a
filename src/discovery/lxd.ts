// The running containers of an LXD or Incus server.

import { join } from 'node:path'
import type { Found } from '../core/backend.ts'
import { pause } from '../core/clock.ts'
import type { Clock } from '../core/clock.ts'
import { count, flag, name, oneOf, text } from '../core/settings.ts'
import type { Settings } from '../core/settings.ts'
import { inSlices } from '../core/slices.ts'
import { discovery } from './discovery.ts'
import type { Answer, Discovery, Watcher } from './discovery.ts'
import { events, question, Refused, unixDoor } from './lxd/api.ts'
import type { Door } from './lxd/api.ts'
import { addressOf, backendOf, interfaceOf, isWanted, readContainer } from './lxd/container.ts'
import type { Container } from './lxd/container.ts'
import { HttpsDoor } from './lxd/trust.ts'
import { quote } from './reading/options.ts'
import { Rejects } from './reading/rejects.ts'
import { keepWatching } from './watching.ts'

/** A container that runs for longer than this without an address is named; before that it is waited for. */
const STARTING_MS = 15_000

/** No event tells of an address, so containers that start are looked at this often. */
const LOOK_MS = 100
const LOOK_TIMEOUT_MS = 5_000

/** Events after which the list may be another. One that is created does not run yet, one deleted no longer. */
const CHANGES =
  /^(instance|container|virtual-machine)-(started|stopped|shutdown|restarted|paused|resumed|updated|restored)$|^profile-updated$/

/** Where containers are, and where they were before LXD 3.19: without their states in the list. */
const PATH = '/1.0/instances'
const OLD_PATH = '/1.0/containers'

const ADDRESS = 'an address that starts with "https:" or "unix:"'

const settings = {
  lxd_server_address: text()
    .refine(
      (value) =>
        /^unix:/.test(value) || (/^https:/.test(value) && URL.canParse(value) && !value.includes('@')),
      {
        error: ADDRESS,
      },
    )
    .describe(
      'LXD or Incus server to ask, such as "https://10.0.0.1:8443" or "unix:///var/lib/lxd/unix.socket".',
    ),
  lxd_server_remote_name: name()
    .regex(/^[^/\\\0]+$/, { error: 'a name without "/"' })
    .default('local')
    .describe(
      'Name of the server in the client configuration; its certificate is servercerts/NAME.crt there.',
    ),
  lxd_server_remote_password: text()
    .default('')
    .describe(
      'Trust password, or token of "lxc config trust add", that makes the server trust the client certificate.',
    ),
  lxd_config_directory: text()
    .optional()
    .describe('Folder with the client certificates; unset is .config/lxc in the home directory.'),
  lxd_generate_client_certs: flag().default(false).describe('Makes a client certificate when there is none.'),
  lxd_accept_server_cert: flag()
    .default(false)
    .describe('Trusts the certificate the server shows at first and keeps it.'),
  lxd_container_label_key: text()
    .default('')
    .describe('Configuration key containers must have, their profiles’ included; empty takes all.'),
  lxd_container_label_value: text()
    .default('')
    .describe('Value that configuration key must have; empty takes any.'),
  lxd_container_port: count()
    .refine((value) => value <= 65535, { error: 'a port, or 0 for none' })
    .default(0)
    .describe('Port of the backends; 0 is none but that of lxd_container_port_key.'),
  lxd_container_port_key: text()
    .default('')
    .describe('Configuration key of a container that holds its port.'),
  lxd_container_interface: name()
    .default('eth0')
    .describe('Network interface whose address is the host of the backend.'),
  lxd_container_interface_key: text()
    .default('')
    .describe('Configuration key of a container that holds its interface.'),
  lxd_container_sni_key: text()
    .default('')
    .describe('Configuration key of a container that holds its TLS server name.'),
  lxd_container_address_type: oneOf(['IPv4', 'IPv6'])
    .default('IPv4')
    .describe('Which address of the interface is used.'),
}

type LxdSettings = Settings<typeof settings>

export const lxd = discovery(
  { settings, timeoutMs: 5_000, source: ({ lxd_server_address }) => `lxd ${lxd_server_address}` },
  (settings, { clock }) => new Lxd(settings, clock),
)

/** A container that runs without an address. */
interface Starting {
  readonly container: Container
  readonly since: number
  /** It is looked at no more: it has one meanwhile, or will not get one. */
  over: boolean
}

class Lxd implements Discovery {
  readonly #settings: LxdSettings
  readonly #clock: Clock
  readonly #door: Door
  #starting: ReadonlyMap<string, Starting> = new Map()
  /** Where this server has its containers. */
  #path = PATH
  #looking = false
  #watch: { readonly signal: AbortSignal; readonly watcher: Watcher } | undefined

  constructor(settings: LxdSettings, clock: Clock) {
    this.#settings = settings
    this.#clock = clock
    this.#door = doorOf(settings, clock)
  }

  async ask(signal: AbortSignal): Promise<Answer> {
    const rejected = new Rejects()
    const containers = await this.#containers(signal, rejected)
    const backends = new Map<string, Found>()
    const starting = new Map<string, Starting>()
    await inSlices(containers, (container) => {
      const host = addressOf(container, this.#settings)
      if (host === undefined) return starting.set(container.name, this.#unaddressed(container, rejected))
      const { backend, wrong } = backendOf(container, this.#settings, host)
      if (backend) backends.set(backend.identity, backend)
      for (const each of wrong) rejected.add(`container ${quote(container.name)}: ${each}`)
    })
    signal.throwIfAborted()
    this.#starting = starting
    void this.#look()
    return { backends: [...backends.values()], rejected: rejected.list() }
  }

  watch(signal: AbortSignal, watcher: Watcher): void {
    this.#watch = { signal, watcher }
    keepWatching(this.#clock, signal, watcher, (signal, established) =>
      events(this.#door, this.#clock, signal, established, (action) => {
        if (CHANGES.test(action)) watcher.hint()
      }),
    )
  }

  /** The containers that may be backends, with their states. */
  async #containers(signal: AbortSignal, rejected: Rejects): Promise<readonly Container[]> {
    const entries = await this.#list(signal)
    const wanted: Container[] = []
    let index = 0
    await inSlices(entries, (entry) => {
      const container = readContainer(entry)
      if (!container) rejected.add(`entry ${index}: expected a container with a name and a status`)
      else if (isWanted(container, this.#settings)) wanted.push(container)
      index++
    })
    if (this.#path === PATH) return wanted
    const withStates: Container[] = []
    for (const each of wanted) withStates.push({ ...each, state: await this.#state(each, signal) })
    return withStates
  }

  async #list(signal: AbortSignal): Promise<readonly unknown[]> {
    try {
      return this.#found(PATH, await this.#question(`${PATH}?recursion=2`, signal))
    } catch (error) {
      if (!isStatus(error, 404)) throw error
      return this.#found(OLD_PATH, await this.#question(`${OLD_PATH}?recursion=1`, signal))
    }
  }

  #found(path: string, list: unknown): readonly unknown[] {
    if (!Array.isArray(list))
      throw new Error(`LXD at ${this.#door.address}: expected a list at ${path}, got ${typeof list}`)
    this.#path = path
    return list
  }

  /** The state of one container; undefined when it is gone by now. */
  async #state({ name }: Container, signal: AbortSignal): Promise<unknown> {
    try {
      return await question(this.#door, `${this.#path}/${encodeURIComponent(name)}/state`, signal)
    } catch (error) {
      if (!isStatus(error, 404)) throw error
    }
  }

  /** Asks, and makes itself known first where the server does not know it. */
  async #question(path: string, signal: AbortSignal): Promise<unknown> {
    try {
      return await question(this.#door, path, signal)
    } catch (error) {
      if (!isStatus(error, 403) || !(this.#door instanceof HttpsDoor)) throw error
      await this.#door.introduce(signal)
      return question(this.#door, path, signal)
    }
  }

  #unaddressed(container: Container, rejected: Rejects): Starting {
    const since = this.#starting.get(container.name)?.since ?? this.#clock.now()
    const over = this.#clock.now() - since >= STARTING_MS
    const { lxd_container_address_type: type } = this.#settings
    const where = quote(interfaceOf(container, this.#settings))
    if (over) rejected.add(`container ${quote(container.name)}: has no ${type} address on ${where}`)
    return { container, since, over }
  }

  /** Looks at those that start, one after another, until each has its address or its time is over; then hints. */
  async #look(): Promise<void> {
    const { signal, watcher } = this.#watch ?? {}
    if (!signal || !watcher || this.#looking) return
    this.#looking = true
    while (!signal.aborted && this.#looked().length > 0) {
      await pause(this.#clock, LOOK_MS, signal)
      for (const each of this.#looked()) {
        if (signal.aborted) break
        each.over =
          this.#clock.now() - each.since >= STARTING_MS || (await this.#hasAddress(each.container, signal))
        if (each.over) watcher.hint()
      }
    }
    this.#looking = false
  }

  #looked(): readonly Starting[] {
    return [...this.#starting.values()].filter(({ over }) => !over)
  }

  async #hasAddress(container: Container, signal: AbortSignal): Promise<boolean> {
    const looking = new AbortController()
    const abort = () => looking.abort()
    const cancel = this.#clock.after(LOOK_TIMEOUT_MS, abort)
    signal.addEventListener('abort', abort)
    try {
      const state = await this.#state(container, looking.signal)
      return addressOf(container, this.#settings, state) !== undefined
    } catch {
      // Whatever it is, the next question for the whole list tells of it.
      return false
    } finally {
      cancel()
      signal.removeEventListener('abort', abort)
    }
  }
}

function doorOf(settings: LxdSettings, clock: Clock): Door {
  const { lxd_server_address: address } = settings
  if (!address.startsWith('unix:')) {
    const trust = {
      remote: settings.lxd_server_remote_name,
      folder: settings.lxd_config_directory,
      password: settings.lxd_server_remote_password,
      generate: settings.lxd_generate_client_certs,
      accept: settings.lxd_accept_server_cert,
    }
    return new HttpsDoor(address, trust, clock)
  }
  // Without a path, the one that `lxc` would take.
  const path = address.replace(/^unix:(\/\/)?/, '')
  return unixDoor(address, path || join(process.env.LXD_DIR || '/var/lib/lxd', 'unix.socket'))
}

function isStatus(error: unknown, status: number): boolean {
  return error instanceof Refused && error.status === status
}

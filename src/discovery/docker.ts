// The running containers of a Docker engine, and when they come and go.

import { z } from 'zod'
import { found } from '../core/backend.ts'
import type { Found } from '../core/backend.ts'
import type { Clock } from '../core/clock.ts'
import { DiscoveryError, messageOf } from '../core/errors.ts'
import { count, flag, name, text } from '../core/settings.ts'
import type { Settings } from '../core/settings.ts'
import { inSlices } from '../core/slices.ts'
import { discovery } from './discovery.ts'
import type { Answer, Discovery, DiscoveryContext, Watcher } from './discovery.ts'
import { DockerApi, EngineFault, readEndpoint } from './docker/api.ts'
import { DockerEvents } from './docker/events.ts'
import { isHealthy, listedContainer, nameOf, placesOf } from './docker/places.ts'
import type { Container, Wanted } from './docker/places.ts'
import { certificateConflicts, readCertificates } from './reading/certificates.ts'
import { elementsOf } from './reading/jsonlist.ts'
import { labelOptions, quote } from './reading/options.ts'
import { Rejects } from './reading/rejects.ts'
import { keepWatching } from './watching.ts'

const ENDPOINT = 'an address such as "unix:///var/run/docker.sock" or "tcp://10.0.0.1:2375"'

const settings = {
  docker_endpoint: name()
    .refine((value) => readEndpoint(value) !== undefined, { error: ENDPOINT })
    .describe('Docker engine to ask, such as "http://localhost:2375" or "unix:///var/run/docker.sock".'),
  docker_container_label: text()
    .default('')
    .describe('Label containers must have, "key" or "key=value"; empty takes all.'),
  docker_container_private_port: count()
    .refine((value) => value <= 65535, { error: 'a port, or 0' })
    .default(0)
    .describe(
      'Port inside the container whose published port is the backend; 0 takes every published port, and of a container that publishes none every port it exposes.',
    ),
  docker_container_host_env_var: text()
    .default('')
    .describe('Environment variable of a container that holds the host of the backend.'),
  docker_network: text()
    .default('')
    .describe(
      'Network in which containers are reached, at their address there and the private port, published or not; containers outside it are left out. Empty takes the published port, and of a container that does not publish it its own address.',
    ),
  docker_healthy_only: flag()
    .default(false)
    .describe('Leaves out containers whose HEALTHCHECK does not say healthy; those without one stay.'),
  docker_tls_enabled: flag().default(false).describe('Asks the Docker engine over TLS.'),
  docker_tls_cert_path: text()
    .default('')
    .describe('File with the client certificate, PEM; read anew for every question.'),
  docker_tls_key_path: text()
    .default('')
    .describe('File with the private key of the client certificate, PEM.'),
  docker_tls_cacert_path: text()
    .default('')
    .describe('File with the CA certificates to trust, PEM; without it the engine is not verified.'),
}

type Keys = Settings<typeof settings>

export const docker = discovery(
  {
    settings,
    timeoutMs: 5_000,
    source: ({ docker_endpoint }) => `docker ${docker_endpoint}`,
    conflicts: (settings) => certificateConflicts('docker', settings),
    byTransport: true,
  },
  (keys, context) => new Containers(keys, context),
)

const inspected = z.object({ Config: z.object({ Env: z.array(text()).nullish() }) })

/** Containers inspected at once. */
const INSPECTED = 8

/** The longest list, in bytes: two thousand of a container are usual. */
const MOST_LIST = 16 * 1024 * 1024

const MOST_CONTAINERS = 100_000

/** The most that is said of one container; reading it keeps clients waiting. */
const MOST_CONTAINER = 256 * 1024

class Containers implements Discovery {
  readonly #keys: Keys
  readonly #clock: Clock
  readonly #api: DockerApi
  readonly #events: DockerEvents
  readonly #wanted: Wanted
  /** The host each container names in its environment, by id, empty for none: a container's never changes. */
  readonly #hosts = new Map<string, string>()

  constructor(keys: Keys, { clock, transport }: DiscoveryContext) {
    this.#keys = keys
    this.#clock = clock
    const certificates = keys.docker_tls_enabled ? () => readCertificates('docker', keys) : undefined
    this.#api = new DockerApi(keys.docker_endpoint, certificates)
    const interest = { label: keys.docker_container_label, health: keys.docker_healthy_only }
    this.#events = new DockerEvents(interest, clock)
    const endpoint = readEndpoint(keys.docker_endpoint)!
    this.#wanted = {
      privatePort: keys.docker_container_private_port,
      transport,
      network: keys.docker_network,
      engineHost: 'path' in endpoint ? '127.0.0.1' : endpoint.host,
    }
  }

  /** Of two containers in one place the first in the engine's list counts: the one made last. */
  async ask(signal: AbortSignal): Promise<Answer> {
    const list = await this.#list(signal)
    const rejects = new Rejects()
    const containers: Container[] = []
    let index = -1
    await inSlices(elementsIn(list), (element) => {
      signal.throwIfAborted()
      if (!element) return
      if (++index === MOST_CONTAINERS)
        throw new DiscoveryError(`expected at most ${MOST_CONTAINERS} containers`)
      const container = read(listedContainer, element)
      if ('wrong' in container) rejects.add(`container ${index}: ${container.wrong}`)
      else if (this.#isWanted(container)) containers.push(container)
    })
    const known = await this.#withHosts(containers, rejects, signal)
    const backends = new Map<string, Found>()
    await inSlices(known, (container) => {
      for (const each of this.#backends(container, rejects))
        if (!backends.has(each.identity)) backends.set(each.identity, each)
    })
    return { backends: [...backends.values()], rejected: rejects.list() }
  }

  watch(signal: AbortSignal, watcher: Watcher): void {
    keepWatching(this.#clock, signal, watcher, async (signal, established) => {
      try {
        for await (const each of this.#api.events(this.#events.filters, signal, established))
          this.#events.hear(each, () => watcher.hint())
      } finally {
        this.#events.forget()
      }
    })
  }

  #list(signal: AbortSignal): Promise<Buffer> {
    const { docker_container_label: label } = this.#keys
    const filters = { status: ['running'], ...(label && { label: [label] }) }
    return this.#api.get('/containers/json', { filters }, MOST_LIST, signal)
  }

  #isWanted(container: Container): boolean {
    if (this.#events.hasGone(container.Id)) return false
    return !this.#keys.docker_healthy_only || isHealthy(container)
  }

  #backends(container: Container, rejects: Rejects): Found[] {
    const labels = container.Labels ?? {}
    const { options, wrong } = labelOptions([
      // gobetween's own label, which has no prefix.
      ...(labels.sni ? [['fairlead.sni', labels.sni] as const] : []),
      ...Object.entries(labels),
    ])
    for (const each of wrong) rejects.add(`container ${nameOf(container)}: ${each}`)
    const places = placesOf(container, this.#wanted, this.#hosts.get(container.Id) || undefined)
    if (typeof places === 'string') {
      rejects.add(`container ${nameOf(container)}: ${places}`)
      return []
    }
    return places.map((place) => found(place, options))
  }

  /** Learns the host that each container names, of those not known yet, a few at a time; those it is known of. */
  async #withHosts(
    containers: readonly Container[],
    rejects: Rejects,
    signal: AbortSignal,
  ): Promise<readonly Container[]> {
    if (this.#keys.docker_container_host_env_var === '') return containers
    const rest = containers.filter(({ Id }) => !this.#hosts.has(Id)).values()
    const failed = new AbortController()
    const either = AbortSignal.any([signal, failed.signal])
    const inspect = async () => {
      for (const container of rest) {
        const host = await this.#hostOf(container.Id, either)
        if (typeof host === 'string') this.#hosts.set(container.Id, host)
        else rejects.add(`container ${nameOf(container)}: ${host.wrong}`)
      }
    }
    const inspecting = Array.from({ length: INSPECTED }, () =>
      inspect().catch((error: unknown) => failed.abort(error)),
    )
    await Promise.all(inspecting)
    signal.throwIfAborted()
    failed.signal.throwIfAborted()
    const listed = new Set(containers.map(({ Id }) => Id))
    for (const id of this.#hosts.keys()) if (!listed.has(id)) this.#hosts.delete(id)
    return containers.filter(({ Id }) => this.#hosts.has(Id))
  }

  /** Empty where the container names none; rejects where nobody can be asked. */
  async #hostOf(id: string, signal: AbortSignal): Promise<string | { readonly wrong: string }> {
    const prefix = `${this.#keys.docker_container_host_env_var}=`
    try {
      const path = `/containers/${encodeURIComponent(id)}/json`
      const container = read(inspected, await this.#api.get(path, {}, MOST_CONTAINER, signal))
      if ('wrong' in container) return container
      return container.Config.Env?.find((each) => each.startsWith(prefix))?.slice(prefix.length) ?? ''
    } catch (error) {
      if (!(error instanceof EngineFault) || error.status === undefined) throw error
      // Gone since it was listed, which the next question will say.
      return error.status === 404 ? '' : { wrong: error.message }
    }
  }
}

function* elementsIn(list: Buffer): Generator<Buffer | undefined> {
  try {
    yield* elementsOf(list, [])
  } catch (error) {
    throw new DiscoveryError(`the list of containers cannot be read: ${messageOf(error)}`, { cause: error })
  }
}

/** What `schema` reads of a JSON text, or what is wrong with it at first sight, and where. */
function read<T extends object>(schema: z.ZodType<T>, json: Buffer): T | { readonly wrong: string } {
  if (json.length > MOST_CONTAINER)
    return { wrong: `expected at most ${MOST_CONTAINER} bytes, got ${json.length}` }
  let value: unknown
  try {
    value = JSON.parse(json.toString())
  } catch {
    return { wrong: `expected JSON, got ${quote(json.toString('utf8', 0, 100))}` }
  }
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const { path, message } = result.error.issues[0]!
  return { wrong: `${path.length > 0 ? `${path.join('.')}: ` : ''}expected ${message}` }
}

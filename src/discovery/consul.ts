// The instances of a service in Consul.
//
//      ask      the instances ──► none? ──► may we read them at all?
//      watch    the instances ──► their index ──► the instances once they are past that ──► hint

import { pause } from '../core/clock.ts'
import type { Clock } from '../core/clock.ts'
import type { Found } from '../core/backend.ts'
import { DiscoveryError, messageOf } from '../core/errors.ts'
import { flag, name, text } from '../core/settings.ts'
import { inSlices } from '../core/slices.ts'
import { agentConflicts, agentSettings, conversation } from './consul/agent.ts'
import type { Agent, Wanted } from './consul/agent.ts'
import { readInstance } from './consul/instance.ts'
import { discovery } from './discovery.ts'
import type { Answer } from './discovery.ts'
import { elementsOf } from './reading/jsonlist.ts'
import { quote } from './reading/options.ts'
import { Rejects } from './reading/rejects.ts'
import { keepWatching } from './watching.ts'

/** A server that does not keep questions open is left alone for this long between two. */
const PACE_MS = 1_000
/** So many changes within that time are followed at once. */
const BURST = 5

const { consul_host, ...reach } = agentSettings

export const consul = discovery(
  {
    settings: {
      consul_host,
      consul_service_name: name().describe('Service whose instances are the backends.'),
      consul_service_tag: text().default('').describe('Tag instances must have; empty takes all.'),
      consul_service_passing_only: flag()
        .default(false)
        .describe('Takes only instances whose checks in Consul pass.'),
      ...reach,
    },
    timeoutMs: 2_000,
    source: ({ consul_host, consul_service_name }) => `consul ${consul_service_name} at ${consul_host}`,
    conflicts: agentConflicts,
  },
  (settings, { clock }) => {
    const wanted = {
      service: settings.consul_service_name,
      tag: settings.consul_service_tag,
      passing: settings.consul_service_passing_only,
    }
    return {
      ask: (signal) => conversation(settings, signal, (agent) => list(agent, wanted, signal)),
      watch: (signal, watcher) =>
        keepWatching(clock, signal, watcher, (signal, established) =>
          conversation(settings, signal, (agent) =>
            follow(agent, wanted, clock, signal, { established, changed: () => watcher.hint() }),
          ),
        ),
    }
  },
)

async function list(agent: Agent, wanted: Wanted, signal: AbortSignal): Promise<Answer> {
  const { body } = await agent.instances(wanted)
  const { backends, rejected } = await read(body, signal).catch((error: unknown) => {
    throw new DiscoveryError(`the answer of Consul cannot be read: ${messageOf(error)}`)
  })
  // Consul hides what ACLs do not let us see: it lists nothing, with status 200.
  if (backends.length + rejected.length === 0 && (await agent.mayRead(wanted.service)) === false)
    throw new DiscoveryError(
      `Consul lists nothing because its ACLs hide service ${quote(wanted.service)}: ` +
        'consul_acl_token needs service:read for it, and node:read',
    )
  return { backends, rejected }
}

/** Reads a list of instances in slices; the later of two with the same address and name counts. */
async function read(json: Buffer, signal: AbortSignal) {
  const backends = new Map<string, Found>()
  const rejects = new Rejects()
  let place = 0
  await inSlices(elementsOf(json, []), (bytes) => {
    signal.throwIfAborted()
    if (!bytes) return
    place++
    const { backend, wrong } = readInstance(bytes)
    if (backend) backends.set(backend.identity, backend)
    for (const each of wrong) rejects.add(`instance ${place}${each}`)
  })
  return { backends: [...backends.values()], rejected: rejects.list() }
}

/** Asks for what is new, one question after another, until one fails. */
async function follow(
  agent: Agent,
  wanted: Wanted,
  clock: Clock,
  signal: AbortSignal,
  tell: { established(): void; changed(): void },
): Promise<never> {
  let index: string | undefined
  let known: Buffer | undefined
  let spare = BURST
  for (;;) {
    const began = clock.now()
    const { index: reached, body } = await agent.instances(wanted, index)
    if (!known) tell.established()
    else if (reached !== index) tell.changed()

    // Whoever answers at once and says the same again does not keep questions open.
    const took = clock.now() - began
    const news = !known?.equals(body)
    spare = took >= PACE_MS ? BURST : news ? Math.max(0, spare - 1) : 0
    known = body

    // One that goes back is another history, in which the old index means nothing: from its beginning.
    index = BigInt(reached) < BigInt(index ?? 0) ? undefined : reached
    if (spare === 0) await pause(clock, PACE_MS - took, signal)
  }
}

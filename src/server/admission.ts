// The heart: access, room, elect. The desk a plane asks, and the only place that gives slots and takes them back.

import type { Balancer } from '../balance/balancer.ts'
import { fnvBytes, spread } from '../balance/fnv.ts'
import type { Address } from '../core/address.ts'
import { isUnix } from '../core/address.ts'
import { Bursts } from '../core/burst.ts'
import type { Clock } from '../core/clock.ts'
import { ipBytes } from '../core/ip.ts'
import type { Logger } from '../core/log.ts'
import { EXPLANATIONS } from '../core/reasons.ts'
import type { Reason, Refusal } from '../core/reasons.ts'
import { unableText } from '../plane/fault.ts'
import type { Answer, Arrival, Desk, Dial, DialFailure, FlowEnd } from '../plane/plane.ts'
import type { Listening, Refuse, Wait } from '../plane/plane.ts'
import { HEADER_BYTES } from '../plane/quic.ts'
import type { Backend } from '../pool/backend.ts'
import { drains } from '../pool/backend.ts'
import type { Pool } from '../pool/pool.ts'
import { packNote, unpackNote } from './note.ts'
import type { Note } from './note.ts'
import type { Outliers } from './outliers.ts'
import { Queue } from './queue.ts'
import type { Asked, Home, QuicIds } from './quicids.ts'
import type { Room } from './room.ts'
import type { Totals } from './totals.ts'

export interface AdmissionOptions {
  readonly pool: Pool
  readonly room: Room
  readonly totals: Totals
  readonly balancer: Balancer
  /** Undefined: everybody may come in. */
  readonly access: { allows(bytes: Uint8Array): boolean } | undefined
  /** The bytes a hash kind hashes; undefined for kinds that do not hash. */
  readonly hashKey: ((address: Uint8Array, client: Arrival) => Uint8Array) | undefined
  /** Bounds one dial; 0 is the kernel's limit. */
  readonly dialTimeoutMs: number
  /** Further backends tried after a failed dial. */
  readonly redispatch: number
  /** How long a client waits for a slot; 0 is not at all. */
  readonly queueMs: number
  /** A client with this descriptor or a higher one is refused. */
  readonly descriptorCeiling: number
  /** Flows are UDP sessions. */
  readonly datagrams?: DatagramOptions | undefined
  /** Watches how dials and flows fare. */
  readonly outliers?: Outliers | undefined
  readonly clock: Clock
  readonly log: Logger
  /** Told of every flow that is over, with its backend's text; empty without one. */
  readonly onEnd: (end: FlowEnd, backend: string) => void
}

export interface DatagramOptions {
  /** Fire and forget: a session takes no slot, and room only until it is sent to a backend. */
  readonly fleeting?: boolean
  /** A session whose backend proves unreachable ends; else it is given another one. */
  readonly endLost: boolean
  /** Ids of QUIC connections; undefined where none are looked at. */
  readonly quic: QuicIds | undefined
}

/** What is remembered of a flow that waited or failed a dial; all others are known to the plane alone. */
interface Pending {
  readonly client: Arrival
  /** Rows whose dial failed. */
  readonly tried: number[]
  /** Addresses of the last backend whose dial failed. */
  endpoints: number
  /** The last backend dialled, by text. */
  last: string
  /** When a dial failed last. */
  failedAt: number
  queued: boolean
  /** What its first datagram asks for, where ids of QUIC are looked at. */
  asked: Asked | undefined
  /** Where it was sent then. */
  home: Home | undefined
}

/** Addresses of one host name that are tried for a client: DNS decides how many there are. */
const MOST_ENDPOINTS = 4

/** A session that was moved and fared well for this long may be moved as often again. */
const SETTLED_MS = 10_000

const NO_KEY: Uint8Array = new Uint8Array(0)

/** Of a session this is the first datagram, which is there. */
const FIRST_DATAGRAM: Wait = { wait: { atLeast: 1, atMost: HEADER_BYTES, ms: 1000 } }

export class Admission implements Desk {
  readonly #options: AdmissionOptions
  readonly #bursts: Bursts
  readonly #pending = new Map<number, Pending>()
  readonly #queue: Queue<Pending>
  readonly #fleeting: boolean
  /** Those that are fleeting and hold room yet. */
  readonly #undecided = new Set<number>()
  #listening: Listening | undefined
  #serving = false

  constructor(options: AdmissionOptions) {
    this.#options = options
    this.#fleeting = options.datagrams?.fleeting ?? false
    this.#bursts = new Bursts((message) => options.log.error(message), options.clock)
    this.#queue = new Queue(options.queueMs, options.clock, ({ client }) =>
      this.#listening?.answer(client.flow, { refuse: 'queue-timeout' }),
    )
  }

  /** Flows that wait for a slot. */
  get queued(): number {
    return this.#queue.size
  }

  /** Where flows that waited are answered. */
  attach(listening: Listening): void {
    this.#listening = listening
  }

  /** No flow will be answered any more. */
  close(): void {
    this.#queue.close()
  }

  arrived(client: Arrival): Answer {
    const { totals, clock } = this.#options
    const began = clock.now()
    totals.arrived++
    const refusal = this.#admit(client)
    const answer = refusal ? { refuse: refusal } : this.#answer(client)
    if ('refuse' in answer) {
      if (!refusal) this.#leave(client)
      totals.refused(answer.refuse)
    }
    totals.decision.record(clock.now() - began)
    return answer
  }

  headed(client: Arrival, bytes: Uint8Array): Answer {
    const quic = this.#options.datagrams?.quic
    if (!quic) return { refuse: 'bad-header' } // Only ids of QUIC are asked for yet.
    const pending = this.#remember(client)
    pending.asked = quic.read(bytes)
    return this.#goHome(client, pending) ?? this.#decide(client, pending)
  }

  dialFailed(client: Arrival, failure: DialFailure): Answer {
    const { pool, balancer, outliers, redispatch, totals, datagrams, log } = this.#options
    const { lost, why, code, ms, backend: row, note } = failure
    const backend = pool.at(row)
    if (lost) backend.closed++
    this.#release(row)
    if (why === 'descriptors') return { refuse: this.#refused(why) }

    log.debug(`dial of ${backend.text} failed for ${client.ip}: ${code}`)
    if (why === 'unable') this.#bursts.say('unable', () => unableText(code))
    const pending = this.#remember(client)
    this.#noteFailure(pending, backend, lost)
    const ours = why === 'ports' || why === 'unable'
    if (!ours) {
      backend.refused++
      balancer.failed?.(row, Math.max(ms, 0))
      outliers?.dialFailed(backend, why)
    }
    if (lost && datagrams?.endLost) return { refuse: 'backend-lost' }
    if (++pending.endpoints < Math.min(backend.endpoints.length, MOST_ENDPOINTS) && pool.live(backend)) {
      const { how, redispatches, endpoint } = unpackNote(note)
      return this.#dial(client, backend, how, (endpoint + 1) % backend.endpoints.length, redispatches)
    }
    // Every address of the family was ours to lack, such as IPv6 on a machine that has none.
    if (why === 'ports') return { refuse: this.#refused(why) }
    pending.endpoints = 0
    pending.tried.push(row)
    const answer = pending.tried.length > redispatch ? undefined : this.#decide(client, pending)
    if (answer && !('refuse' in answer)) {
      if ('dial' in answer) totals.redispatches++
      return answer
    }
    this.#bursts.say('dial', () => `no backend could be reached, last ${backend.text}: ${code}`)
    if (lost) return { refuse: 'backend-lost' }
    return { refuse: why === 'timeout' ? 'dial-timeout' : 'dial-failed' }
  }

  connected(_client: Arrival, row: number, ms: number): void {
    const { pool, balancer, outliers, datagrams } = this.#options
    balancer.connected?.(row, ms)
    // A socket of datagrams is connected without a word of the backend.
    if (!datagrams) outliers?.connected(pool.at(row))
  }

  firstByte(_client: Arrival, row: number, ms: number): void {
    const { pool, balancer, outliers, datagrams } = this.#options
    balancer.firstByte?.(row, ms)
    if (datagrams) outliers?.connected(pool.at(row))
    outliers?.answered(pool.at(row))
  }

  glimpsed({ flow }: Arrival, row: number, bytes: Uint8Array): void {
    const { pool, datagrams } = this.#options
    const home = this.#pending.get(flow)?.home
    if (home && pool.find(home.backend)?.row === row) datagrams?.quic?.learn(bytes, home)
  }

  ended(end: FlowEnd): void {
    const { pool, totals, outliers, onEnd } = this.#options
    const { flow } = end.client
    let text = this.#pending.get(flow)?.last ?? ''
    if (end.backend >= 0) {
      const backend = pool.at(end.backend)
      text = backend.text
      if (end.connectMs >= 0) backend.closed++
      outliers?.ended(backend, end)
      this.#release(end.backend)
    }
    this.#pending.delete(flow)
    this.#queue.remove(flow)
    this.#leave(end.client)
    totals.ended(end)
    onEnd(end, text)
  }

  /** A backend may have become electable: who waits is served, once this turn of work is over. */
  serve(): void {
    if (this.#serving || this.#queue.size === 0) return
    this.#serving = true
    queueMicrotask(() => {
      this.#serving = false
      for (const pending of this.#queue) {
        const answer = this.#elect(pending.client, pending)
        if (typeof answer !== 'string') {
          if (pending.tried.length > 0) this.#options.totals.redispatches++
          this.#queue.remove(pending.client.flow)
          this.#listening?.answer(pending.client.flow, answer)
        } else if (pending.tried.length === 0) return // Then nobody behind it has a choice either.
      }
    })
  }

  #admit(client: Arrival): Refusal | undefined {
    const { access, room, descriptorCeiling } = this.#options
    if (client.fd >= descriptorCeiling) return this.#refused('descriptors')
    if (access && client.ip !== '' && !access.allows(ipBytes(client.ip))) return 'access'
    const refusal = room.enter(client.ip)
    if (refusal === 'server-full')
      this.#bursts.say(
        refusal,
        () => `refused a client: max_connections (${room.limits.maxConnections}) reached`,
      )
    else if (!refusal && this.#fleeting) this.#undecided.add(client.flow)
    return refusal
  }

  #leave({ flow, ip }: Arrival): void {
    if (!this.#fleeting || this.#undecided.delete(flow)) this.#options.room.leave(ip)
  }

  #take(client: Arrival, row: number): void {
    const { pool } = this.#options
    if (!this.#fleeting) return pool.take(row)
    pool.hold(row)
    this.#leave(client)
  }

  #release(row: number): void {
    const { pool } = this.#options
    if (this.#fleeting) pool.letGo(row)
    else pool.release(row)
  }

  #answer(client: Arrival): Answer {
    return this.#options.datagrams?.quic ? FIRST_DATAGRAM : this.#decide(client, undefined)
  }

  /** Of the backend that has the client's QUIC connection already: also while it drains, as nothing new comes to it. */
  #goHome(client: Arrival, pending: Pending): Dial | Refuse | undefined {
    const { pool } = this.#options
    const { limit, slots } = pool.columns
    const home = pending.asked?.home
    const backend = home && pool.find(home.backend)
    if (!backend || !(pool.live(backend) || (backend.healthy && drains(backend)))) return undefined
    const endpoint = backend.endpoints.findIndex((each) => hostOf(each) === home.host)
    if (endpoint < 0) return undefined
    const { row } = backend
    // Any other would answer as if there were no such connection.
    if (limit[row]! > 0 && slots[row]! >= limit[row]!) return { refuse: 'all-full' }
    return this.#dial(client, backend, 'connection-id', endpoint, 0)
  }

  #decide(client: Arrival, pending: Pending | undefined): Answer {
    const { queueMs } = this.#options
    // Nobody overtakes those who wait already.
    const election = this.#queue.size > 0 ? 'all-full' : this.#elect(client, pending)
    if (typeof election !== 'string') return election
    if (election === 'all-full' && queueMs > 0) {
      const waiting = pending ?? this.#remember(client)
      waiting.queued = true
      this.#queue.add(waiting)
      // Who waits for what it has not tried yet does not keep others from what it has.
      this.serve()
      return { later: true }
    }
    if (!pending?.tried.length)
      this.#bursts.say(election, () => `refused a client: ${EXPLANATIONS[election] ?? election}`)
    return { refuse: election }
  }

  #elect(client: Arrival, pending: Pending | undefined): Dial | Refusal {
    const { pool, totals } = this.#options
    const election = pool.elect(this.#key(client, pending), pending?.tried)
    if (typeof election === 'string') return election
    totals.elections++
    const { backend, only } = election
    const how = pending?.queued && pending.tried.length === 0 ? 'queued' : only ? 'only-one' : 'elected'
    const endpoint = this.#endpoint(backend, client, pending)
    return this.#dial(client, backend, how, endpoint, pending?.tried.length ?? 0)
  }

  /** Objects cost more than arguments here: it runs once a client. */
  #dial(client: Arrival, backend: Backend, how: Note['how'], endpoint: number, redispatches: number): Dial {
    const { dialTimeoutMs, datagrams } = this.#options
    const address = atPort(backend.endpoints[endpoint]!, client)
    const note = packNote({ how, redispatches, endpoint, priority: backend.found.priority })
    this.#take(client, backend.row)
    if (datagrams?.quic) this.#settle(client, backend, endpoint)
    return { dial: { backend: backend.row, address, timeoutMs: dialTimeoutMs, note } }
  }

  /** Which address of a host name: the same for the same client where the kind hashes, in turn elsewhere. */
  #endpoint(backend: Backend, client: Arrival, pending: Pending | undefined): number {
    const count = backend.endpoints.length
    if (count === 1) return 0
    return (this.#options.hashKey ? spread(fnvBytes(this.#key(client, pending))) : backend.turn++) % count
  }

  #key(client: Arrival, pending: Pending | undefined): Uint8Array {
    return pending?.asked?.key ?? this.#options.hashKey?.(ipBytes(client.ip), client) ?? NO_KEY
  }

  /** Where the QUIC connection of a client is from now on. */
  #settle({ flow }: Arrival, backend: Backend, endpoint: number): void {
    const pending = this.#pending.get(flow)
    if (!pending?.asked) return
    pending.home = { backend: backend.id, host: hostOf(backend.endpoints[endpoint]!) }
    if (pending.asked.key) this.#options.datagrams?.quic?.choose(pending.asked.key, pending.home)
  }

  #noteFailure(pending: Pending, backend: Backend, lost: boolean): void {
    const now = this.#options.clock.now()
    pending.last = backend.text
    if (lost && now - pending.failedAt > SETTLED_MS) {
      pending.tried.length = 0
      pending.endpoints = 0
    }
    pending.failedAt = now
  }

  #remember(client: Arrival): Pending {
    let pending = this.#pending.get(client.flow)
    if (!pending) {
      const none = { endpoints: 0, last: '', queued: false, asked: undefined, home: undefined }
      pending = { client, tried: [], failedAt: -Infinity, ...none }
      this.#pending.set(client.flow, pending)
    }
    return pending
  }

  /** Logs our own shortage once a burst. */
  #refused(reason: 'descriptors' | 'ports'): Refusal & Reason {
    const lack =
      reason === 'descriptors' ? 'descriptors are running out (ulimit -n)' : 'no local port is free'
    this.#bursts.say(reason, () => `refused a client: ${lack}`)
    return reason
  }
}

function hostOf(address: Address): string {
  return isUnix(address) ? '' : address.host
}

/** A backend written `host:*` is dialled on the port the client came in on. */
function atPort(address: Address, client: Arrival): Address {
  if (isUnix(address) || address.port !== 0) return address
  return { host: address.host, port: client.localPort }
}

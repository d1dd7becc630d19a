// A server's open listeners on the native plane: what the threads say of its flows is asked at the desk.

import { unlink } from 'node:fs/promises'
import { getSystemErrorName } from 'node:util'
import { isUnix } from '../../core/address.ts'
import type { Address } from '../../core/address.ts'
import type { Ending } from '../../core/reasons.ts'
import { dialFault, sourceFault } from '../fault.ts'
import { NO_DROPS } from '../plane.ts'
import type { Answer, Arrival, Desk, Dial, Drops, FlowEnd, Listening } from '../plane.ts'
import type { ListenSpec, Path, Paths, Refuse, Wait } from '../plane.ts'
import type { Whereabouts } from './addon.ts'
import { IpTexts, whereabouts } from './address.ts'
import { MOST_WORD, wholeMs } from './limits.ts'
import { ANSWER, DIAL, DIAL_FAILED, ENDED, ERROR_SOURCE, FAMILY, GLIMPSED, HEADED } from './records.ts'
import { NOT_MEASURED, numberOf, REACHED, REASONS, REFUSE, SAYS, TOLD, WAIT, WHO } from './records.ts'
import type { Memory, Outbox } from './ring.ts'
import { Rows } from './rows.ts'

/** An open bind. */
export interface Opened {
  readonly bind: Address
  /** Where it really listens. */
  readonly text: string
  /** One for each thread; those of a path are of one socket. */
  readonly fds: readonly number[]
}

/** What a listening is made of. */
export interface Parts {
  readonly spec: ListenSpec
  readonly desk: Desk
  readonly opened: readonly Opened[]
  /** One for each thread. */
  readonly outboxes: readonly Outbox[]
  /** The threads have been told of all that is open. */
  readonly told: Promise<void>
}

/** What the plane does for it. */
export interface House {
  /** Shows the threads what they were told, now or at the end of the batch. */
  publish(): void
  /** Adds up what the threads have dropped; see `Addon.drops`. */
  drops(sums: Float64Array): void
  /** What the kernel has dropped at a socket. */
  dropped(fd: number): number
  /** Sessions of all threads together. */
  limitSessions(most: number): void
  giveRows(thread: number, block: number, counters: Float64Array): void
  /** All threads have stopped. */
  forget(): void
}

/** Where a flow is. */
interface Place {
  readonly thread: number
  readonly slot: number
  readonly life: number
}

/** A flow that was told `later`. */
interface Held {
  readonly place: Place
  /** It is about to end, whatever it is told now. */
  ending: boolean
  /** The dial it was told too late: its end pays the slot back. */
  owed: Dial['dial'] | undefined
}

const texts = new IpTexts()

export class NativeListening implements Listening {
  flows = 0
  readonly addresses: readonly string[]
  readonly #id: number
  readonly #desk: Desk
  readonly #opened: readonly Opened[]
  readonly #outboxes: readonly Outbox[]
  readonly #told: Promise<void>
  readonly #house: House
  readonly #rows: Rows
  readonly #measured: boolean
  /** Flows that were told `later`, by number. */
  readonly #later = new Map<number, Held>()
  readonly #dials = new WeakMap<Address, Whereabouts>()
  #lastFlow = 0
  #reason: Ending | undefined
  /** What was dropped: always nothing for connections, the last that was known once its sockets may be closed. */
  #dropped: Drops | undefined
  #toDrain: number
  #toStop: number
  #drained: Promise<void> | undefined
  #stopped: Promise<void> | undefined
  #onDrained = () => {}
  #onStopped = () => {}

  constructor(id: number, { spec, desk, opened, outboxes, told }: Parts, house: House) {
    this.#id = id
    this.#measured = spec.measure ?? false
    if (!spec.datagrams) this.#dropped = NO_DROPS
    this.#desk = desk
    this.#opened = opened
    this.#outboxes = outboxes
    this.#told = told
    this.#house = house
    this.#toDrain = this.#toStop = outboxes.length
    this.addresses = opened.map(({ text }) => text)
    this.#rows = new Rows(outboxes.length, (...block) => house.giveRows(...block))
  }

  answer(flow: number, answer: Dial | Refuse): void {
    const held = this.#later.get(flow)
    if (!held) return
    if (!held.ending) {
      this.#later.delete(flow)
      this.#tell(held.place, flow, answer)
      this.#house.publish()
    } else if ('dial' in answer) held.owed = answer.dial
  }

  rx(row: number): number {
    return this.#rows.rx(row)
  }

  tx(row: number): number {
    return this.#rows.tx(row)
  }

  connects(row: number): number {
    return this.#rows.connects(row)
  }

  requests(row: number): number {
    return this.#rows.requests(row)
  }

  responses(row: number): number {
    return this.#rows.responses(row)
  }

  drops(): Drops {
    if (this.#dropped) return this.#dropped
    const sums = new Float64Array(5)
    this.#house.drops(sums)
    for (const { fds } of this.#opened) for (const fd of fds) sums[0]! += this.#house.dropped(fd)
    const [queue = 0, access = 0, undecided = 0, draining = 0, send = 0] = sums
    return { queue, access, undecided, draining, send }
  }

  limitSessions(most: number): void {
    // Known for good it is of connections, and of sessions that are being stopped.
    if (!this.#dropped) this.#house.limitSessions(most)
  }

  drop(row: number, reason: Ending): void {
    // All of them are ending, and the number of this listening is soon another's.
    if (this.#reason) return
    this.#tellAll(TOLD.DROP, [this.#id, row, numberOf(reason), 0])
  }

  drain(): Promise<void> {
    return (this.#drained ??= this.#drain())
  }

  stop(reason: Ending): Promise<void> {
    return (this.#stopped ??= this.#stop(reason))
  }

  /** A thread has said something; its payload begins at `at`. */
  hear(thread: number, kind: number, at: number): void {
    switch (kind) {
      case SAYS.ARRIVED:
        return this.#arrived(thread, at)
      case SAYS.ENDED:
        return this.#ended(at)
      case SAYS.HEADED:
        return this.#headed(thread, at)
      case SAYS.DIAL_FAILED:
        return this.#dialFailed(thread, at)
      case SAYS.CONNECTED:
        return this.#reached(at, 'connected')
      case SAYS.FIRST_BYTE:
        return this.#reached(at, 'firstByte')
      case SAYS.GLIMPSED:
        return this.#glimpsed(at)
      case SAYS.DRAINED:
        if (--this.#toDrain === 0) this.#onDrained()
        return
      case SAYS.STOPPED:
        if (--this.#toStop === 0) this.#onStopped()
        return
    }
  }

  #arrived(thread: number, at: number): void {
    const flow = ++this.#lastFlow
    const answer = this.#desk.arrived(this.#arrival(at, flow))
    const refused = 'refuse' in answer
    if (!refused) this.flows++
    this.#answerAt(thread, at, flow, answer)
  }

  #headed(thread: number, at: number): void {
    const { u8, i32, f64 } = this.#memory
    const flow = f64[(at + WHO.FLOW) >> 3]!
    const bytes = u8.subarray(at + HEADED.BYTES, at + HEADED.BYTES + i32[(at + HEADED.LENGTH) >> 2]!)
    const ended = i32[(at + HEADED.ENDED) >> 2] !== 0
    this.#answerAt(thread, at, flow, this.#desk.headed(this.#arrival(at, flow), bytes, ended))
  }

  #dialFailed(thread: number, at: number): void {
    const { i32, f64 } = this.#memory
    const flow = f64[(at + WHO.FLOW) >> 3]!
    const error = i32[(at + DIAL_FAILED.ERROR) >> 2]!
    const code = getSystemErrorName(-(error & ~ERROR_SOURCE))
    const answer = this.#desk.dialFailed(this.#arrival(at, flow), {
      backend: i32[(at + DIAL_FAILED.ROW) >> 2]!,
      note: i32[(at + DIAL_FAILED.NOTE) >> 2]! >>> 0,
      why: error & ERROR_SOURCE ? sourceFault(code) : dialFault(code),
      code,
      lost: i32[(at + DIAL_FAILED.LOST) >> 2] !== 0,
      ms: f64[(at + DIAL_FAILED.MS) >> 3]!,
    })
    this.#answerAt(thread, at, flow, answer)
  }

  #reached(at: number, what: 'connected' | 'firstByte'): void {
    const { i32, f64 } = this.#memory
    const client = this.#arrival(at, f64[(at + WHO.FLOW) >> 3]!)
    this.#desk[what](client, i32[(at + REACHED.ROW) >> 2]!, f64[(at + REACHED.MS) >> 3]!)
  }

  #glimpsed(at: number): void {
    const { u8, i32, f64 } = this.#memory
    const client = this.#arrival(at, f64[(at + WHO.FLOW) >> 3]!)
    const bytes = u8.subarray(at + GLIMPSED.BYTES, at + GLIMPSED.BYTES + i32[(at + GLIMPSED.LENGTH) >> 2]!)
    this.#desk.glimpsed(client, i32[(at + GLIMPSED.ROW) >> 2]!, bytes)
  }

  #ended(at: number): void {
    const { i32, f64 } = this.#memory
    const flow = f64[(at + WHO.FLOW) >> 3]!
    const owed = this.#owed(flow)
    this.flows--
    const end: FlowEnd = {
      client: this.#arrival(at, flow),
      reason: REASONS[i32[(at + ENDED.REASON) >> 2]!]!,
      backend: owed?.backend ?? i32[(at + ENDED.ROW) >> 2]!,
      note: owed?.note ?? i32[(at + ENDED.NOTE) >> 2]! >>> 0,
      rx: f64[(at + ENDED.RX) >> 3]!,
      tx: f64[(at + ENDED.TX) >> 3]!,
      requests: f64[(at + ENDED.REQUESTS) >> 3]!,
      responses: f64[(at + ENDED.RESPONSES) >> 3]!,
      waitedMs: f64[(at + ENDED.WAITED) >> 3]!,
      connectMs: f64[(at + ENDED.CONNECT) >> 3]!,
      firstByteMs: f64[(at + ENDED.FIRST_BYTE) >> 3]!,
      durationMs: f64[(at + ENDED.DURATION) >> 3]!,
      paths: this.#measured ? this.#paths(at) : undefined,
    }
    this.#desk.ended(end)
  }

  #paths(at: number): Paths {
    const { i32 } = this.#memory
    return { client: path(i32, at + ENDED.CLIENT), backend: path(i32, at + ENDED.BACKEND) }
  }

  /** The dial that a flow which has ended was told in vain. */
  #owed(flow: number): Dial['dial'] | undefined {
    if (this.#later.size === 0) return undefined
    const held = this.#later.get(flow)
    this.#later.delete(flow)
    return held?.owed
  }

  get #memory(): Memory {
    return this.#outboxes[0]!.memory
  }

  #arrival(at: number, flow: number): Arrival {
    const memory = this.#memory
    const { i32 } = memory
    const family = i32[(at + WHO.FAMILY) >> 2]!
    const ports = i32[(at + WHO.PORTS) >> 2]!
    return {
      flow,
      ip: texts.at(memory, at + WHO.IP, family),
      port: ports & 0xffff,
      localIp: texts.at(memory, at + WHO.LOCAL_IP, family),
      localPort: ports >>> 16,
      bind: i32[(at + WHO.BIND) >> 2]!,
      fd: i32[(at + WHO.FD) >> 2]!,
    }
  }

  #answerAt(thread: number, at: number, flow: number, answer: Answer): void {
    const { i32 } = this.#memory
    const place = { thread, slot: i32[(at + WHO.SLOT) >> 2]!, life: i32[(at + WHO.LIFE) >> 2]! }
    if (!('later' in answer)) return this.#tell(place, flow, answer)
    this.#outboxes[thread]!.tell(TOLD.LATER, ANSWER.BYTES, (memory, to) => addressee(memory, to, place, flow))
    const held = { place, ending: false, owed: undefined }
    this.#later.set(flow, held)
    if (this.#reason) this.#giveUp(flow, held, this.#reason)
  }

  #tell(place: Place, flow: number, answer: Dial | Wait | Refuse): void {
    if ('dial' in answer) return this.#tellDial(place, flow, answer.dial)
    const outbox = this.#outboxes[place.thread]!
    if ('refuse' in answer)
      return outbox.tell(TOLD.REFUSE, REFUSE.BYTES, (memory, to) => {
        addressee(memory, to, place, flow)
        memory.i32[(to + REFUSE.REASON) >> 2] = numberOf(answer.refuse)
      })
    const { atLeast, atMost, ms } = answer.wait
    outbox.tell(TOLD.WAIT, WAIT.BYTES, (memory, to) => {
      addressee(memory, to, place, flow)
      memory.i32[(to + WAIT.AT_LEAST) >> 2] = atLeast
      memory.i32[(to + WAIT.AT_MOST) >> 2] = atMost
      memory.i32[(to + WAIT.MS) >> 2] = wholeMs(ms, MOST_WORD)
    })
  }

  /** Ends a flow that waits for its answer, which may still come. */
  #giveUp(flow: number, held: Held, reason: Ending): void {
    held.ending = true
    this.#tell(held.place, flow, { refuse: reason })
  }

  #tellDial(place: Place, flow: number, dial: Dial['dial']): void {
    const { backend, note, timeoutMs, ahead } = dial
    const where = this.#whereabouts(dial.address)
    const path = where.family === FAMILY.UNIX ? where.bytes : undefined
    const pathBytes = path?.length ?? 0
    const aheadBytes = ahead?.length ?? 0
    this.#rows.reserve(backend)
    const outbox = this.#outboxes[place.thread]!
    outbox.tell(TOLD.DIAL, DIAL.BYTES + pathBytes + aheadBytes, (memory, to) => {
      const { i32, u8 } = memory
      addressee(memory, to, place, flow)
      i32[(to + DIAL.ROW) >> 2] = backend
      i32[(to + DIAL.NOTE) >> 2] = note
      i32[(to + DIAL.TIMEOUT) >> 2] = wholeMs(timeoutMs, MOST_WORD)
      i32[(to + DIAL.FAMILY) >> 2] = where.family
      i32[(to + DIAL.PORT) >> 2] = where.port
      i32[(to + DIAL.PATH_BYTES) >> 2] = pathBytes
      i32[(to + DIAL.AHEAD_BYTES) >> 2] = aheadBytes
      i32[(to + DIAL.SCOPE) >> 2] = where.scope ?? 0
      if (path) u8.set(path, to + DIAL.BYTES)
      else u8.set(where.bytes, to + DIAL.IP)
      if (ahead) u8.set(ahead, to + DIAL.BYTES + pathBytes)
    })
  }

  #whereabouts(address: Address): Whereabouts {
    const known = this.#dials.get(address)
    if (known) return known
    const where = whereabouts(address)
    // An interface may go and come again with another number.
    if (isUnix(address) || !address.host.includes('%')) this.#dials.set(address, where)
    return where
  }

  #tellAll(kind: number, words: readonly number[]): void {
    for (const outbox of this.#outboxes)
      outbox.tell(kind, 4 * words.length, ({ i32 }, to) => i32.set(words, to >> 2))
    this.#house.publish()
  }

  async #drain(): Promise<void> {
    await this.#told
    const drained = new Promise<void>((resolve) => (this.#onDrained = resolve))
    this.#tellAll(TOLD.DRAIN, [this.#id, 0])
    await drained
    for (const { bind } of this.#opened) if (isUnix(bind)) await unlink(bind.path).catch(() => {}) // Gone is gone.
  }

  async #stop(reason: Ending): Promise<void> {
    await this.drain()
    this.#dropped = this.drops()
    this.#reason = reason
    const stopped = new Promise<void>((resolve) => (this.#onStopped = resolve))
    this.#tellAll(TOLD.STOP, [this.#id, numberOf(reason)])
    for (const [flow, held] of this.#later) this.#giveUp(flow, held, reason)
    this.#house.publish()
    await stopped
    this.#house.forget()
  }
}

/** What the kernel said of a connection: its time in microseconds, then what was sent again. */
function path(i32: Int32Array, at: number): Path | undefined {
  const rtt = i32[at >> 2]! >>> 0
  if (rtt === NOT_MEASURED) return undefined
  return { rttMs: rtt / 1000, retransmits: i32[(at >> 2) + 1]! >>> 0 }
}

/** The beginning of everything told about a flow. */
function addressee({ i32, f64 }: Memory, to: number, { slot, life }: Place, flow: number): void {
  i32[(to + ANSWER.SLOT) >> 2] = slot
  i32[(to + ANSWER.LIFE) >> 2] = life
  f64[(to + ANSWER.FLOW) >> 3] = flow
}

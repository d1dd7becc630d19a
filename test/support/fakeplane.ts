// A plane without sockets, of the native kind: it asks late and in batches, and a flow may have ended meanwhile.
//
//      arrive · send · leave · dialResult · finish          what the world does: queued as records
//      unreachable · glimpse                                the same of sessions of datagrams
//      flush()                                              one batch: every record is told to the desk,
//                                                           then every answer is acted on
//
// What an answer leads to (the end of a client that had left, say) is a record of the next batch.

import type { Ending, Reason } from '../../src/core/reasons.ts'
import { NO_DROPS } from '../../src/plane/plane.ts'
import type { Answer, Arrival, Desk, Dial, Drops, FlowEnd } from '../../src/plane/plane.ts'
import type { DialFault, Listening, ListenSpec, Plane, Refuse, Wait } from '../../src/plane/plane.ts'
import { addressText } from '../../src/core/address.ts'

type State = 'asked' | 'waiting' | 'later' | 'dialling' | 'relaying' | 'over'

interface FakeFlow {
  readonly client: Arrival
  state: State
  /** The client has gone; the plane says so when it may. */
  left: boolean
  sent: Uint8Array
  wait: Wait['wait'] | undefined
  dial: Dial['dial'] | undefined
  row: number
  /** To the backend of that row. */
  connected: boolean
  note: number
  rx: number
  tx: number
  requests: number
  responses: number
}

/** What a test sees of a backend being dialled. */
export type FakeDial = Dial['dial'] & { readonly flow: number }

const CODES: Record<DialFault, string> = {
  refused: 'ECONNREFUSED',
  timeout: 'ETIMEDOUT',
  unreachable: 'EHOSTUNREACH',
  descriptors: 'EMFILE',
  ports: 'EADDRNOTAVAIL',
  unable: 'EPERM',
  other: 'EUNKNOWN',
}

const NO_COUNTS = { rx: [], tx: [], connects: [], requests: [], responses: [] }

/** One listening at a time; a later `listen` takes the place of one that was stopped. */
export class FakePlane implements Plane {
  readonly name = 'native'
  /** Every client refused so far, at `arrived` or later. */
  readonly refusals: { readonly flow: number; readonly reason: Reason }[] = []
  /** What it says it has dropped. */
  dropped: Drops = NO_DROPS
  /** What its sessions were limited to, one number a time. */
  readonly limits: number[] = []
  #desk!: Desk
  #spec!: ListenSpec
  #flows = new Map<number, FakeFlow>()
  #records: (() => void)[] = []
  #acts: (() => void)[] = []
  #counts: Record<keyof typeof NO_COUNTS, number[]> = structuredClone(NO_COUNTS)
  #lastFlow = 0
  #open = false

  async listen(spec: ListenSpec, desk: Desk): Promise<Listening> {
    this.#spec = spec
    this.#desk = desk
    this.#open = true
    this.#counts = structuredClone(NO_COUNTS)
    const flows = this.#flows
    return {
      addresses: spec.binds.map(addressText),
      get flows() {
        return flows.size
      },
      answer: (flow, answer) => this.#answer(flow, answer),
      rx: (row) => this.#counts.rx[row] ?? 0,
      tx: (row) => this.#counts.tx[row] ?? 0,
      connects: (row) => this.#counts.connects[row] ?? 0,
      requests: (row) => this.#counts.requests[row] ?? 0,
      responses: (row) => this.#counts.responses[row] ?? 0,
      drops: () => this.dropped,
      limitSessions: (most) => void this.limits.push(most),
      drop: (row, reason) => this.#drop(row, reason),
      drain: async () => void (this.#open = false),
      stop: (reason) => this.#stop(reason),
    }
  }

  /** What it was asked to listen with. */
  get spec(): ListenSpec {
    return this.#spec
  }

  /** Backends being dialled now. */
  get dials(): FakeDial[] {
    const dialling = [...this.#flows.values()].filter(({ state }) => state === 'dialling')
    return dialling.map(({ client, dial }) => ({ ...dial!, flow: client.flow }))
  }

  /** Records that wait for the next `flush`. */
  get pending(): number {
    return this.#records.length
  }

  /** A client comes in; the desk hears of it in the next batch. */
  arrive(ip: string, bind = 0): number {
    if (!this.#open) throw new Error('nothing listens')
    const flow = ++this.#lastFlow
    const address = this.#spec.binds[bind]!
    const local =
      'path' in address ? { localIp: '', localPort: 0 } : { localIp: '127.0.0.1', localPort: address.port }
    const fd = this.#spec.datagrams ? -1 : 10 + flow
    const client = { flow, ip, port: 1024 + (flow % 60_000), ...local, bind, fd }
    const none = {
      wait: undefined,
      dial: undefined,
      row: -1,
      connected: false,
      note: 0,
      rx: 0,
      tx: 0,
      requests: 0,
      responses: 0,
    }
    this.#flows.set(flow, { client, state: 'asked', left: false, sent: new Uint8Array(0), ...none })
    this.#records.push(() => this.#ask(flow, () => this.#desk.arrived(client), true))
    return flow
  }

  /** The client sends bytes; they count if the desk waits for them or a backend is connected. */
  send(flow: number, bytes: Uint8Array): void {
    const each = this.#flow(flow)
    each.sent = Buffer.concat([each.sent, bytes])
    this.#offer(each)
  }

  /** The client goes away: told at once if it can be noticed, else when its answer arrives. */
  leave(flow: number): void {
    const each = this.#flow(flow)
    each.left = true
    if (each.state === 'relaying') this.#end(each, 'client-closed')
    this.#offer(each)
  }

  /** How the dial under way turns out. */
  dialResult(flow: number, result: 'ok' | DialFault): void {
    const each = this.#flow(flow)
    if (each.state !== 'dialling') throw new Error(`flow ${flow} is ${each.state}, not dialling`)
    if (result === 'ok') return this.#connected(each)
    this.#fail(each, result, false)
  }

  /** A session's backend is there no more (ICMP). */
  unreachable(flow: number): void {
    const each = this.#flow(flow)
    if (each.state !== 'relaying') throw new Error(`flow ${flow} is ${each.state} and has no backend`)
    this.#fail(each, 'refused', true)
  }

  /** One of the first datagrams of a session's backend. */
  glimpse(flow: number, bytes: Uint8Array): void {
    const { client, row } = this.#flow(flow)
    this.#records.push(() => this.#desk.glimpsed(client, row, bytes.subarray(0, 64)))
  }

  #fail(each: FakeFlow, why: DialFault, lost: boolean): void {
    const { flow } = each.client
    const failure = { backend: each.row, note: each.note, why, code: CODES[why], lost, ms: 1 }
    each.state = 'asked'
    this.#records.push(() => {
      if (each.state === 'over') return // Its end pays the slot back.
      each.row = -1
      each.connected = false
      this.#ask(flow, () => this.#desk.dialFailed(each.client, failure))
    })
  }

  /** The flow is over; the desk hears of it in the next batch. */
  finish(flow: number, reason: Reason, { rx = 0, tx = 0, requests = 0, responses = 0 } = {}): void {
    const each = this.#flow(flow)
    if (each.row < 0) throw new Error(`flow ${flow} is ${each.state} and has no backend`)
    each.rx += rx
    each.tx += tx
    each.requests += requests
    each.responses += responses
    this.#count('requests', each.row, requests)
    this.#count('responses', each.row, responses)
    this.#count('rx', each.row, rx)
    this.#count('tx', each.row, tx)
    this.#end(each, reason)
  }

  /** One batch: tells the desk what has happened, then acts on its answers. True when there is more to tell. */
  flush(): boolean {
    const records = this.#records.splice(0)
    for (const record of records) record()
    for (const act of this.#acts.splice(0)) act()
    return this.#records.length > 0
  }

  #flow(flow: number): FakeFlow {
    const each = this.#flows.get(flow)
    if (!each) throw new Error(`no flow ${flow}`)
    return each
  }

  /** Asks now and acts on the answer at the end of the batch. */
  #ask(flow: number, question: () => Answer, first = false): void {
    const answer = question()
    const each = this.#flow(flow)
    if ('dial' in answer) this.#owe(each, answer.dial)
    this.#acts.push(() => this.#take(each, answer, first))
  }

  #take(each: FakeFlow, answer: Answer, first = false): void {
    if ('dial' in answer) this.#dial(each, answer.dial)
    else if ('refuse' in answer) this.#refuse(each, answer.refuse, first)
    else if (each.state === 'over') return
    else if ('wait' in answer) this.#wait(each, answer.wait)
    else each.state = 'later'
  }

  #dial(each: FakeFlow, dial: Dial['dial']): void {
    each.dial = dial
    if (each.state === 'over') return
    each.state = 'dialling'
    if (each.left) this.#end(each, 'client-closed')
  }

  #refuse(each: FakeFlow, reason: Reason, first: boolean): void {
    const { flow } = each.client
    this.refusals.push({ flow, reason })
    if (!first) return this.#end(each, reason)
    each.state = 'over'
    this.#flows.delete(flow)
  }

  #wait(each: FakeFlow, wait: Wait['wait']): void {
    each.wait = wait
    each.state = 'waiting'
    this.#offer(each)
  }

  /** The desk hears of the client's bytes once there are enough, or the client has left. */
  #offer(each: FakeFlow): void {
    const { wait, client, left } = each
    if (each.state !== 'waiting' || !wait) return
    if (each.sent.length < wait.atLeast && !left && !this.#spec.datagrams) return
    each.state = 'asked'
    this.#records.push(() => {
      if (each.state === 'over') return
      const bytes = each.sent.subarray(0, wait.atMost)
      each.tx = bytes.length
      this.#ask(client.flow, () => this.#desk.headed(client, bytes, left))
    })
  }

  #connected(each: FakeFlow): void {
    each.state = 'relaying'
    each.connected = true
    this.#count('connects', each.row, 1)
    this.#count('tx', each.row, each.tx)
    const { client, row } = each
    if (this.#spec.report) this.#records.push(() => this.#desk.connected(client, row, 1))
  }

  /** The record of the end is made when it is told, so that an answer under way is still paid back. */
  #end(each: FakeFlow, reason: Reason): void {
    if (each.state === 'over') return
    each.state = 'over'
    this.#records.push(() => {
      this.#flows.delete(each.client.flow)
      this.#desk.ended(record(each, reason))
    })
  }

  #answer(flow: number, answer: Dial | Refuse): void {
    const each = this.#flows.get(flow)
    if (!each || (each.state !== 'later' && each.state !== 'over')) return
    if ('dial' in answer) this.#owe(each, answer.dial)
    this.#acts.push(() => this.#flows.has(flow) && this.#take(each, answer))
  }

  /** An answer takes its slot when it is given, not when it reaches the flow. */
  #owe(each: FakeFlow, { backend, note }: Dial['dial']): void {
    each.row = backend
    each.note = note
  }

  #drop(row: number, reason: Ending): void {
    for (const each of this.#flows.values()) if (each.row === row) this.#end(each, reason)
  }

  async #stop(reason: Ending): Promise<void> {
    this.#open = false
    // Who has arrived is asked about first: an end follows only what the desk has heard of.
    this.#flushAll()
    for (const each of this.#flows.values()) this.#end(each, reason)
    this.#flushAll()
  }

  #flushAll(): void {
    let more = true
    while (more) more = this.flush()
  }

  #count(column: keyof typeof NO_COUNTS, row: number, value: number): void {
    if (row >= 0) this.#counts[column][row] = (this.#counts[column][row] ?? 0) + value
  }
}

function record(each: FakeFlow, reason: Reason): FlowEnd {
  const { client, row, connected, note, rx, tx, requests, responses, dial } = each
  const times = { waitedMs: dial ? 1 : -1, connectMs: connected ? 1 : -1, firstByteMs: rx > 0 ? 1 : -1 }
  const datagrams = { requests, responses }
  return { client, reason, backend: row, note, rx, tx, ...datagrams, ...times, durationMs: 3 }
}

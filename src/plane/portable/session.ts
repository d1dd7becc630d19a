// One client that sends datagrams and the backend they go to, from the first datagram to the one record of its end.
//
//      asked ─► later ─► dialling ─► relaying ─► over
//        └────────┴── may be skipped; from dialling and relaying it may come back to asked

import { isUnix } from '../../core/address.ts'
import type { HostPort } from '../../core/address.ts'
import type { Reason } from '../../core/reasons.ts'
import { dialFault } from '../fault.ts'
import type { Answer, Arrival, Dial, FlowEnd } from '../plane.ts'
import { Dated } from './deadlines.ts'
import type { Aged } from './elders.ts'
import type { Client, House } from './house.ts'
import { Kept } from './kept.ts'
import { Line } from './line.ts'
import type { Caller } from './line.ts'
import { Tally } from './tally.ts'
import { Times } from './times.ts'
import type { Over } from './turn.ts'

/** Whoever was heard of less long ago is not newer for it, in milliseconds. */
const TOUCH_MS = 10
const GLIMPSE_BYTES = 64
const UNREACHABLE = new Set(['ECONNREFUSED', 'ENOPROTOOPT', 'EHOSTUNREACH', 'ENETUNREACH'])

type State = 'asked' | 'later' | 'dialling' | 'relaying' | 'over'

export class Session extends Dated implements Over, Caller, Aged<Session> {
  readonly arrival: Arrival
  row = -1
  queue: Aged<Session>['queue'] = null
  older: Session | null = null
  newer: Session | null = null
  private readonly house: House
  private readonly client: Client
  /** The client's, as heard last. */
  private port: number
  private state: State = 'asked'
  private backend: Line | null = null
  private readonly kept = new Kept()
  /** The client's next datagram is this session's. */
  private keyed = false
  /** It takes no more datagrams of the client. */
  private spent = false
  private headed = false
  private note = 0
  private reason: Reason = 'plane-failed'
  private readonly tally: Tally
  private readonly times: Times
  private touchedAt: number
  private overAt = -1

  constructor(house: House, client: Client, arrival: Arrival, now: number) {
    super()
    this.house = house
    this.tally = new Tally(house.rows)
    this.client = client
    this.arrival = arrival
    this.port = arrival.port
    this.times = new Times(house.spec, now)
    this.touchedAt = now
    house.elders.touch(this, false)
    if (house.datagrams.maxRequests === 1) return
    client.door.sessions.set(client.key, this)
    this.keyed = true
  }

  get held(): boolean {
    return this.state === 'later'
  }

  /** Does what the desk says. */
  take(answer: Answer): void {
    if (this.held) this.release()
    if ('dial' in answer) return this.dial(answer.dial)
    if ('refuse' in answer) return this.end(answer.refuse)
    if ('wait' in answer) return this.show(answer.wait.atMost)
    this.state = 'later'
    this.house.holding++
    this.house.elders.remove(this)
  }

  owe({ backend, note }: Dial['dial']): void {
    this.row = backend
    this.note = note
  }

  /** A datagram of the client, from that port. */
  request(bytes: Uint8Array, port: number, now: number): void {
    const { tally } = this
    this.times.heardAt = now
    this.port = port
    tally.request(bytes.length)
    if (now - this.touchedAt >= TOUCH_MS) this.touch(now)
    if (tally.requests === this.house.datagrams.maxRequests) this.spend()
    if (!this.relaying) return this.keep(bytes)
    tally.settle(this.row)
    if (this.house.datagrams.tellUnreachable) this.kept.remember(bytes, now)
    this.backend!.send(bytes)
  }

  response(bytes: Uint8Array): void {
    if (!this.relaying) return
    const { tally, client } = this
    const { glimpses, maxResponses } = this.house.datagrams
    const now = this.now()
    const firstMs = this.times.answered(now)
    tally.response(bytes.length, this.row)
    client.door.send(bytes, this.port, client.address)
    if (tally.responses === 1 || now - this.touchedAt >= TOUCH_MS) this.touch(now)
    this.kept.clear()
    if (firstMs >= 0) this.firstByte(firstMs)
    if (tally.responses <= glimpses && this.relaying) this.glimpse(bytes)
    if (tally.responses === maxResponses) this.end('max-responses')
  }

  /** Ends the session; a second call does nothing. */
  end(reason: Reason): void {
    if (this.state === 'over') return
    const { house } = this
    const { elders, deadlines, turn } = house
    this.reason = reason
    this.overAt = this.now()
    this.detach()
    if (this.held) this.release()
    this.state = 'over'
    elders.remove(this)
    deadlines.clear(this)
    house.left()
    this.backend?.close()
    this.backend = null
    this.kept.clear()
    turn.ended(this)
  }

  record(): FlowEnd {
    this.house.forget(this)
    const { arrival, reason, row, note } = this
    const { rx, tx, requests, responses } = this.tally
    const times = this.times.record(this.overAt)
    return { client: arrival, reason, backend: row, note, rx, tx, requests, responses, ...times }
  }

  expire(now: number): number {
    if (!this.relaying) return Infinity
    const { due, silent } = this.times
    if (due > now) return due
    this.end(this.spent ? 'max-requests' : silent)
    return Infinity
  }

  connected(): void {
    if (this.state !== 'dialling') return
    this.reached()
    if (!this.relaying) return
    const { deadlines, datagrams } = this.house
    deadlines.set(this, this.times.due)
    for (const bytes of this.kept.all) this.backend!.sendAmong(bytes)
    if (!datagrams.tellUnreachable) this.kept.clear()
    this.kept.sent(this.now())
  }

  failed(code: string): void {
    if (this.state === 'dialling') this.dialFailed(code, false)
  }

  broke(code: string, bytes: Uint8Array | null): boolean {
    if (!this.relaying || !this.house.datagrams.tellUnreachable || !UNREACHABLE.has(code)) return false
    this.kept.forget(this.now())
    if (bytes && !this.kept.all.includes(bytes)) this.kept.renew(bytes)
    this.dialFailed(code, true)
    return true
  }

  unsent(): void {
    this.house.unsent()
  }

  /** It was told `later`, and that is over: it may be evicted again. */
  private release(): void {
    this.state = 'asked'
    this.house.holding--
    this.touch(this.touchedAt)
  }

  private get relaying(): boolean {
    return this.state === 'relaying'
  }

  private now(): number {
    return this.house.deadlines.clock.now()
  }

  private touch(now: number): void {
    this.touchedAt = now
    if (!this.held) this.house.elders.touch(this, this.tally.responses > 0)
  }

  private keep(bytes: Uint8Array): void {
    if (!this.kept.add(bytes)) this.house.undecided()
  }

  private spend(): void {
    this.spent = true
    this.detach()
  }

  private detach(): void {
    if (this.keyed) this.client.door.sessions.delete(this.client.key)
    this.keyed = false
  }

  /** The first datagram is all there is to be shown, and no more of it than was asked for. */
  private show(most: number): void {
    const { desk, turn } = this.house
    const first = this.kept.all[0]
    if (this.headed || !first) return this.end('bad-header')
    this.headed = true
    this.state = 'asked'
    turn.ask(() => this.take(desk.headed(this.arrival, first.subarray(0, most), false)))
  }

  private dial({ backend: row, address, note }: Dial['dial']): void {
    const { spec, rows, datagrams } = this.house
    rows.reserve(row)
    this.state = 'dialling'
    this.row = row
    this.note = note
    this.times.dialled(this.now())
    if (isUnix(address)) process.nextTick(() => this.failed('EPROTONOSUPPORT'))
    else if (datagrams.maxRequests === 1) process.nextTick(() => this.fire(address))
    else this.backend = new Line(this, address, spec.sockets?.source)
  }

  private dialFailed(code: string, lost: boolean): void {
    const { arrival, row, note, times } = this
    const { desk, deadlines, turn } = this.house
    const ms = times.sinceDial(this.now())
    const failure = { backend: row, note, why: dialFault(code), code, lost, ms }
    this.backend?.close()
    this.backend = null
    this.row = -1
    times.connectMs = -1
    this.state = 'asked'
    deadlines.clear(this)
    turn.ask(() => this.take(desk.dialFailed(arrival, failure)))
  }

  private fire(to: HostPort): void {
    if (this.state !== 'dialling') return
    const { shots } = this.house
    const code = shots.ready(to)
    if (code) return this.failed(code)
    this.reached()
    if (!this.relaying) return
    for (const bytes of this.kept.all) shots.send(bytes, to)
    this.end('max-requests')
  }

  private reached(): void {
    const { house, arrival, row, times } = this
    this.state = 'relaying'
    times.connected(this.now())
    house.rows.connects[row]!++
    this.tally.settle(row)
    if (house.spec.report) house.turn.ask(() => house.desk.connected(arrival, row, times.connectMs))
  }

  private firstByte(ms: number): void {
    const { house, arrival, row } = this
    if (house.spec.report) house.turn.ask(() => house.desk.firstByte(arrival, row, ms))
  }

  private glimpse(bytes: Uint8Array): void {
    const { desk, turn } = this.house
    const { arrival, row } = this
    turn.ask(() => desk.glimpsed(arrival, row, bytes.subarray(0, GLIMPSE_BYTES)))
  }
}

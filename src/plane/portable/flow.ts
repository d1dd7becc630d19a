// One client and its backend, from accept to the one record of its end.
//
//      asked ─► waiting ─► later ─► dialling ─► relaying ─► over
//        └─────────┴─────────┴── any of the earlier may be skipped, and dialling repeated

import { isIP } from 'node:net'
import type { SocketConnectOpts } from 'node:net'
import { isUnix } from '../../core/address.ts'
import type { Address } from '../../core/address.ts'
import type { Reason } from '../../core/reasons.ts'
import type { Answer, Arrival, Dial, DialFault, FlowEnd, Wait } from '../plane.ts'
import { Dated, timeAfter } from './deadlines.ts'
import { dialFault, sourceFault } from '../fault.ts'
import type { Handle } from './handle.ts'
import { Head } from './head.ts'
import type { Household } from './register.ts'
import { onConnect, readingInto, RELAYING, Side } from './side.ts'
import type { Pair } from './side.ts'
import type { Over } from './turn.ts'

/** What the connections of one listening share. */
export interface House extends Household<Flow> {
  /** How often a blocked peer is looked at, so that its slow progress counts; Infinity without idle limits. */
  readonly lookMs: number
  /** Before a silent peer is probed; 0 is never. */
  readonly keepAliveSeconds: number
}

type State = 'asked' | 'waiting' | 'later' | 'dialling' | 'relaying' | 'over'

export class Flow extends Dated implements Pair, Over {
  readonly arrival: Arrival
  /** Row of the backend whose slot this flow holds; -1 without one. */
  row = -1
  private readonly house: House
  private handle: Handle | null
  private client: Side | null = null
  private backend: Side | null = null
  private state: State = 'asked'
  private head: Head | null = null
  private ahead: Uint8Array | undefined
  private note = 0
  private reason: Reason = 'plane-failed'
  private rx = 0
  private tx = 0
  private readonly acceptedAt: number
  /** Since when the desk owes an answer that dials or refuses. */
  private askedAt: number
  /** When waiting or dialling is over, and how it is called then. */
  private limitAt = Infinity
  private limit: Reason = 'undecided'
  private dialledAt = -1
  private connectMs = -1
  private firstByteMs = -1
  private halfEndedAt = -1
  private closed: Reason = 'client-closed'
  private overAt = -1

  constructor(house: House, arrival: Arrival, handle: Handle, now: number) {
    super()
    this.house = house
    this.arrival = arrival
    this.handle = handle
    this.acceptedAt = this.askedAt = now
  }

  /** True while the desk has told it to wait for `Listening.answer`. */
  get held(): boolean {
    return this.state === 'later'
  }

  /** Does what the desk says. */
  take(answer: Answer): void {
    if ('dial' in answer) return this.dial(answer.dial)
    if ('refuse' in answer) return this.end(answer.refuse)
    if ('wait' in answer) return this.wait(answer.wait)
    this.state = 'later'
    this.house.deadlines.clear(this)
  }

  /** Takes the slot of a dial that came too late: the end of this flow, about to be reported, pays it back. */
  owe({ backend, note }: Dial['dial']): void {
    this.row = backend
    this.note = note
  }

  /** Ends the flow for `reason`; a second call does nothing. `reset` is passed on to whoever is still there. */
  end(reason: Reason, reset = false): void {
    if (this.state === 'over') return
    this.state = 'over'
    this.reason = reason
    this.overAt = this.now()
    this.house.deadlines.clear(this)
    this.handle?.close()
    this.client?.close(reset)
    this.backend?.close(reset)
    this.handle = this.client = this.backend = this.head = null
    this.house.turn.ended(this)
  }

  record(): FlowEnd {
    this.house.forget(this)
    const { arrival, reason, row, note, rx, tx, acceptedAt, connectMs, firstByteMs } = this
    const waitedMs = this.dialledAt < 0 ? -1 : this.dialledAt - acceptedAt
    const durationMs = this.overAt - acceptedAt
    const times = { waitedMs, connectMs, firstByteMs, durationMs }
    return { client: arrival, reason, backend: row, note, rx, tx, requests: 0, responses: 0, ...times }
  }

  now(): number {
    return this.house.deadlines.clock.now()
  }

  expire(now: number): number {
    if (this.state === 'relaying') return this.watch(now)
    if (now < this.limitAt) return this.limitAt
    if (this.state === 'dialling') this.dialFailed('ETIMEDOUT', 'timeout', now)
    else this.end(this.limit)
    return Infinity
  }

  read(side: Side, length: number): boolean {
    if (this.state !== 'relaying') return this.readHead(length)
    const { rows } = this.house
    const now = this.now()
    side.movedAt = now
    if (side === this.client) {
      this.tx += length
      rows.tx[this.row]! += length
    } else {
      this.rx += length
      rows.rx[this.row]! += length
      if (this.firstByteMs < 0) this.firstByte(now)
    }
    if (!side.peer || side.peer.relay(length, now)) return true
    this.lookAgain(now)
    return false
  }

  connected(backend: Side): void {
    if (backend !== this.backend || this.state !== 'dialling') return
    const { house, arrival, row } = this
    const now = this.now()
    this.state = 'relaying'
    this.connectMs = now - this.dialledAt
    house.rows.connects[row]!++
    const client = (this.client ??= this.adopt(RELAYING))
    client.peer = backend
    backend.peer = client
    client.movedAt = backend.movedAt = now
    if (house.spec.report) house.turn.ask(() => house.desk.connected(arrival, row, this.connectMs))
    if (this.backend) this.open(client, backend, now)
  }

  finished(side: Side): void {
    if (this.state === 'waiting') return this.headed(true)
    const { peer } = side
    if (this.state !== 'relaying' || !peer) return
    // What the peer has sent before its end may still wait for this side.
    if (peer.eof && !side.blocked) return this.end(this.closed)
    const now = this.now()
    this.halfEndedAt = now
    if (!peer.eof) this.closed = side === this.client ? 'client-closed' : 'backend-closed'
    peer.end()
    const { halfCloseMs } = this.house.spec
    if (halfCloseMs > 0) this.house.deadlines.sooner(this, now + halfCloseMs)
  }

  drained(side: Side, now: number): void {
    const source = side.peer
    if (source?.eof && side.eof) return this.end(this.closed)
    if (!source || source.eof) return
    // A backend that was not read had no chance to be anything but silent.
    if (source === this.backend) source.movedAt = now
    source.start()
  }

  broke(side: Side, error: NodeJS.ErrnoException): void {
    if (side === this.backend && this.state === 'dialling') {
      const code = error.code ?? 'UNKNOWN'
      // What cannot be bound has not been dialled: the address of `source`.
      const why = error.syscall === 'bind' ? sourceFault(code) : dialFault(code)
      return this.dialFailed(code, why, this.now())
    }
    if (side === this.client) this.end('client-reset', true)
    else if (side === this.backend) this.end('backend-reset', true)
  }

  /** Makes the accepted descriptor a socket. */
  private adopt(onread: typeof RELAYING): Side {
    const handle = this.handle!
    this.handle = null
    return new Side(this, { handle, onread, keepAliveSeconds: 0 })
  }

  private wait({ atLeast, atMost, ms }: Wait['wait']): void {
    const head = (this.head ??= new Head())
    const need = Math.max(atLeast, head.length + 1)
    // Once a dial has been tried, nothing more is read for the desk.
    if (need > atMost || this.dialledAt >= 0) return this.end('bad-header')
    if (this.client?.eof) return this.end('client-closed')
    head.expect(need, atMost)
    this.state = 'waiting'
    const now = this.now()
    const undecidedAt = timeAfter(this.askedAt, this.house.spec.undecidedMs)
    const headerAt = timeAfter(now, ms)
    this.limitAt = Math.min(undecidedAt, headerAt)
    this.limit = headerAt <= undecidedAt ? 'header-timeout' : 'undecided'
    this.house.deadlines.set(this, this.limitAt)
    const room = () => (this.state === 'waiting' ? head.room() : undefined)
    this.client ??= this.adopt(readingInto(room))
    this.client.start()
  }

  private readHead(length: number): boolean {
    const { head } = this
    if (!head || this.state !== 'waiting') return false
    this.tx += length
    head.length += length
    if (head.length >= head.need) this.headed(false)
    return this.waiting
  }

  private get waiting(): boolean {
    return this.state === 'waiting'
  }

  private headed(ended: boolean): void {
    const { house, arrival, head } = this
    this.state = 'asked'
    house.turn.ask(() => this.take(house.desk.headed(arrival, head!.bytes, ended)))
  }

  private dial({ backend: row, address, timeoutMs, ahead, note }: Dial['dial']): void {
    const { house } = this
    const now = this.now()
    house.rows.reserve(row)
    this.state = 'dialling'
    this.row = row
    this.note = note
    this.ahead = ahead
    this.dialledAt = now
    this.limitAt = timeAfter(now, timeoutMs)
    house.deadlines.set(this, this.limitAt)
    const backend = new Side(this, { onread: RELAYING, keepAliveSeconds: house.keepAliveSeconds })
    this.backend = backend
    backend.on('connect', onConnect)
    try {
      backend.connect(target(address, house.spec.sockets?.source))
    } catch (error) {
      backend.destroy(error as Error) // A port out of range: told like any other failed dial.
    }
  }

  private dialFailed(code: string, why: DialFault, now: number): void {
    const { house, arrival, row, note } = this
    const failure = { backend: row, note, why, code, lost: false, ms: now - this.dialledAt }
    this.backend?.close()
    this.backend = null
    this.row = -1
    this.state = 'asked'
    this.askedAt = now
    house.turn.ask(() => this.take(house.desk.dialFailed(arrival, failure)))
  }

  private open(client: Side, backend: Side, now: number): void {
    const first = joined(this.ahead, this.head?.bytes)
    const { rows } = this.house
    rows.tx[this.row]! += this.head?.length ?? 0
    this.ahead = undefined
    this.head = null
    this.house.deadlines.set(this, this.dueAt())
    backend.start()
    const sent = !first || backend.send(first, now)
    if (client.eof) this.finished(client)
    else if (sent) client.start()
    if (!sent) this.lookAgain(now)
  }

  /** What is pending is taken in pieces, and only looking again and again tells when the last one was. */
  private lookAgain(now: number): void {
    this.house.deadlines.sooner(this, now + this.house.lookMs)
  }

  private firstByte(now: number): void {
    const { house, arrival, row } = this
    this.firstByteMs = now - this.dialledAt - this.connectMs
    if (house.spec.report) house.turn.ask(() => house.desk.firstByte(arrival, row, this.firstByteMs))
  }

  /** Ends the flow if it is time, else says when to look again. */
  private watch(now: number): number {
    const client = this.client!
    const backend = this.backend!
    const blocked = client.blocked || backend.blocked
    if (client.blocked) client.look(now)
    if (backend.blocked) backend.look(now)
    const due = this.dueAt()
    if (due > now) return blocked ? Math.min(due, now + this.house.lookMs) : due
    this.end(this.overdue(due))
    return Infinity
  }

  private dueAt(): number {
    return Math.min(this.clientDueAt(), this.backendDueAt(), this.halfDueAt())
  }

  private overdue(due: number): Reason {
    if (due === this.halfDueAt()) return 'half-close-timeout'
    // Of two that were last heard of at once, the one that takes nothing is to blame.
    if (due === this.backendDueAt() && (due !== this.clientDueAt() || this.backend!.blocked))
      return 'backend-idle'
    return 'client-idle'
  }

  private clientDueAt(): number {
    return timeAfter(this.client!.movedAt, this.house.spec.clientIdleMs)
  }

  /** A backend is not idle while we do not read it because its client is blocked. */
  private backendDueAt(): number {
    return this.client!.blocked ? Infinity : timeAfter(this.backend!.movedAt, this.house.spec.backendIdleMs)
  }

  private halfDueAt(): number {
    if (this.halfEndedAt < 0) return Infinity
    const movedAt = Math.max(this.halfEndedAt, this.client!.movedAt, this.backend!.movedAt)
    return timeAfter(movedAt, this.house.spec.halfCloseMs)
  }
}

function target(address: Address, source = ''): SocketConnectOpts {
  if (isUnix(address)) return { path: address.path }
  const { host, port } = address
  const from = source !== '' && isIP(source) === isIP(host) ? { localAddress: source } : {}
  return { host, port, autoSelectFamily: false, ...from }
}

function joined(ahead: Uint8Array | undefined, head: Uint8Array | undefined): Uint8Array | undefined {
  if (!ahead?.length) return head?.length ? head : undefined
  return head?.length ? Buffer.concat([ahead, head]) : ahead
}

// A server's open listeners on this plane, and the flows that came in by them.

import { getSystemErrorName } from 'node:util'
import type { Address } from '../../core/address.ts'
import { canonicalIp } from '../../core/ip.ts'
import type { Ending } from '../../core/reasons.ts'
import { keepAliveSeconds } from '../keepalive.ts'
import { NO_DROPS } from '../plane.ts'
import type { Arrival, Desk, Drops, Listening, ListenSpec } from '../plane.ts'
import type { Deadlines } from './deadlines.ts'
import { Flow } from './flow.ts'
import type { House } from './flow.ts'
import { takeOver, tuneAccepted, tuneListener } from './handle.ts'
import type { Endpoint, Handle } from './handle.ts'
import { open, shut } from './open.ts'
import type { Opened } from './open.ts'
import { Register } from './register.ts'

/** The longest a blocked peer goes unobserved, as a part of the shortest idle limit; half of what may be late. */
const LOOK_SHARE = 0.01
const LOOK_MS = 50

export class PortableListening extends Register<Flow> implements Listening, House {
  readonly lookMs: number
  readonly keepAliveSeconds: number
  readonly #listeners: Opened[] = []
  readonly #peer: Endpoint = { address: '', port: 0 }
  readonly #local: Endpoint = { address: '', port: 0 }
  /** Clients that came before the desk may be asked; undefined from then on. */
  #early: { handle: Handle; bind: number }[] | undefined = []
  #lastFlow = 0
  #drained: Promise<void> | undefined
  #stopped: Promise<void> | undefined

  constructor(spec: ListenSpec, desk: Desk, deadlines: Deadlines) {
    super(spec, desk, deadlines)
    this.lookMs = lookMs(spec)
    this.keepAliveSeconds = keepAliveSeconds(spec.keepAliveMs)
  }

  /** Takes clients of `bind`; the desk hears of them after `welcome`. Rejects as `openBind` does. */
  async open(bind: Address): Promise<void> {
    this.#add(await open(bind, this.spec.backlog))
  }

  /** The desk may be asked from now on. */
  welcome(): void {
    const early = this.#early ?? []
    this.#early = undefined
    for (const { handle, bind } of early) this.#accept(handle, bind)
  }

  /** Closes everything, unasked; for a listening that never came to be. */
  async abandon(): Promise<void> {
    await this.drain()
    for (const { handle } of this.#early ?? []) handle.close()
    this.#early = []
  }

  get addresses(): readonly string[] {
    return this.#listeners.map(({ text }) => text)
  }

  drops(): Drops {
    return NO_DROPS
  }

  limitSessions(): void {}

  drain(): Promise<void> {
    return (this.#drained ??= this.#shut())
  }

  stop(reason: Ending): Promise<void> {
    return (this.#stopped ??= this.#stop(reason))
  }

  #add(opened: Opened): void {
    const bind = this.#listeners.push(opened) - 1
    tuneListener(opened.server, this.keepAliveSeconds)
    opened.server.on('error', (error) => this.#complain(opened, error.message))
    takeOver(opened.server, (error, handle) => {
      if (!handle) return this.#complain(opened, getSystemErrorName(error))
      if (!this.#early) return this.#accept(handle, bind)
      if (this.#early.length >= this.spec.backlog) return handle.close()
      this.#early.push({ handle, bind })
    })
  }

  async #shut(): Promise<void> {
    await this.#emptyQueue()
    await Promise.all(this.#listeners.map(({ server }) => shut(server)))
  }

  /**
   * Closing a listener resets whoever is in its accept queue. libuv takes one of them a turn of the loop, so
   * turns are waited for until one brings nobody, or as many as the queue was long.
   */
  async #emptyQueue(): Promise<void> {
    let before = -1
    for (let i = 0; i < this.spec.backlog && this.#lastFlow !== before; i++) {
      before = this.#lastFlow
      // The first ends the turn this was called in, the second is a whole one.
      await new Promise(setImmediate)
      await new Promise(setImmediate)
    }
  }

  async #stop(reason: Ending): Promise<void> {
    await this.drain()
    this.welcome()
    await this.endAll(reason)
  }

  #accept(handle: Handle, bind: number): void {
    const arrival = this.#arrival(handle, bind)
    if (!arrival) return handle.close()
    tuneAccepted(handle, this.keepAliveSeconds)
    const now = this.deadlines.clock.now()
    this.turn.ask(() => {
      const answer = this.desk.arrived(arrival)
      if ('refuse' in answer) return handle.close()
      const flow = new Flow(this, arrival, handle, now)
      this.remember(flow)
      flow.take(answer)
    })
  }

  /** Undefined when the client has gone again before it could be asked who it is. */
  #arrival(handle: Handle, bind: number): Arrival | undefined {
    const fd = handle.fd ?? -1
    if (!handle.getpeername)
      return { flow: ++this.#lastFlow, ip: '', port: 0, localIp: '', localPort: 0, bind, fd }
    if (handle.getpeername(this.#peer) !== 0) return undefined
    const ip = canonicalIp(this.#peer.address)
    const { port } = this.#peer
    const local = this.#listeners[bind]!.local ?? this.#localOf(handle)
    return { flow: ++this.#lastFlow, ip, port, localIp: local.ip, localPort: local.port, bind, fd }
  }

  #localOf(handle: Handle): { ip: string; port: number } {
    handle.getsockname?.(this.#local)
    return { ip: canonicalIp(this.#local.address), port: this.#local.port }
  }

  #complain({ text }: Opened, problem: string): void {
    this.bursts.say(problem, () => `${text}: a client could not be accepted: ${problem}`)
  }
}

function lookMs({ clientIdleMs, backendIdleMs, halfCloseMs }: ListenSpec): number {
  const limits = [clientIdleMs, backendIdleMs, halfCloseMs].filter((ms) => ms > 0)
  return limits.length === 0 ? Infinity : Math.max(LOOK_MS, LOOK_SHARE * Math.min(...limits))
}

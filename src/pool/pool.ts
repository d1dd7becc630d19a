// One server's backends: merged from discovery, marked by health, elected from.
//
//      update(found) ─► backends by identity ─► live? ─► group of its priority ─► elect
//      mark(backend)  ──────────────────────────┘

import type { Balancer, Electable } from '../balance/balancer.ts'
import { addressText } from '../core/address.ts'
import type { Address } from '../core/address.ts'
import { sameSettings } from '../core/backend.ts'
import type { Found } from '../core/backend.ts'
import type { Refusal } from '../core/reasons.ts'
import { inSlices } from '../core/slices.ts'
import type { Backend } from './backend.ts'
import { Table } from './columns.ts'
import { Group, without } from './group.ts'
import { Traffic } from './traffic.ts'

/** What an update did, by the text of the backends. */
export interface Change {
  readonly added: readonly string[]
  readonly removed: readonly string[]
  readonly changed: readonly string[]
}

/** What the server wants to hear of its pool; called as it happens. */
export interface PoolEvents {
  /** A backend is there, new or back again. Its endpoints and health are yet to be told. */
  discovered(backend: Backend): void
  /** Discovery names it no more. Flows it holds go on; without any the backend is gone. */
  undiscovered(backend: Backend): void
  /** A backend that could not be elected can be: waiting flows may be served. */
  room(): void
}

export interface Election {
  readonly backend: Backend
  /** It was the only one to choose from. */
  readonly only: boolean
}

interface PoolOptions {
  readonly balancer: Balancer
  /** The balancer counts ramps itself, in the weights. */
  readonly weighted: boolean
  readonly random: () => number
  /** A new backend is healthy until a check says otherwise. */
  readonly initiallyHealthy: boolean
}

const NONE: readonly number[] = []

export class Pool {
  readonly columns = new Table()
  readonly traffic = new Traffic(this.columns)
  readonly #options: PoolOptions
  readonly #events: PoolEvents
  readonly #byIdentity = new Map<string, Backend>()
  readonly #byId = new Map<number, Backend>()
  readonly #byRow: (Backend | undefined)[] = []
  /** By priority, the lowest number first. */
  #groups: Group[] = []
  #ramping = 0
  #version = 0
  #nextId = 1
  #updates: Promise<unknown> = Promise.resolve()
  #latest = 0
  #merges = 0

  constructor(options: PoolOptions, events: PoolEvents) {
    this.#options = options
    this.#events = events
  }

  /** All backends, also those undiscovered that still hold flows. */
  get backends(): Iterable<Backend> {
    return this.#byIdentity.values()
  }

  get size(): number {
    return this.#byIdentity.size
  }

  /** The backend of this id; undefined when it is gone. */
  find(id: number): Backend | undefined {
    return this.#byId.get(id)
  }

  /** The backend that has this row. */
  at(row: number): Backend {
    return this.#byRow[row]!
  }

  /** Discovered, healthy, not draining, and its name is resolved. Fullness aside, it can be elected. */
  live(backend: Backend): boolean {
    const { discovered, healthy, endpoints, found } = backend
    return discovered && healthy && endpoints.length > 0 && !found.drain
  }

  /**
   * Chooses a backend for a client. `passed` are rows not to be chosen again. Takes no slot.
   * A refusal names the true reason; those that were passed count as unhealthy.
   */
  elect(key: Uint8Array, passed = NONE): Election | Refusal {
    for (const group of this.#groups) {
      if (group.rows.length === 0) continue
      const view = passed.length === 0 ? group : without(group, passed)
      if (view.rows.length > 0) return this.#choose(key, view)
    }
    return this.#whyNobody(passed)
  }

  /** One more flow holds the row. */
  take(row: number): void {
    this.columns.slots[row]!++
    if (this.columns.limit[row]! > 0) this.#groupOf(this.at(row))?.fill(row)
  }

  /** One flow less holds the row. */
  release(row: number): void {
    const backend = this.at(row)
    const slots = --this.columns.slots[row]!
    if (this.columns.limit[row]! > 0) {
      this.#groupOf(backend)?.fill(row)
      this.#events.room()
    }
    if (slots === 0 && !backend.discovered) this.#dispose(backend)
  }

  /**
   * Makes the pool hold what discovery found, a slice at a time: what is new comes first, what is gone goes
   * last, so that a replaced list never leaves the pool empty. `found` names no backend twice. A newer update overtakes one still waiting.
   */
  update(found: readonly Found[]): Promise<Change | undefined> {
    const turn = ++this.#latest
    const update = this.#updates.then(() => (turn === this.#latest ? this.#merge(found) : undefined))
    this.#updates = update
    return update
  }

  /** Health has an opinion. Returns false when it already was so. */
  mark(backend: Backend, healthy: boolean): boolean {
    if (backend.healthy === healthy) return false
    backend.healthy = healthy
    this.#refresh(backend)
    return true
  }

  /** The addresses behind a backend's host name. */
  locate(backend: Backend, endpoints: readonly Address[]): void {
    backend.endpoints = endpoints
    this.#refresh(backend)
  }

  /** How far a returning backend has come back, 0 to 1: scales its weight and its limit. */
  ramp(backend: Backend, factor: number): void {
    const { ramp } = this.columns
    this.#ramping += Number(factor < 1) - Number(ramp[backend.row]! < 1)
    ramp[backend.row] = factor
    this.#refresh(backend)
  }

  #choose(key: Uint8Array, electable: Electable): Election {
    const { balancer, weighted, random } = this.#options
    let view = electable
    for (;;) {
      const row = balancer.elect(key, view)
      const only = view.rows.length === 1
      const back = this.columns.ramp[row]!
      if (only || weighted || this.#ramping === 0 || back >= 1 || random() < back)
        return { backend: this.at(row), only }
      view = without(view, [row])
    }
  }

  #whyNobody(passed: readonly number[]): Refusal {
    const live = this.#groups.reduce((sum, group) => sum + group.live, 0)
    if (live > passed.filter((row) => this.#byRow[row] && this.live(this.at(row))).length) return 'all-full'
    let draining = false
    let discovered = false
    for (const backend of this.backends) {
      discovered ||= backend.discovered
      draining ||= backend.discovered && backend.healthy && backend.found.drain
    }
    if (!discovered) return 'no-backends'
    return draining ? 'draining' : 'all-unhealthy'
  }

  async #merge(found: readonly Found[]): Promise<Change> {
    const change = { added: [] as string[], removed: [] as string[], changed: [] as string[] }
    const update = ++this.#merges
    await inSlices(found, (each) => this.#put(each, update, change))
    await inSlices(this.#byIdentity.values(), (backend) => {
      if (!backend.discovered || backend.update === update) return
      change.removed.push(backend.text)
      this.#withdraw(backend)
    })
    return change
  }

  #put(found: Found, update: number, change: { added: string[]; changed: string[] }): void {
    const known = this.#byIdentity.get(found.identity)
    if (known?.discovered) {
      known.update = update
      if (sameSettings(known.found, found)) return
      change.changed.push(known.text)
      return this.#settle(known, found)
    }
    const backend = known ?? this.#admit(found)
    change.added.push(backend.text)
    backend.update = update
    backend.discovered = true
    backend.healthy = this.#options.initiallyHealthy
    this.#settle(backend, found)
    this.#events.discovered(backend)
  }

  #admit(found: Found): Backend {
    const text = addressText(found.address)
    const row = this.columns.take(text)
    const backend: Backend = {
      id: this.#nextId++,
      row,
      text,
      found,
      endpoints: [],
      discovered: true,
      healthy: false,
      refused: 0,
      closed: 0,
      turn: 0,
      update: 0,
    }
    this.#byIdentity.set(found.identity, backend)
    this.#byId.set(backend.id, backend)
    this.#byRow[row] = backend
    this.traffic.open(row)
    return backend
  }

  /** New settings: perhaps another priority, and so another group. */
  #settle(backend: Backend, found: Found): void {
    if (backend.found.priority !== found.priority) this.#leave(backend)
    backend.found = found
    this.#refresh(backend)
  }

  #withdraw(backend: Backend): void {
    backend.discovered = false
    this.#refresh(backend)
    this.#events.undiscovered(backend)
    if (this.columns.slots[backend.row] === 0) this.#dispose(backend)
  }

  #dispose(backend: Backend): void {
    this.#byIdentity.delete(backend.found.identity)
    this.#byId.delete(backend.id)
    this.#byRow[backend.row] = undefined
    if (this.columns.ramp[backend.row]! < 1) this.#ramping--
    this.columns.release(backend.row)
    this.#options.balancer.forget?.(backend.row)
  }

  /** Puts the backend where it belongs now: in its group with its weight, or out of it. */
  #refresh(backend: Backend): void {
    const { row, found } = backend
    const ramp = this.columns.ramp[row]!
    this.columns.limit[row] =
      found.maxConnections > 0 ? Math.max(1, Math.floor(found.maxConnections * ramp)) : 0
    if (!this.live(backend)) return this.#leave(backend)
    const group = this.#groupOf(backend) ?? this.#open(found.priority)
    group.set(row, found.weight > 0 ? Math.max(1, found.weight * ramp) : 0)
    this.#events.room()
  }

  #leave(backend: Backend): void {
    const group = this.#groupOf(backend)
    group?.delete(backend.row)
    if (group?.live === 0) this.#groups = this.#groups.filter((each) => each !== group)
  }

  #groupOf(backend: Backend): Group | undefined {
    return this.#groups.find((group) => group.priority === backend.found.priority)
  }

  #open(priority: number): Group {
    const group = new Group(priority, this.columns, () => ++this.#version)
    this.#groups = [...this.#groups, group].sort((a, b) => a.priority - b.priority)
    return group
  }
}

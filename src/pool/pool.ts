// One server's backends: merged from discovery, marked by health, elected from.
//
//      update(found) ─► backends by identity ─► live? ─► group of its priority ─► elect
//      mark, eject, advise, ramp, locate ───────┘

import type { Balancer, Electable } from '../balance/balancer.ts'
import { addressText } from '../core/address.ts'
import type { Address } from '../core/address.ts'
import { sameSettings } from '../core/backend.ts'
import type { Found } from '../core/backend.ts'
import type { Refusal } from '../core/reasons.ts'
import { inSlices } from '../core/slices.ts'
import type { Advice } from '../health/check.ts'
import { drains, standingOf } from './backend.ts'
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
  /** Too few are healthy, and all are elected; or no longer. */
  panicked?(panic: boolean): void
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
  /** All are elected while fewer percent than this are healthy and not ejected; 0 is never. */
  readonly panicThreshold?: number
}

const NONE: readonly number[] = []
const NO_ADVICE: Advice = {}

/** Backends one election passes over by chance; more are met only when all of many return at once. */
const MOST_PASSED = 8

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
  #discovered = 0
  /** Backends by standing. */
  #in = 0
  #out = 0
  /** Those that are in, by priority. */
  readonly #inOf = new Map<number, number>()
  #panic = false
  /** Backends whose chance is below 1. */
  #hesitant = 0
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

  /** Backends that discovery names now. */
  get discovered(): number {
    return this.#discovered
  }

  /** Backends that could serve but for health and ejection: not draining, their names resolved, not untried. */
  get candidates(): number {
    return this.#in + this.#out
  }

  /** Candidates that are healthy and not ejected. */
  get fit(): number {
    return this.#in
  }

  /** So few are fit that health and ejection are not looked at. */
  get panic(): boolean {
    return this.#panic
  }

  /**
   * Discovered, not draining, its name resolved, and healthy and not ejected unless there is panic. Fullness aside,
   * it can be elected.
   */
  live({ standing }: Backend): boolean {
    return standing === 'in' || (this.#panic && standing === 'out')
  }

  /**
   * Chooses a backend for a client. `passed` are rows not to be chosen again. Takes no slot.
   * A refusal names the true reason; those that were passed count as unhealthy.
   */
  elect(key: Uint8Array, passed = NONE): Election | Refusal {
    for (const group of this.#inTurn()) {
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
    this.columns.slots[row]!--
    if (this.columns.limit[row]! > 0) {
      this.#groupOf(backend)?.fill(row)
      this.#events.room()
    }
    this.#part(backend)
  }

  /** One more flow holds the row, without a slot: it is as good as over. */
  hold(row: number): void {
    this.at(row).held++
  }

  /** One flow less holds the row without a slot. */
  letGo(row: number): void {
    const backend = this.at(row)
    backend.held--
    this.#part(backend)
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
    const turned = backend.healthy !== healthy
    if (!turned && !backend.untried) return false
    backend.healthy = healthy
    backend.untried = false
    this.#review(backend)
    return turned
  }

  /** Health has no opinion any more: the backend is as one that is new. */
  unmark(backend: Backend): void {
    this.#beNew(backend)
    this.#review(backend)
  }

  /** Keeps a backend out, or lets it in again. Health goes on as ever. */
  eject(backend: Backend, ejected: boolean): void {
    backend.ejected = ejected
    this.#review(backend)
  }

  /** What the backend's agent asks for, all of it; it holds until the backend is undiscovered. */
  advise(backend: Backend, advice: Advice): void {
    backend.advice = advice
    this.#review(backend)
  }

  /** The addresses behind a backend's host name. */
  locate(backend: Backend, endpoints: readonly Address[]): void {
    backend.endpoints = endpoints
    this.#review(backend)
  }

  /** How far a returning backend has come back, 0 to 1: scales its weight and its limit. */
  ramp(backend: Backend, factor: number): void {
    this.columns.ramp[backend.row] = factor
    this.#refresh(backend)
  }

  /** By priority; in panic a group of which nobody is fit comes after those that have somebody. */
  #inTurn(): readonly Group[] {
    if (!this.#panic) return this.#groups
    const fit = ({ priority }: Group) => (this.#inOf.get(priority) ?? 0) > 0
    return [...this.#groups.filter(fit), ...this.#groups.filter((group) => !fit(group))]
  }

  #choose(key: Uint8Array, electable: Electable): Election {
    const { balancer, random } = this.#options
    let view = electable
    for (let passed = 0; ; passed++) {
      const row = balancer.elect(key, view)
      const only = view.rows.length === 1
      const chance = this.#hesitant === 0 ? 1 : this.columns.chance[row]!
      if (only || chance >= 1 || passed === MOST_PASSED || random() < chance)
        return { backend: this.at(row), only }
      view = without(view, [row])
    }
  }

  #whyNobody(passed: readonly number[]): Refusal {
    const live = this.#groups.reduce((sum, group) => sum + group.live, 0)
    if (live > passed.filter((row) => this.#byRow[row] && this.live(this.at(row))).length) return 'all-full'
    let draining = false
    for (const backend of this.backends)
      draining ||= backend.discovered && backend.healthy && !backend.ejected && drains(backend)
    if (this.#discovered === 0) return 'no-backends'
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
    this.#judge()
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
    this.#discovered++
    this.#beNew(backend)
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
      held: 0,
      healthy: false,
      untried: false,
      ejected: false,
      advice: NO_ADVICE,
      standing: 'none',
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
    if (backend.found.priority !== found.priority) {
      this.#leave(backend)
      this.#count(backend, 'none')
    }
    backend.found = found
    this.#refresh(backend)
  }

  #beNew(backend: Backend): void {
    backend.healthy = this.#options.initiallyHealthy
    backend.untried = !backend.healthy
  }

  #withdraw(backend: Backend): void {
    backend.discovered = backend.ejected = false
    backend.advice = NO_ADVICE
    this.columns.ramp[backend.row] = 1
    this.#discovered--
    this.#refresh(backend)
    this.#events.undiscovered(backend)
    this.#part(backend)
  }

  /** Whoever is not discovered any more is gone when no flow holds its row. */
  #part(backend: Backend): void {
    if (!backend.discovered && backend.held === 0 && this.columns.slots[backend.row] === 0)
      this.#dispose(backend)
  }

  #dispose(backend: Backend): void {
    this.#byIdentity.delete(backend.found.identity)
    this.#byId.delete(backend.id)
    this.#byRow[backend.row] = undefined
    this.#hesitant -= Number(this.columns.chance[backend.row]! < 1)
    this.columns.release(backend.row)
    this.#options.balancer.forget?.(backend.row)
  }

  /** Something that health, ejection or panic look at is another. */
  #review(backend: Backend): void {
    this.#refresh(backend)
    this.#judge()
  }

  /** Puts the backend where it belongs now: in its group with its weight, or out of it. */
  #refresh(backend: Backend): void {
    this.#scale(backend)
    this.#count(backend, standingOf(backend))
    if (!this.live(backend)) return this.#leave(backend)
    const { row, found, advice } = backend
    const weight = found.weight * (advice.share ?? 1) * this.columns.ramp[row]!
    const group = this.#groupOf(backend) ?? this.#open(found.priority)
    group.set(row, weight > 0 ? Math.max(1, weight) : 0)
    this.#events.room()
  }

  /** Its limit, and its chance: what a weight of at least 1 cannot say is left to chance. */
  #scale({ row, found, advice }: Backend): void {
    const { ramp, limit, chance } = this.columns
    const back = ramp[row]!
    const most = advice.maxConnections ?? found.maxConnections
    limit[row] = most > 0 ? Math.max(1, Math.floor(most * back)) : 0
    const weight = found.weight * (advice.share ?? 1)
    const after = !this.#options.weighted ? back : weight > 0 ? Math.min(1, weight * back) : 1
    this.#hesitant += Number(after < 1) - Number(chance[row]! < 1)
    chance[row] = after
  }

  #count(backend: Backend, after: Backend['standing']): void {
    const before = backend.standing
    backend.standing = after
    const more = Number(after === 'in') - Number(before === 'in')
    if (more !== 0) this.#countIn(backend.found.priority, more)
    this.#out += Number(after === 'out') - Number(before === 'out')
  }

  #countIn(priority: number, more: number): void {
    this.#in += more
    const left = (this.#inOf.get(priority) ?? 0) + more
    if (left > 0) this.#inOf.set(priority, left)
    else this.#inOf.delete(priority)
  }

  /** Panic begins or ends when it is time; a turnover of thousands is taken in slices. */
  #judge(): void {
    const panic = this.#in * 100 < (this.#options.panicThreshold ?? 0) * this.candidates
    if (panic === this.#panic) return
    this.#panic = panic
    this.#events.panicked?.(panic)
    void inSlices(this.#byIdentity.values(), (backend) => this.#refresh(backend))
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

// What a Docker engine tells of its containers, and what that says of its list.
//
// Docker 20.10 tells of a container that died, was paused or goes on up to 150 ms before its list has it (measured;
// later ones change the list first), and all of them of a network before it is in the list. So who died or was
// paused is gone whatever the list says, and after the others the list is asked for a moment later. A start is told
// in time, and so is what a HEALTHCHECK says.

import { z } from 'zod'
import type { Cancel, Clock } from '../../core/clock.ts'
import { text } from '../../core/settings.ts'

/** An event; before API 1.22 and from classic Swarm it may have a status and an id only. */
const event = z.object({
  Type: text().optional(),
  Action: text().optional(),
  status: text().optional(),
  id: text().optional(),
  Actor: z.object({ ID: text().optional(), Attributes: z.record(z.string(), text()).nullish() }).optional(),
})

const LEAVING = ['die', 'pause']
const COMING = ['start', 'unpause']
const NETWORK = ['connect', 'disconnect']

/** Its Action goes on with what the health is. */
const HEALTH = 'health_status'

/** By then the list has what was told before it was there. */
const LATE_MS = 500

/** For this long a container that left is not believed to run. */
const GONE_MS = 10_000

/** More than an engine has containers, and longer than the id of one. */
const MOST = 10_000
const LONGEST_ID = 128

/** Which containers matter. */
export interface Interest {
  /** A label they have, `key` or `key=value`; empty is any container. */
  readonly label: string
  /** Whether it matters what their HEALTHCHECK says. */
  readonly health: boolean
}

export class DockerEvents {
  readonly #interest: Interest
  readonly #clock: Clock
  /** Until when containers that left are gone, by id; the first to leave first. */
  readonly #gone = new Map<string, number>()
  /** When containers moved of which the list may know later, by id. */
  readonly #moved = new Map<string, number>()
  #cancel: Cancel | undefined

  constructor(interest: Interest, clock: Clock) {
    this.#interest = interest
    this.#clock = clock
  }

  /** What the engine is asked to tell; some tell more. */
  get filters(): object {
    const health = this.#interest.health ? [HEALTH] : []
    return { type: ['container', 'network'], event: [...LEAVING, ...COMING, ...NETWORK, ...health] }
  }

  /** Takes in what the engine said, and calls `hint` whenever the list is another one. */
  hear(said: unknown, hint: () => void): void {
    const { data } = event.safeParse(said)
    if (!data) return
    const action = (data.Action ?? data.status ?? '').split(':')[0]!
    const { ID = data.id ?? '', Attributes } = data.Actor ?? {}
    if (data.Type === 'network')
      return NETWORK.includes(action) ? this.#later(Attributes?.container ?? '', hint) : undefined
    if (Attributes && !this.#isLabelled(Attributes)) return
    if (LEAVING.includes(action)) this.#leave(ID)
    else if (COMING.includes(action)) this.#gone.delete(ID)
    else if (action !== HEALTH || !this.#interest.health) return
    // What its networks did on the way is in the same list.
    this.#moved.delete(ID)
    hint()
    if (action === 'unpause') this.#later(ID, hint)
  }

  /** True for a container that has left, though the list may not know yet. */
  hasGone(id: string): boolean {
    return (this.#gone.get(id) ?? -Infinity) > this.#clock.now()
  }

  /** Nothing is heard any more: the list alone says who is there, and nobody is hinted. */
  forget(): void {
    this.#gone.clear()
    this.#moved.clear()
    this.#cancel?.()
    this.#cancel = undefined
  }

  #leave(id: string): void {
    const now = this.#clock.now()
    for (const [first, until] of this.#gone) {
      if (until > now) break
      this.#gone.delete(first)
    }
    this.#gone.delete(id)
    if (id.length <= LONGEST_ID && this.#gone.size < MOST) this.#gone.set(id, now + GONE_MS)
  }

  /** A container that died leaves its networks too, which is no news. */
  #later(id: string, hint: () => void): void {
    if (this.hasGone(id) || id.length > LONGEST_ID || this.#moved.size >= MOST) return
    this.#moved.set(id, this.#clock.now())
    this.#cancel ??= this.#clock.after(LATE_MS, () => this.#settle(hint))
  }

  #settle(hint: () => void): void {
    if (this.#moved.size > 0) hint()
    const old = this.#clock.now() - LATE_MS
    for (const [id, at] of this.#moved) if (at <= old) this.#moved.delete(id)
    this.#cancel = this.#moved.size > 0 ? this.#clock.after(LATE_MS, () => this.#settle(hint)) : undefined
  }

  /** A container's event has its labels among its attributes. */
  #isLabelled(attributes: Readonly<Record<string, string>>): boolean {
    const [key = '', ...value] = this.#interest.label.split('=')
    if (key === '') return true
    if (!Object.hasOwn(attributes, key)) return false
    return value.length === 0 || attributes[key] === value.join('=')
  }
}

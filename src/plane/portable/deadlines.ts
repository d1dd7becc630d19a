// Deadlines of very many flows on one timer: a wheel of slots, each a list of those due about then.
//
//      slot   0      1      2      3    ...  1023       one slot is TICK_MS; a turn is 51 s
//             │             │                           due later than a turn: passed over until it is time
//           flow ⇄ flow   flow
//
// Packets never touch the wheel: a flow notes when it last moved, and is asked when it might be due. It then
// says when to ask again.

import type { Cancel, Clock } from '../../core/clock.ts'
import { inSlices } from '../../core/slices.ts'

const TICK_MS = 50
const SLOTS = 1024
const NONE = -1
/** Taken off the wheel, to be asked in this or one of the next slices. */
const RIPE = -2

/** Something that is over at some time. Extend it; its fields belong to the wheel. */
export abstract class Dated {
  due = 0
  slot = NONE
  before: Dated | null = null
  after: Dated | null = null

  /** Asked at `due` or up to a tick later: the time to ask again, or Infinity. */
  abstract expire(now: number): number
}

/** `ms` after `start`; never when that is 0. */
export function timeAfter(start: number, ms: number): number {
  return ms > 0 ? start + ms : Infinity
}

export class Deadlines {
  readonly clock: Clock
  #slots = new Array<Dated | null>(SLOTS).fill(null)
  #count = 0
  #last = 0
  #cancel: Cancel | undefined

  constructor(clock: Clock) {
    this.clock = clock
  }

  /** Asks `dated` at `due` and at no other time; never if that is Infinity. */
  set(dated: Dated, due: number): void {
    this.clear(dated)
    if (due === Infinity) return
    if (!this.#cancel) this.#start()
    const tick = Math.max(Math.ceil(due / TICK_MS), this.#last + 1)
    const slot = tick % SLOTS
    const head = this.#slots[slot]!
    dated.due = due
    dated.slot = slot
    dated.after = head
    if (head) head.before = dated
    this.#slots[slot] = dated
    this.#count++
  }

  /** Asks `dated` at `due` unless it is to be asked sooner. */
  sooner(dated: Dated, due: number): void {
    if (dated.slot >= 0 && dated.due <= due) return
    if (dated.slot !== RIPE) this.set(dated, due)
  }

  /** Does not ask `dated` any more. Twice is fine. */
  clear(dated: Dated): void {
    if (dated.slot >= 0) this.#unlink(dated)
    dated.slot = NONE
  }

  #unlink(dated: Dated): void {
    const { before, after } = dated
    if (before) before.after = after
    else this.#slots[dated.slot] = after
    if (after) after.before = before
    dated.before = dated.after = null
    this.#count--
  }

  #start(): void {
    this.#last = Math.floor(this.clock.now() / TICK_MS)
    this.#cancel = this.clock.every(TICK_MS, () => this.#tick())
  }

  #tick(): void {
    if (this.#count === 0) {
      this.#cancel?.()
      this.#cancel = undefined
      return
    }
    const now = this.clock.now()
    const target = Math.floor(now / TICK_MS)
    const first = Math.max(this.#last + 1, target - SLOTS + 1)
    this.#last = target
    const ripe: Dated[] = []
    for (let tick = first; tick <= target; tick++) this.#gather(tick % SLOTS, now, ripe)
    if (ripe.length > 0) void inSlices(ripe, (dated) => this.#ask(dated))
  }

  #gather(slot: number, now: number, ripe: Dated[]): void {
    for (let dated = this.#slots[slot]!, next: Dated | null; dated; dated = next!) {
      next = dated.after
      if (dated.due > now) continue
      this.#unlink(dated)
      dated.slot = RIPE
      ripe.push(dated)
    }
  }

  #ask(dated: Dated): void {
    if (dated.slot !== RIPE) return
    const again = dated.expire(this.clock.now())
    if (dated.slot === RIPE) this.set(dated, again)
  }
}

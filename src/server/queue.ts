// Flows that wait for a slot, first come first served, none longer than the queue's time.

import type { Cancel, Clock } from '../core/clock.ts'

/** One flow that waits. */
interface Waiting<T> {
  readonly flow: T
  readonly until: number
}

export class Queue<T extends { readonly client: { readonly flow: number } }> {
  readonly #waitMs: number
  readonly #clock: Clock
  readonly #expired: (flow: T) => void
  readonly #waiting = new Map<number, Waiting<T>>()
  #cancel: Cancel | undefined

  /** A flow that has waited `waitMs` is taken out and told to `expired`. */
  constructor(waitMs: number, clock: Clock, expired: (flow: T) => void) {
    this.#waitMs = waitMs
    this.#clock = clock
    this.#expired = expired
  }

  get size(): number {
    return this.#waiting.size
  }

  /** The flows, the one that has waited longest first; they may be removed meanwhile. */
  *[Symbol.iterator](): IterableIterator<T> {
    for (const { flow } of this.#waiting.values()) yield flow
  }

  add(flow: T): void {
    this.#waiting.set(flow.client.flow, { flow, until: this.#clock.now() + this.#waitMs })
    this.#cancel ??= this.#clock.after(this.#waitMs, () => this.#expire())
  }

  remove(flow: number): void {
    this.#waiting.delete(flow)
  }

  /** Forgets everybody and the timer. */
  close(): void {
    this.#waiting.clear()
    this.#cancel?.()
    this.#cancel = undefined
  }

  #head(): Waiting<T> | undefined {
    return this.#waiting.values().next().value
  }

  #expire(): void {
    this.#cancel = undefined
    const now = this.#clock.now()
    for (let head = this.#head(); head && head.until <= now; head = this.#head()) {
      this.#waiting.delete(head.flow.client.flow)
      this.#expired(head.flow)
    }
    const head = this.#head()
    if (head) this.#cancel = this.#clock.after(head.until - now, () => this.#expire())
  }
}

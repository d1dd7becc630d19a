// When what happened to a session, and when it has been idle for too long. Milliseconds.

import type { FlowEnd, ListenSpec } from '../plane.ts'
import { timeAfter } from './deadlines.ts'

type Idle = Pick<ListenSpec, 'clientIdleMs' | 'backendIdleMs'>

export class Times {
  /** A datagram of the client came last. */
  heardAt: number
  /** -1 where it never came so far, or no more holds. */
  connectMs = -1
  readonly #idle: Idle
  readonly #arrivedAt: number
  #dialledAt = -1
  #firstByteMs = -1
  /** A datagram of the backend came last, or it was dialled. */
  #answeredAt = 0

  constructor(idle: Idle, now: number) {
    this.#idle = idle
    this.#arrivedAt = this.heardAt = now
  }

  dialled(now: number): void {
    this.#dialledAt = this.#answeredAt = now
    this.#firstByteMs = -1
  }

  connected(now: number): void {
    this.connectMs = now - this.#dialledAt
  }

  sinceDial(now: number): number {
    return now - this.#dialledAt
  }

  /** A datagram of the backend: how long the first one took, -1 for all others. */
  answered(now: number): number {
    this.#answeredAt = now
    if (this.#firstByteMs >= 0) return -1
    return (this.#firstByteMs = now - this.#dialledAt - this.connectMs)
  }

  /** It is idle then, if nothing comes before. */
  get due(): number {
    return Math.min(this.#clientDue, timeAfter(this.#answeredAt, this.#idle.backendIdleMs))
  }

  /** Who has been silent for too long, at `due`. */
  get silent(): 'client-idle' | 'backend-idle' {
    return this.due === this.#clientDue ? 'client-idle' : 'backend-idle'
  }

  /** What is told of it when it is over. */
  record(now: number): Pick<FlowEnd, 'waitedMs' | 'connectMs' | 'firstByteMs' | 'durationMs'> {
    const waitedMs = this.#dialledAt < 0 ? -1 : this.#dialledAt - this.#arrivedAt
    const durationMs = now - this.#arrivedAt
    return { waitedMs, connectMs: this.connectMs, firstByteMs: this.#firstByteMs, durationMs }
  }

  get #clientDue(): number {
    return timeAfter(this.heardAt, this.#idle.clientIdleMs)
  }
}

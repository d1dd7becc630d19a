// The desk is never re-entered: what is over while it is being asked is reported when it has answered.

import type { Desk, FlowEnd } from '../plane.ts'

/** Something whose end the desk has yet to hear of. */
export interface Over {
  /** The record, made when it is handed over. */
  record(): FlowEnd
}

export class Turn {
  #desk: Desk
  #asking = false
  #over: Over[] = []

  constructor(desk: Desk) {
    this.#desk = desk
  }

  /** Runs a question to the desk, and what the plane does upon the answer; what ends by it is reported then. */
  ask(question: () => void): void {
    this.#asking = true
    try {
      question()
    } finally {
      this.#done()
    }
  }

  /** Runs `action`, called by the desk itself at any time; what ends by it is reported after its caller is done. */
  aside(action: () => void): void {
    const asking = this.#asking
    this.#asking = true
    try {
      action()
    } finally {
      this.#asking = asking
      if (!asking && this.#over.length > 0) queueMicrotask(() => this.#done())
    }
  }

  /** Reports the end of a flow: now, or after the question that is being asked. */
  ended(over: Over): void {
    this.#over.push(over)
    if (!this.#asking) this.#tell()
  }

  #done(): void {
    this.#asking = false
    if (this.#over.length > 0) this.#tell()
  }

  #tell(): void {
    for (let over = this.#over.shift(); over; over = this.#over.shift()) {
      this.#asking = true
      try {
        this.#desk.ended(over.record())
      } finally {
        this.#asking = false
      }
    }
  }
}

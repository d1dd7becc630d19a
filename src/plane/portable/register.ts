// What a listening knows of its flows, whether they are connections or sessions.

import { Bursts } from '../../core/burst.ts'
import { logger } from '../../core/log.ts'
import type { Ending, Reason } from '../../core/reasons.ts'
import { inSlices } from '../../core/slices.ts'
import type { Answer, Arrival, Desk, Dial, ListenSpec, Refuse } from '../plane.ts'
import type { Deadlines } from './deadlines.ts'
import { Rows } from './rows.ts'
import { Turn } from './turn.ts'

/** What the flows of one listening share, whatever they carry. */
export interface Household<F> {
  readonly spec: ListenSpec
  readonly desk: Desk
  readonly turn: Turn
  readonly rows: Rows
  readonly deadlines: Deadlines
  /** The flow is over and about to be reported. */
  forget(flow: F): void
}

/** A flow, as far as its listening is concerned. */
export interface Entry {
  readonly arrival: Arrival
  /** Row of the backend whose slot it holds; -1 without one. */
  readonly row: number
  /** It was told `later`. */
  readonly held: boolean
  take(answer: Answer): void
  /** Takes the slot of a dial that came too late: its end, about to be reported, pays it back. */
  owe(dial: Dial['dial']): void
  /** Twice is fine. */
  end(reason: Reason): void
}

export class Register<F extends Entry> implements Household<F> {
  readonly spec: ListenSpec
  readonly desk: Desk
  readonly turn: Turn
  readonly rows = new Rows()
  readonly deadlines: Deadlines
  /** What goes wrong with very many clients at once is complained of once. */
  protected readonly bursts: Bursts
  readonly #flows = new Map<number, F>()

  constructor(spec: ListenSpec, desk: Desk, deadlines: Deadlines) {
    this.spec = spec
    this.desk = desk
    this.turn = new Turn(desk)
    this.deadlines = deadlines
    this.bursts = new Bursts((message) => logger('plane').error(message), deadlines.clock)
  }

  get flows(): number {
    return this.#flows.size
  }

  answer(flow: number, answer: Dial | Refuse): void {
    const waiting = this.#flows.get(flow)
    if (!waiting) return
    if (waiting.held) this.turn.aside(() => waiting.take(answer))
    else if ('dial' in answer) waiting.owe(answer.dial)
  }

  rx(row: number): number {
    return this.rows.rx[row] ?? 0
  }

  tx(row: number): number {
    return this.rows.tx[row] ?? 0
  }

  connects(row: number): number {
    return this.rows.connects[row] ?? 0
  }

  requests(row: number): number {
    return this.rows.requests[row] ?? 0
  }

  responses(row: number): number {
    return this.rows.responses[row] ?? 0
  }

  drop(row: number, reason: Ending): void {
    const held = [...this.#flows.values()].filter((flow) => flow.row === row)
    void this.#end(held, reason, (flow) => flow.row === row)
  }

  forget(flow: F): void {
    this.#flows.delete(flow.arrival.flow)
  }

  protected remember(flow: F): void {
    this.#flows.set(flow.arrival.flow, flow)
  }

  /** Resolves when the desk has heard of the end of every flow. */
  protected async endAll(reason: Ending): Promise<void> {
    while (this.#flows.size > 0) {
      await this.#end([...this.#flows.values()], reason, () => true)
      // The last ends may have to wait for a question to the desk.
      await new Promise(setImmediate)
    }
  }

  #end(flows: F[], reason: Ending, still: (flow: F) => boolean): Promise<void> {
    return inSlices(flows, (flow) => {
      if (still(flow)) this.turn.aside(() => flow.end(reason))
    })
  }
}

// What a plane is tried with: a desk that keeps a ledger, and listenings whose ledgers are balanced when a test ends.

import type { Test } from 'tap'
import type { Address } from '../../src/core/address.ts'
import type { Answer, Arrival, DatagramSpec, Desk, Dial, DialFailure } from '../../src/plane/plane.ts'
import type { FlowEnd, Listening, ListenSpec, Plane, Refuse } from '../../src/plane/plane.ts'
import { until } from './until.ts'

export type Script = Partial<Desk>

const COLUMNS = ['rx', 'tx', 'connects', 'requests', 'responses'] as const
type Column = (typeof COLUMNS)[number]

/** Says what its script says, and holds the plane to the contract. */
export class LedgerDesk implements Desk {
  readonly ends: FlowEnd[] = []
  readonly arrivals: Arrival[] = []
  readonly failures: DialFailure[] = []
  readonly faults: string[] = []
  readonly #script: Script
  readonly #seen = new Set<number>()
  readonly #open = new Set<number>()
  readonly #owed = new Map<number, number>()
  readonly #lost: { readonly flow: number; readonly backend: number }[] = []
  #busy = false

  constructor(script: Script) {
    this.#script = script
  }

  arrived(client: Arrival): Answer {
    this.arrivals.push(client)
    if (this.#seen.has(client.flow)) this.faults.push(`flow ${client.flow} arrived twice`)
    this.#seen.add(client.flow)
    this.#open.add(client.flow)
    const answer = this.#asked<Answer>(() => this.#script.arrived?.(client) ?? { refuse: 'access' })
    if ('refuse' in answer) this.#open.delete(client.flow)
    return this.took(client.flow, answer)
  }

  headed(client: Arrival, bytes: Uint8Array, ended: boolean): Answer {
    const answer = this.#asked<Answer>(
      () => this.#script.headed?.(client, bytes, ended) ?? { refuse: 'bad-header' },
    )
    return this.took(client.flow, answer)
  }

  dialFailed(client: Arrival, failure: DialFailure): Answer {
    this.failures.push(failure)
    if (failure.lost) this.#lost.push({ flow: client.flow, backend: failure.backend })
    this.#pay(client.flow, failure.backend, 'dialFailed')
    const answer = this.#asked<Answer>(
      () => this.#script.dialFailed?.(client, failure) ?? { refuse: 'dial-failed' },
    )
    return this.took(client.flow, answer)
  }

  connected(client: Arrival, backend: number, ms: number): void {
    this.#asked(() => this.#script.connected?.(client, backend, ms))
  }

  firstByte(client: Arrival, backend: number, ms: number): void {
    this.#asked(() => this.#script.firstByte?.(client, backend, ms))
  }

  glimpsed(client: Arrival, backend: number, bytes: Uint8Array): void {
    this.#asked(() => this.#script.glimpsed?.(client, backend, bytes))
  }

  ended(end: FlowEnd): void {
    if (!this.#open.delete(end.client.flow)) this.faults.push(`flow ${end.client.flow} ended twice`)
    if (end.backend >= 0 || this.#owed.has(end.client.flow)) this.#pay(end.client.flow, end.backend, 'ended')
    this.ends.push(end)
    this.#asked(() => this.#script.ended?.(end))
  }

  /** Notes the slot that an answer takes. */
  took<A extends Answer>(flow: number, answer: A): A {
    if (!('dial' in answer)) return answer
    if (this.#owed.has(flow)) this.faults.push(`flow ${flow} owes two slots`)
    this.#owed.set(flow, answer.dial.backend)
    return answer
  }

  /** What is wrong when all is over. */
  get audit(): string[] {
    const open = [...this.#open].map((flow) => `flow ${flow} never ended`)
    const owed = [...this.#owed.keys()].map((flow) => `flow ${flow} never paid its slot back`)
    return [...this.faults, ...open, ...owed]
  }

  /** Rows of `listening` that say something else than the flows that ended did. */
  miscounted(listening: Listening): string[] {
    const rows = new Map<number, Record<Column, number>>()
    const add = (row: number, more: Partial<Record<Column, number>>) => {
      const sums = rows.get(row) ?? { rx: 0, tx: 0, connects: 0, requests: 0, responses: 0 }
      for (const column of COLUMNS) sums[column] += more[column] ?? 0
      rows.set(row, sums)
    }
    for (const { backend } of this.#lost) add(backend, { connects: 1 })
    const connected = this.ends.filter(({ connectMs, backend }) => connectMs >= 0 && backend >= 0)
    for (const end of connected) add(end.backend, { ...end, connects: 1 })
    // What a session did before it moved stays in the row where it was, so that of such rows only dials compare.
    const lost = new Set(this.#lost.map(({ flow }) => flow))
    const to = connected.filter(({ client }) => lost.has(client.flow))
    const moved = new Set([...this.#lost, ...to].map(({ backend }) => backend))
    const wrong = [...rows].flatMap(([row, sums]) =>
      COLUMNS.filter((column) => column === 'connects' || !moved.has(row))
        .filter((column) => listening[column](row) !== sums[column])
        .map(
          (column) => `${column} of row ${row} is ${listening[column](row)}, its flows had ${sums[column]}`,
        ),
    )
    return [...wrong, ...(moved.size > 0 ? this.#misheard(listening, [...rows.keys()]) : [])]
  }

  /** What backends said, which no move repeats: over all rows it is what the flows had. */
  #misheard(listening: Listening, rows: readonly number[]): string[] {
    return (['rx', 'responses'] as const).flatMap((column) => {
      const counted = rows.reduce((sum, row) => sum + listening[column](row), 0)
      const had = this.ends.reduce((sum, end) => sum + end[column], 0)
      return counted === had ? [] : [`${column} of all rows is ${counted}, all flows had ${had}`]
    })
  }

  #pay(flow: number, backend: number, how: string): void {
    if (this.#owed.get(flow) !== backend)
      this.faults.push(`flow ${flow} paid ${backend} by ${how}, owed another`)
    this.#owed.delete(flow)
  }

  #asked<T>(question: () => T): T {
    if (this.#busy) this.faults.push('the desk was re-entered')
    this.#busy = true
    try {
      return question()
    } finally {
      this.#busy = false
    }
  }
}

/** A free port, and no limit but one. */
export const SPEC: ListenSpec = {
  binds: [{ host: '127.0.0.1', port: 0 }],
  backlog: 511,
  clientIdleMs: 0,
  backendIdleMs: 0,
  halfCloseMs: 0,
  undecidedMs: 10_000,
  keepAliveMs: 15_000,
  report: false,
}

/** Sessions without any limit. */
export const DATAGRAMS: DatagramSpec = {
  sessionKey: 'address',
  maxRequests: 0,
  maxResponses: 0,
  maxSessions: 0,
  tellUnreachable: true,
  glimpses: 0,
  receiveBuffer: 0,
  access: undefined,
}

/** A listening, its ledger, and how to answer so that the ledger knows. */
export interface Served {
  readonly listening: Listening
  readonly desk: LedgerDesk
  /** Of the first bind, as a script's `connect` takes it. */
  readonly at: string
  readonly port: number
  answer(flow: number, answer: Dial | Refuse): void
}

/** What is to be checked of the listenings of the test that runs. */
const audits: ((t: Test) => Promise<void>)[] = []

/** A test that ends with the ledgers of all it has served. */
export async function behaviour(
  t: Test,
  name: string,
  ...rest: [Body] | [{ skip: boolean }, Body]
): Promise<void> {
  const [body, skip] = rest.length === 1 ? [rest[0], false] : [rest[1], rest[0].skip]
  await t.test(name, { skip }, async (t) => {
    try {
      await body(t)
    } finally {
      await audited(t)
    }
  })
}

/** Stops what the test has served so far, and looks at its ledgers. */
export async function audited(t: Test): Promise<void> {
  for (const audit of audits.splice(0)) await audit(t)
}

type Body = (t: Test) => Promise<void>

/** Listens on `plane` with a desk that says what `script` says, until the test is over. */
export async function serve(plane: Plane, script: Script, spec: Partial<ListenSpec> = {}): Promise<Served> {
  const desk = new LedgerDesk(script)
  const listening = await plane.listen({ ...SPEC, ...spec }, desk)
  audits.push(async (t) => {
    await listening.stop('shutdown')
    t.same(desk.audit, [], 'the ledger is balanced')
    t.same(desk.miscounted(listening), [], 'the rows agree with the flows')
    t.equal(listening.flows, 0)
  })
  const at = listening.addresses[0]!
  const answer = (flow: number, said: Dial | Refuse) => listening.answer(flow, desk.took(flow, said))
  return { listening, desk, at, port: Number(at.slice(at.lastIndexOf(':') + 1)), answer }
}

/** A dial of row 0, unless told otherwise. */
export function dial(address: Address, more: Partial<Dial['dial']> = {}): Dial {
  return { dial: { backend: 0, address, timeoutMs: 5_000, note: 7, ...more } }
}

/** Every client goes to `address`. */
export const to = (address: Address, more: Partial<Dial['dial']> = {}): Script => ({
  arrived: () => dial(address, more),
})

/** Waits until that many flows have ended. */
export const ended = ({ desk }: Served, count = 1) => until(() => desk.ends.length === count, `${count} ends`)

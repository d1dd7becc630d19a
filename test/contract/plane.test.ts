// Every plane keeps the same promises: each is tried with real sockets and a desk that keeps a ledger.

import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import type { Hash } from 'node:crypto'
import { once } from 'node:events'
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { parseBind } from '../../src/core/address.ts'
import type { Address } from '../../src/core/address.ts'
import type { Answer, Arrival, Desk, Dial, DialFailure } from '../../src/plane/plane.ts'
import type { FlowEnd, Listening, ListenSpec, Plane, Refuse } from '../../src/plane/plane.ts'
import { pin, readBuffer, stage, unpin } from '../../src/plane/portable/scratch.ts'
import type { Slab } from '../../src/plane/portable/scratch.ts'
import { NO_IPV6 } from '../support/ipv6.ts'
import { FakePlane } from '../support/fakeplane.ts'
import { peer } from '../support/peer.ts'
import { PLANES } from '../support/planes.ts'
import { until } from '../support/until.ts'

type Script = Partial<Desk>

/** Says what its script says, and holds the plane to the contract. */
class LedgerDesk implements Desk {
  readonly ends: FlowEnd[] = []
  readonly arrivals: Arrival[] = []
  readonly failures: DialFailure[] = []
  readonly faults: string[] = []
  readonly #script: Script
  readonly #open = new Set<number>()
  readonly #owed = new Map<number, number>()
  #busy = false

  constructor(script: Script) {
    this.#script = script
  }

  arrived(client: Arrival): Answer {
    this.arrivals.push(client)
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

const SPEC: ListenSpec = {
  binds: [{ host: '127.0.0.1', port: 0 }],
  backlog: 511,
  clientIdleMs: 0,
  backendIdleMs: 0,
  halfCloseMs: 0,
  undecidedMs: 10_000,
  keepAliveMs: 15_000,
  report: false,
}

interface Served {
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
async function behaviour(t: Test, name: string, ...rest: [Body] | [{ skip: boolean }, Body]): Promise<void> {
  const [body, skip] = rest.length === 1 ? [rest[0], false] : [rest[1], rest[0].skip]
  await t.test(name, { skip }, async (t) => {
    await body(t)
    for (const audit of audits.splice(0)) await audit(t)
  })
}

type Body = (t: Test) => Promise<void>

async function serve(plane: Plane, script: Script, spec: Partial<ListenSpec> = {}): Promise<Served> {
  const desk = new LedgerDesk(script)
  const listening = await plane.listen({ ...SPEC, ...spec }, desk)
  audits.push(async (t) => {
    await listening.stop('shutdown')
    t.same(desk.audit, [], 'the ledger is balanced')
    t.equal(listening.flows, 0)
  })
  const at = listening.addresses[0]!
  const answer = (flow: number, said: Dial | Refuse) => listening.answer(flow, desk.took(flow, said))
  return { listening, desk, at, port: Number(at.slice(at.lastIndexOf(':') + 1)), answer }
}

function dial(address: Address, more: Partial<Dial['dial']> = {}): Dial {
  return { dial: { backend: 0, address, timeoutMs: 5_000, note: 7, ...more } }
}

const to = (address: Address, more: Partial<Dial['dial']> = {}): Script => ({
  arrived: () => dial(address, more),
})

/** A port where nobody listens. */
async function deadPort(): Promise<Address> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return { host: '127.0.0.1', port }
}

/** A backend of more than one client; closed at the test's end. */
async function backend(t: Test, serveOne: (socket: Socket) => void): Promise<Address & { port: number }> {
  const sockets = new Set<Socket>()
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    serveOne(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { host: '127.0.0.1', port: (server.address() as AddressInfo).port }
}

async function open(port: number, host = '127.0.0.1'): Promise<Socket> {
  const socket = connect({ port, host, allowHalfOpen: true })
  socket.on('error', () => {})
  await once(socket, 'connect')
  return socket
}

const ended = ({ desk }: Served, count = 1) => until(() => desk.ends.length === count, `${count} ends`)

/** True once `value` has been the same for a while: whoever moved it has been stopped. */
async function settled(value: () => number): Promise<void> {
  let last = NaN
  let same = 0
  await until(() => {
    same = value() === last ? same + 1 : 0
    last = value()
    return same > 20
  }, 'a number that stands still')
}

function descriptors(): number {
  return readdirSync('/proc/self/fd').length
}

const full = await saturated()

for (const { name, skip, make } of PLANES) {
  t.test(`plane ${name}`, { skip }, async (t) => {
    const plane = make()
    const before = existsSync('/proc/self/fd') ? descriptors() : 0

    await behaviour(t, 'a client that half-closes still gets its answer', async (t) => {
      const server = await peer('accept', 'read 4', 'expect eof', 'write "PONG"', 'shutdown')
      const served = await serve(plane, to(server.address, { backend: 3 }))
      const client = await peer(`connect ${served.at}`, 'write "PING"', 'shutdown', 'read 4', 'expect eof')
      await Promise.all([client.done, server.done, ended(served)])
      t.equal(client.received, 'PONG')
      t.match(served.desk.ends[0], { reason: 'client-closed', backend: 3, note: 7, rx: 4, tx: 4 })
      t.equal(served.listening.connects(3), 1)
      t.equal(served.listening.rx(3), 4)
      t.equal(served.listening.tx(3), 4)
      t.equal(served.listening.rx(99_999), 0)
      for (const ms of ['waitedMs', 'connectMs', 'firstByteMs', 'durationMs'] as const) {
        t.ok(served.desk.ends[0]![ms] >= 0, ms)
      }
    })

    await behaviour(t, 'a backend that half-closes still gets the rest of the request', async (t) => {
      const server = await peer('accept', 'write "HELLO"', 'shutdown', 'read 4', 'expect eof')
      const served = await serve(plane, to(server.address))
      const client = await peer(`connect ${served.at}`, 'read 5', 'expect eof', 'write "LATE"', 'shutdown')
      await Promise.all([client.done, server.done, ended(served)])
      t.match(served.desk.ends[0], { reason: 'backend-closed', rx: 5, tx: 4 })
    })

    await behaviour(t, 'a reset of the client becomes a reset at the backend', async (t) => {
      const server = await peer('accept', 'read 1', 'write "y"', 'expect reset')
      const served = await serve(plane, to(server.address))
      const client = await peer(`connect ${served.at}`, 'write "x"', 'read 1', 'reset')
      await Promise.all([client.done, server.done, ended(served)])
      t.match(served.desk.ends[0], { reason: 'client-reset', rx: 1, tx: 1 })
    })

    await behaviour(t, 'a reset of the backend becomes a reset at the client', async (t) => {
      const server = await peer('accept', 'read 1', 'reset')
      const served = await serve(plane, to(server.address))
      const client = await peer(`connect ${served.at}`, 'write "x"', 'expect reset')
      await Promise.all([client.done, server.done, ended(served)])
      t.match(served.desk.ends[0], { reason: 'backend-reset', rx: 0, tx: 1, firstByteMs: -1 })
    })

    await behaviour(
      t,
      'a client reset while its other half is closed still resets the backend',
      async (t) => {
        const server = await peer('accept', 'write "a"', 'shutdown', 'read 1', 'expect reset')
        const served = await serve(plane, to(server.address))
        const client = await peer(
          `connect ${served.at}`,
          'read 1',
          'expect eof',
          'write "x"',
          'hold',
          'reset',
        )
        await until(() => served.listening.tx(0) === 1)
        client.go()
        await Promise.all([client.done, ended(served)])
        await server.done.catch(() => {}) // After its own end a peer may see the reset as an end.
        t.match(served.desk.ends[0], { reason: 'client-reset', rx: 1, tx: 1 })
      },
    )

    await behaviour(t, 'a refused client is closed and has no end', async (t) => {
      const served = await serve(plane, { arrived: () => ({ refuse: 'access' }) })
      const client = await peer(`connect ${served.at}`, 'expect eof')
      await client.done
      t.equal(served.desk.arrivals.length, 1)
      t.equal(served.desk.ends.length, 0)
    })

    await behaviour(t, 'an arrival says who came, where to, and by which bind', async (t) => {
      const binds = [
        { host: '127.0.0.1', port: 0 },
        { host: '127.0.0.1', port: 0 },
      ]
      const served = await serve(plane, {}, { binds })
      const port = Number(served.listening.addresses[1]!.split(':')[1])
      const socket = await open(port)
      const mine = socket.localPort
      socket.destroy()
      await until(() => served.desk.arrivals.length === 1)
      const want = { ip: '127.0.0.1', port: mine, localIp: '127.0.0.1', localPort: port, bind: 1 }
      t.match(served.desk.arrivals[0], want)
      t.ok(served.desk.arrivals[0]!.fd > 2)
      await (
        await peer(`connect ${served.at}`, 'expect eof')
      ).done
      t.ok(served.desk.arrivals[1]!.flow !== served.desk.arrivals[0]!.flow)
    })

    await behaviour(
      t,
      'the first bytes are shown to the desk and go on behind what it puts ahead',
      async (t) => {
        const server = await peer('accept', 'read 15', 'expect eof', 'write "ok"', 'shutdown')
        const seen: string[] = []
        const served = await serve(plane, {
          arrived: () => ({ wait: { atLeast: 4, atMost: 8, ms: 5_000 } }),
          headed: (_client, bytes, ended) => {
            seen.push(`${Buffer.from(bytes).toString()} ${ended}`)
            if (bytes.length < 6) return { wait: { atLeast: 6, atMost: 8, ms: 5_000 } }
            return dial(server.address, { ahead: Buffer.from('AHEAD') })
          },
        })
        const client = await peer(
          `connect ${served.at}`,
          'write "abcd"',
          'hold',
          'write "efghij"',
          'shutdown',
          'read 2',
          'expect eof',
        )
        await until(() => seen.length === 1)
        client.go()
        await Promise.all([client.done, server.done, ended(served)])
        t.same(seen, ['abcd false', 'abcdefgh false'], 'never more than atMost')
        t.equal(server.received, 'AHEADabcdefghij')
        t.match(served.desk.ends[0], { reason: 'client-closed', rx: 2, tx: 10 })
        t.equal(served.listening.tx(0), 10)
      },
    )

    await behaviour(
      t,
      'a client that ends before its header is whole is shown with what there is',
      async (t) => {
        const server = await peer('accept', 'read 2', 'expect eof', 'write "ok"', 'shutdown')
        const seen: string[] = []
        const served = await serve(plane, {
          arrived: () => ({ wait: { atLeast: 4, atMost: 8, ms: 5_000 } }),
          headed: (_client, bytes, ended) => {
            seen.push(`${Buffer.from(bytes).toString()} ${ended}`)
            return dial(server.address)
          },
        })
        const client = await peer(`connect ${served.at}`, 'write "ab"', 'shutdown', 'read 2', 'expect eof')
        await Promise.all([client.done, server.done, ended(served)])
        t.same(seen, ['ab true'])
        t.match(served.desk.ends[0], { reason: 'client-closed', rx: 2, tx: 2 })
      },
    )

    await behaviour(t, 'a client that sends no header in time is refused', async (t) => {
      const waiting = { arrived: () => ({ wait: { atLeast: 4, atMost: 8, ms: 120 } }) } as const
      const served = await serve(plane, waiting)
      const client = await peer(`connect ${served.at}`, 'write "ab"', 'expect reset')
      await ended(served)
      await client.done.catch(() => {}) // An end instead, if the bytes had been read.
      t.match(served.desk.ends[0], {
        reason: 'header-timeout',
        backend: -1,
        tx: 2,
        waitedMs: -1,
        connectMs: -1,
      })
      t.ok(served.desk.ends[0]!.durationMs >= 120, 'never early')

      const undecided = { arrived: () => ({ wait: { atLeast: 4, atMost: 8, ms: 0 } }) } as const
      const other = await serve(plane, undecided, { undecidedMs: 100 })
      const silent = await peer(`connect ${other.at}`, 'expect eof')
      await Promise.all([silent.done, ended(other)])
      t.equal(other.desk.ends[0]!.reason, 'undecided')
    })

    await behaviour(t, 'a header that keeps coming is never kept beyond what was asked for', async (t) => {
      let most = 0
      const served = await serve(plane, {
        arrived: () => ({ wait: { atLeast: 1_000, atMost: 1_000, ms: 5_000 } }),
        headed: (_client, bytes) => {
          most = bytes.length
          return { later: true }
        },
      })
      const socket = await open(served.port)
      socket.write(randomBytes(300_000))
      await until(() => most > 0)
      await settled(() => served.desk.ends.length)
      t.equal(most, 1_000)
      served.answer(served.desk.arrivals[0]!.flow, { refuse: 'bad-header' })
      await ended(served)
      t.match(served.desk.ends[0], { reason: 'bad-header', tx: 1_000 })
      socket.destroy()
    })

    await behaviour(t, 'an answer given late dials, with nothing of the client lost', async (t) => {
      const server = await peer('accept', 'read 4', 'write "PONG"', 'expect eof', 'shutdown')
      const served = await serve(
        plane,
        { arrived: () => ({ later: true }) },
        { undecidedMs: 50, clientIdleMs: 5_000 },
      )
      const client = await peer(`connect ${served.at}`, 'write "PING"', 'read 4', 'shutdown', 'expect eof')
      await until(() => served.desk.arrivals.length === 1)
      await new Promise((resolve) => setTimeout(resolve, 150)) // Longer than undecidedMs, which is not for those.
      served.answer(served.desk.arrivals[0]!.flow, dial(server.address))
      await Promise.all([client.done, server.done, ended(served)])
      t.equal(served.desk.ends[0]!.reason, 'client-closed')
      t.ok(served.desk.ends[0]!.waitedMs >= 100)
    })

    await behaviour(t, 'a client gone while its answer is pending pays its slot back once', async (t) => {
      const address = await backend(t, (socket) => socket.resume().on('end', () => socket.end()))
      const served = await serve(plane, { arrived: () => ({ later: true }) })
      for (const last of ['close', 'reset']) await (await peer(`connect ${served.at}`, last)).done
      await until(() => served.desk.arrivals.length === 2)
      for (const { flow } of served.desk.arrivals) served.answer(flow, dial(address, { backend: 5 }))
      await ended(served, 2)
      t.same(served.desk.ends.map(({ reason, backend }) => `${reason} ${backend}`).sort(), [
        'client-closed 5',
        'client-reset 5',
      ])
    })

    await behaviour(t, 'a late refusal closes the client', async (t) => {
      const served = await serve(plane, { arrived: () => ({ later: true }) })
      const client = await peer(`connect ${served.at}`, 'expect eof')
      await until(() => served.desk.arrivals.length === 1)
      served.answer(served.desk.arrivals[0]!.flow, { refuse: 'queue-timeout' })
      served.answer(12_345, { refuse: 'queue-timeout' })
      await Promise.all([client.done, ended(served)])
      t.match(served.desk.ends[0], { reason: 'queue-timeout', backend: -1, note: 0, waitedMs: -1 })
    })

    await behaviour(t, 'a refused dial is told, and the next backend serves', async (t) => {
      const dead = await deadPort()
      const server = await peer('accept', 'read 4', 'write "PONG"', 'shutdown', 'expect eof')
      const served = await serve(plane, {
        arrived: () => dial(dead, { backend: 1 }),
        dialFailed: () => dial(server.address, { backend: 2, note: 9 }),
      })
      const client = await peer(`connect ${served.at}`, 'write "PING"', 'read 4', 'expect eof', 'shutdown')
      await Promise.all([client.done, server.done, ended(served)])
      t.match(served.desk.failures[0], { backend: 1, note: 7, why: 'refused', code: 'ECONNREFUSED' })
      t.match(served.desk.ends[0], { backend: 2, note: 9, reason: 'backend-closed' })
      t.equal(served.listening.connects(1), 0)
      t.equal(served.listening.connects(2), 1)
    })

    await behaviour(t, 'a dial that nobody wants to repeat ends the flow', async (t) => {
      const dead = await deadPort()
      const served = await serve(plane, to(dead))
      const client = await peer(`connect ${served.at}`, 'expect eof')
      await Promise.all([client.done, ended(served)])
      t.match(served.desk.ends[0], { reason: 'dial-failed', backend: -1, note: 7, connectMs: -1 })
      t.ok(served.desk.ends[0]!.waitedMs >= 0)
    })

    await behaviour(t, 'a port no socket can have is a failed dial like any other', async (t) => {
      const served = await serve(plane, to({ host: '127.0.0.1', port: 70_000 }))
      await (
        await peer(`connect ${served.at}`, 'expect eof')
      ).done
      await ended(served)
      t.equal(served.desk.failures[0]!.why, 'other')
    })

    await behaviour(t, 'a dial that takes too long is a timeout, and never early', async (t) => {
      const served = await serve(plane, to(full, { timeoutMs: 150 }))
      const client = await peer(`connect ${served.at}`, 'expect eof')
      await Promise.all([client.done, ended(served)])
      t.match(served.desk.failures[0], { why: 'timeout', code: 'ETIMEDOUT' })
      t.ok(served.desk.failures[0]!.ms >= 150)
    })

    await behaviour(t, 'a silent client is idle, and so is a silent backend', async (t) => {
      const address = await backend(t, (socket) => socket.resume())
      for (const [side, spec] of [
        ['client', { clientIdleMs: 200 }],
        ['backend', { backendIdleMs: 200 }],
      ] as const) {
        const served = await serve(plane, to(address), spec)
        const client = await peer(`connect ${served.at}`, 'write "x"', 'expect eof')
        await Promise.all([client.done, ended(served)])
        const { reason, durationMs } = served.desk.ends[0]!
        t.equal(reason, `${side}-idle`)
        t.ok(durationMs >= 200, 'never early')
      }
    })

    await behaviour(t, 'bytes in one direction keep both sides awake', async (t) => {
      const address = await backend(t, (socket) => socket.resume().once('data', () => drip(socket, 12, 50)))
      const served = await serve(plane, to(address), { clientIdleMs: 400, backendIdleMs: 400 })
      const client = await peer(`connect ${served.at}`, 'write "x"', 'read 12', 'expect eof', 'shutdown')
      await Promise.all([client.done, ended(served)])
      t.match(served.desk.ends[0], { reason: 'backend-closed', rx: 12 })
      t.ok(served.desk.ends[0]!.durationMs > 500)
    })

    await behaviour(
      t,
      'a client that reads slowly is not idle, nor is the backend that waits for it',
      async (t) => {
        const size = 40 << 20
        const address = await backend(t, (socket) => socket.resume().end(Buffer.alloc(size)))
        const served = await serve(plane, to(address), { clientIdleMs: 1200, backendIdleMs: 1000 })
        const socket = await open(served.port)
        let got = 0
        let allowed = 0
        socket.on('data', (chunk: Buffer) => (got += chunk.length) > allowed && socket.pause())
        const more = setInterval(() => {
          allowed += 512 << 10
          socket.resume()
        }, 40)
        t.teardown(() => clearInterval(more))
        await once(socket, 'end')
        socket.end()
        await ended(served)
        t.match(served.desk.ends[0], { reason: 'backend-closed', rx: size })
        t.ok(served.desk.ends[0]!.durationMs > 1200, 'longer than either may be idle')
        t.equal(got, size)
      },
    )

    await behaviour(t, 'a client that takes nothing is idle, and not its backend', async (t) => {
      const address = await backend(t, (socket) => socket.resume().end(Buffer.alloc(32 << 20)))
      const served = await serve(plane, to(address), { clientIdleMs: 600, backendIdleMs: 200 })
      const socket = await open(served.port)
      await ended(served)
      t.equal(served.desk.ends[0]!.reason, 'client-idle')
      t.ok(served.desk.ends[0]!.durationMs >= 600)
      socket.destroy()
    })

    await behaviour(t, 'a flow with one half closed and nothing in the other ends', async (t) => {
      const address = await backend(t, (socket) =>
        socket.on('end', () => drip(socket, 4, 100, false)).resume(),
      )
      const served = await serve(plane, to(address), { halfCloseMs: 250 })
      const client = await peer(`connect ${served.at}`, 'shutdown', 'read 4', 'expect eof')
      await Promise.all([client.done, ended(served)])
      t.match(served.desk.ends[0], { reason: 'half-close-timeout', rx: 4 })
      t.ok(served.desk.ends[0]!.durationMs >= 550)
    })

    await behaviour(t, 'a reader that stalls stops the writer, whatever is sent', async (t) => {
      const size = 200 << 20
      let reader: Socket | undefined
      const address = await backend(t, (socket) => (reader = socket.pause()))
      const served = await serve(plane, to(address), { backendIdleMs: 60_000 })
      const socket = await open(served.port)
      const memory = process.memoryUsage().rss
      const sent = pour(socket, size)
      await until(() => served.listening.tx(0) > 0)
      await settled(() => served.listening.tx(0))
      t.ok(served.listening.tx(0) < 32 << 20, `read ${served.listening.tx(0)} bytes`)
      t.ok(process.memoryUsage().rss - memory < 128 << 20, 'memory is bounded')
      const got = drink(reader!)
      reader!.on('end', () => reader!.end())
      const [sum, want] = await Promise.all([got, sent])
      t.equal(sum, want)
      t.ok(process.memoryUsage().rss - memory < 128 << 20, 'memory stays bounded')
      socket.resume()
      await ended(served)
      t.match(served.desk.ends[0], { reason: 'client-closed', rx: 0, tx: size })
    })

    await behaviour(t, 'random streams arrive as they were sent, counted to the byte', async (t) => {
      const sums = new Map<string, string>()
      const size = 2 << 20
      const address = await backend(t, (socket) => {
        const sending = pour(socket, size)
        void Promise.all([drink(socket, true), sending]).then(([got, sent]) => sums.set(got, sent))
      })
      const served = await serve(plane, to(address), { report: true })
      const flows = Array.from({ length: 20 }, async (_, i) => {
        const socket = await open(served.port)
        const [sent, got] = await Promise.all([pour(socket, size), drink(socket, i % 2 === 0)])
        return { sent, got }
      })
      const results = await Promise.all(flows)
      await ended(served, 20)
      await until(() => sums.size === 20, 'the last backend to have read all')
      for (const { sent, got } of results) t.equal(sums.get(sent), got)
      for (const end of served.desk.ends) t.match(end, { rx: size, tx: size })
      t.equal(served.listening.rx(0), 20 * size)
      t.equal(served.listening.tx(0), 20 * size)
    })

    await behaviour(t, 'slow readers get their own bytes, however long those are pending', async (t) => {
      const size = 12 << 20 // More than the kernel keeps for one connection.
      const address = await backend(t, (socket) => {
        socket.once('data', (digit: Buffer) => socket.end(Buffer.alloc(size, digit)))
      })
      const served = await serve(plane, to(address))
      const sockets = await Promise.all(Array.from({ length: 8 }, () => open(served.port)))
      sockets.forEach((socket, i) => socket.pause().write(String(i)))
      await until(() => served.listening.rx(0) > 0)
      await settled(() => served.listening.rx(0))
      t.ok(served.listening.rx(0) < 8 * size, 'some are pending')
      const whole = sockets.map(async (socket, i) => {
        const digit = String(i).charCodeAt(0)
        let right = 0
        socket.on(
          'data',
          (chunk: Buffer) => (right += chunk.every((byte) => byte === digit) ? chunk.length : 0),
        )
        socket.resume()
        await once(socket, 'end')
        socket.end()
        return right
      })
      t.same(await Promise.all(whole), Array(8).fill(size))
      await ended(served, 8)
    })

    await behaviour(t, 'an answer to a flow that has just ended is paid back by its end', async (t) => {
      const there: { served?: Served } = {}
      const served = (there.served = await serve(plane, {
        arrived: () => ({ later: true }),
        ended: ({ client }) => {
          const [first, second] = there.served!.desk.arrivals
          if (client.flow === first!.flow)
            there.served!.answer(second!.flow, dial({ host: '127.0.0.1', port: 1 }))
        },
      }))
      const clients = [await peer(`connect ${served.at}`, 'expect eof')]
      await until(() => served.desk.arrivals.length === 1)
      clients.push(await peer(`connect ${served.at}`, 'expect eof'))
      await until(() => served.desk.arrivals.length === 2)
      await served.listening.stop('shutdown')
      t.same(
        served.desk.ends.map(({ backend }) => backend),
        [-1, 0],
      )
      await Promise.all(clients.map(({ done }) => done))
    })

    await behaviour(t, 'connected and first byte are told when asked for', async (t) => {
      const told: string[] = []
      const server = await peer('accept', 'write "hi"', 'shutdown', 'expect eof')
      const script = {
        ...to(server.address, { backend: 4 }),
        connected: (_: Arrival, row: number, ms: number) => void told.push(`connected ${row} ${ms >= 0}`),
        firstByte: (_: Arrival, row: number, ms: number) => void told.push(`first byte ${row} ${ms >= 0}`),
      }
      const served = await serve(plane, script, { report: true })
      const client = await peer(`connect ${served.at}`, 'read 2', 'expect eof', 'shutdown')
      await Promise.all([client.done, server.done, ended(served)])
      t.same(told, ['connected 4 true', 'first byte 4 true'])
    })

    await behaviour(t, 'dropping a row ends its flows and no others, dialling ones too', async (t) => {
      const address = await backend(t, (socket) => socket.resume().write('!'))
      const places = [
        dial(address, { backend: 1 }),
        dial(address, { backend: 2 }),
        dial(full, { backend: 1 }),
      ]
      const served = await serve(plane, { arrived: () => places.shift()! })
      const first = await peer(`connect ${served.at}`, 'read 1', 'expect eof')
      await until(() => served.listening.rx(1) === 1)
      const second = await peer(`connect ${served.at}`, 'read 1', 'hold', 'shutdown')
      await until(() => served.listening.rx(2) === 1)
      const third = await peer(`connect ${served.at}`, 'expect eof')
      await until(() => served.desk.arrivals.length === 3)
      served.listening.drop(1, 'backend-lost')
      await Promise.all([first.done, third.done, ended(served, 2)])
      t.same(
        served.desk.ends.map(({ reason, backend, connectMs }) => [reason, backend, connectMs >= 0]),
        [
          ['backend-lost', 1, true],
          ['backend-lost', 1, false],
        ],
      )
      t.equal(served.listening.flows, 1)
      second.go()
      await second.done
      second.close()
    })

    await behaviour(t, 'answers and drops from inside a question never re-enter the desk', async (t) => {
      const address = await backend(t, (socket) => socket.resume().write('!'))
      const there: { served?: Served } = {}
      const waiting: number[] = []
      const script: Script = {
        arrived: (client) => {
          if (waiting.push(client.flow) < 3) return { later: true }
          there.served!.answer(waiting[0]!, { refuse: 'all-full' })
          there.served!.answer(waiting[1]!, dial(address, { backend: 1 }))
          there.served!.listening.drop(1, 'killed')
          return dial(address, { backend: 2 })
        },
        firstByte: () => there.served!.listening.drop(2, 'killed'),
        ended: (end) => {
          if (end.backend === 1) there.served!.answer(waiting[0]!, { refuse: 'all-full' })
        },
      }
      const served = (there.served = await serve(plane, script, { report: true }))
      const clients = []
      for (let i = 1; i <= 3; i++) {
        clients.push(await peer(`connect ${served.at}`, i < 3 ? 'expect eof' : 'hold'))
        await until(() => waiting.length === i)
      }
      await ended(served, 3)
      t.same(served.desk.ends.map(({ reason, backend }) => `${reason} ${backend}`).sort(), [
        'all-full -1',
        'killed 1',
        'killed 2',
      ])
      for (const client of clients) client.close()
    })

    await behaviour(t, 'drain frees the address for the very next bind and leaves flows be', async (t) => {
      const server = await peer('accept', 'read 1', 'write "y"', 'expect eof', 'shutdown')
      const served = await serve(plane, to(server.address))
      const client = await peer(
        `connect ${served.at}`,
        'write "x"',
        'read 1',
        'hold',
        'shutdown',
        'expect eof',
      )
      await until(() => served.listening.rx(0) === 1)
      await served.listening.drain()
      await served.listening.drain()
      const again = await serve(plane, {}, { binds: parseBind(served.at)! })
      t.equal(again.at, served.at)
      t.equal(served.listening.flows, 1)
      client.go()
      await Promise.all([client.done, server.done, ended(served)])
      t.equal(served.desk.ends[0]!.reason, 'client-closed')
    })

    await behaviour(
      t,
      'clients the kernel has accepted already are served by a draining listener',
      async (t) => {
        const address = await backend(t, (socket) => socket.end('hello'))
        const served = await serve(plane, to(address))
        const clients = Array.from({ length: 20 }, () => connect(served.port, '127.0.0.1'))
        const answers = clients.map((client) => drink(client))
        // Node connects in the next tick, and on loopback the kernel is done with it at once.
        await new Promise<void>((resolve) => process.nextTick(resolve))
        await served.listening.drain()
        t.equal(new Set(await Promise.all(answers)).size, 1)
        t.equal(served.desk.arrivals.length, 20)
      },
    )

    await behaviour(
      t,
      'stop ends every flow, whatever it is doing, and resolves after the last report',
      async (t) => {
        const address = await backend(t, (socket) => socket.resume())
        const answers: Answer[] = [
          dial(address),
          dial(full),
          { later: true },
          { wait: { atLeast: 4, atMost: 4, ms: 0 } },
        ]
        const served = await serve(plane, { arrived: ({ flow }) => answers[(flow - 1) % 4]! })
        const sockets = await Promise.all(Array.from({ length: 40 }, () => open(served.port)))
        await until(() => served.desk.arrivals.length === 40 && served.listening.connects(0) === 10)
        t.equal(served.listening.flows, 40)
        await served.listening.stop('shutdown')
        t.equal(served.desk.ends.length, 40)
        t.ok(served.desk.ends.every(({ reason }) => reason === 'shutdown'))
        t.equal(served.desk.ends.filter(({ backend }) => backend === 0).length, 20)
        for (const socket of sockets) socket.destroy()
      },
    )

    await behaviour(t, 'unix sockets are listened on and dialled', async (t) => {
      const dir = mkdtempSync(join(tmpdir(), 'plane-'))
      t.teardown(() => rmSync(dir, { recursive: true }))
      const path = join(dir, 'front')
      const server = await peer(`accept unix:${dir}/back`, 'read 4', 'write "PONG"', 'shutdown', 'expect eof')
      const served = await serve(plane, to(server.address), { binds: [{ path }] })
      t.same(served.listening.addresses, [`unix:${path}`])
      const client = await peer(`connect unix:${path}`, 'write "PING"', 'read 4', 'expect eof', 'shutdown')
      await Promise.all([client.done, server.done, ended(served)])
      t.match(served.desk.arrivals[0], { ip: '', port: 0, localIp: '', localPort: 0 })
      await t.rejects(plane.listen({ ...SPEC, binds: [{ path }] }, new LedgerDesk({})), {
        code: 'EADDRINUSE',
        address: `unix:${path}`,
      })
      await served.listening.drain()
      t.notOk(existsSync(path), 'the file is removed')
    })

    await behaviour(
      t,
      'a file that nobody answers on is replaced, one that is no socket is kept',
      async (t) => {
        const dir = mkdtempSync(join(tmpdir(), 'plane-'))
        t.teardown(() => rmSync(dir, { recursive: true }))
        const path = join(dir, 'stale')
        await leaveStale(path)
        const served = await serve(plane, {}, { binds: [{ path }] })
        await (
          await peer(`connect unix:${path}`, 'expect eof')
        ).done
        t.equal(served.desk.arrivals.length, 1)
        const file = join(dir, 'file')
        writeFileSync(file, 'precious')
        await t.rejects(plane.listen({ ...SPEC, binds: [{ path: file }] }, new LedgerDesk({})), {
          code: 'EADDRINUSE',
        })
        t.ok(existsSync(file))
      },
    )

    await behaviour(t, 'a wildcard takes both families, 0.0.0.0 only one', async (t) => {
      for (const host of ['', '::']) {
        const served = await serve(plane, {}, { binds: [{ host, port: 0 }] })
        // Without an address of its own, IPv6 leaves the wildcard with IPv4.
        const dual = served.at.startsWith('[::]') && !NO_IPV6
        const local = `127.0.0.1:${served.port}`
        await (
          await peer(`connect ${local}`, 'expect eof')
        ).done
        if (dual) await (await peer(`connect [::1]:${served.port}`, 'expect eof')).done
        const want = ['127.0.0.1 127.0.0.1', ...(dual ? ['::1 ::1'] : [])]
        t.same(
          served.desk.arrivals.map(({ ip, localIp }) => `${ip} ${localIp}`),
          want,
        )
        t.ok(served.desk.arrivals.every(({ localPort }) => localPort === served.port))
      }
      const served = await serve(plane, {}, { binds: [{ host: '0.0.0.0', port: 0 }] })
      t.match(served.at, /^0\.0\.0\.0:\d+$/)
      await t.rejects((await peer(`connect [::1]:${served.port}`, 'expect eof')).done)
      const named = await serve(plane, {}, { binds: [{ host: 'localhost', port: 0 }] })
      t.match(named.at, /^127\.0\.0\.1:\d+$/)
    })

    await behaviour(t, 'a port in use rejects with its address, and nothing stays open', async (t) => {
      const served = await serve(plane, {})
      const free = await deadPort()
      const taken = parseBind(served.at)![0]!
      const desk = new LedgerDesk({})
      await t.rejects(plane.listen({ ...SPEC, binds: [free, taken] }, desk), {
        code: 'EADDRINUSE',
        address: served.at,
      })
      const again = await serve(plane, {}, { binds: [free] })
      t.ok(again.listening)
    })

    await behaviour(
      t,
      'probes of silent peers are on for both sides',
      { skip: !existsSync('/proc/net/tcp') },
      async (t) => {
        const address = await backend(t, (socket) => socket.resume().write('!'))
        const served = await serve(plane, to(address))
        const client = await peer(`connect ${served.at}`, 'read 1', 'hold')
        await until(() => served.listening.rx(0) === 1)
        const [{ port }] = served.desk.arrivals as [Arrival]
        t.ok(probed(port, served.port), 'the accepted one')
        await until(() => probed(address.port), 'probes of the dialled one')
        client.close()
      },
    )

    await behaviour(t, 'every descriptor is given back', { skip: before === 0 }, async () => {
      await until(() => descriptors() <= before, `${before} descriptors, as at the start`)
    })
  })
}

t.test('pending writes share slabs, and have memory of their own when very many are pending', async (t) => {
  const whole = 128 << 10
  const slabs: (Slab | null)[] = []
  const bytes: Uint8Array[] = []
  for (let i = 0; i < 200; i++) {
    readBuffer.fill(i)
    bytes.push(stage(whole))
    slabs.push(pin(whole))
  }
  t.ok(bytes.every((each, i) => each.length === whole && each[0] === i && each[whole - 1] === i))
  t.ok(slabs.includes(null), 'own memory')
  t.equal(new Set(bytes.map(({ buffer }) => buffer)).size - slabs.filter((slab) => !slab).length, 64)
  for (const slab of slabs) if (slab) unpin(slab)
  t.equal(stage(10).buffer.byteLength, 2 * whole, 'and slabs again')
})

t.test('the fake plane keeps the ledger too, late and in batches', async (t) => {
  const plane = new FakePlane()
  const address = { host: '10.0.0.1', port: 80 }
  let later = false
  let failed: Answer = { refuse: 'dial-failed' }
  const script: Script = {
    arrived: ({ ip }) => {
      if (ip === '1.1.1.1') return { refuse: 'access' }
      if (ip === '2.2.2.2') return { wait: { atLeast: 2, atMost: 4, ms: 0 } }
      return later ? { later: true } : dial(address, { backend: 1 })
    },
    headed: () => dial(address, { backend: 2 }),
    dialFailed: () => failed,
  }
  const served = await serve(plane, script, { binds: [{ host: '', port: 80 }] })
  const { desk, listening } = served
  const flushAll = () => {
    while (plane.flush()) continue
  }

  await t.test('nothing is asked before the batch', async (t) => {
    const flow = plane.arrive('9.9.9.9')
    t.equal(desk.arrivals.length, 0)
    plane.flush()
    t.match(plane.dials, [{ flow, backend: 1 }])
    plane.dialResult(flow, 'ok')
    plane.finish(flow, 'backend-closed', { rx: 10, tx: 3 })
    t.equal(desk.ends.length, 0)
    plane.flush()
    t.match(desk.ends.pop(), { reason: 'backend-closed', backend: 1, rx: 10, tx: 3, connectMs: 1 })
    t.equal(listening.rx(1), 10)
    t.equal(listening.connects(1), 1)
  })

  await t.test(
    'a client that left before its answer still pays the slot back, in a later batch',
    async (t) => {
      const flow = plane.arrive('9.9.9.9')
      plane.leave(flow)
      plane.flush()
      t.equal(desk.ends.length, 0)
      plane.flush()
      t.match(desk.ends.pop(), { reason: 'client-closed', backend: 1 })
    },
  )

  await t.test('a refused client has no end', async (t) => {
    const flow = plane.arrive('1.1.1.1')
    plane.leave(flow)
    flushAll()
    t.same(plane.refusals, [{ flow, reason: 'access' }])
    t.equal(desk.ends.length, 0)
  })

  await t.test('a failed dial may go elsewhere, and later be answered', async (t) => {
    const flow = plane.arrive('9.9.9.9')
    plane.flush()
    failed = { later: true }
    plane.dialResult(flow, 'refused')
    plane.flush()
    t.match(desk.failures.at(-1), { why: 'refused', code: 'ECONNREFUSED', backend: 1 })
    served.answer(flow, dial(address, { backend: 3 }))
    plane.flush()
    t.match(plane.dials, [{ flow, backend: 3 }])
    failed = { refuse: 'dial-timeout' }
    plane.dialResult(flow, 'timeout')
    flushAll()
    t.match(desk.ends.pop(), { reason: 'dial-timeout', backend: -1 })
  })

  await t.test('a flow dropped while its failed dial is on the way is paid back once', async (t) => {
    const flow = plane.arrive('9.9.9.9')
    plane.flush()
    plane.dialResult(flow, 'refused')
    listening.drop(1, 'backend-lost')
    flushAll()
    t.match(desk.ends.pop(), { reason: 'backend-lost', backend: 1 })
  })

  await t.test('first bytes are shown when there are enough', async (t) => {
    const flow = plane.arrive('2.2.2.2')
    plane.flush()
    plane.send(flow, Buffer.from('abcdef'))
    plane.flush()
    plane.dialResult(flow, 'ok')
    plane.leave(flow)
    flushAll()
    t.match(desk.ends.pop(), { reason: 'client-closed', backend: 2, tx: 4 })
  })

  await t.test('stop ends what is there, answered or not', async (t) => {
    later = true
    const waiting = plane.arrive('9.9.9.9')
    plane.flush()
    plane.arrive('9.9.9.8')
    served.answer(waiting, dial(address, { backend: 4 }))
    await listening.stop('shutdown')
    t.same(desk.ends.map(({ backend }) => backend).sort(), [-1, 4])
  })

  for (const audit of audits.splice(0)) await audit(t)
})

/**
 * A listener whose accept queue is full, so that a dial hangs: its process listens, then never comes back to its
 * event loop.
 */
async function saturated(): Promise<Address> {
  const script = `require('net').createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, function () {
    require('fs').writeSync(1, String(this.address().port))
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
  })`
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [text] = (await once(child.stdout, 'data')) as [Buffer]
  const port = Number(text)
  const queued = Array.from({ length: 2 }, () => connect({ port, host: '127.0.0.1' }).on('error', () => {}))
  await Promise.all(queued.map((socket) => once(socket, 'connect')))
  t.teardown(() => {
    for (const socket of queued) socket.destroy()
    child.kill('SIGKILL')
  })
  return { host: '127.0.0.1', port }
}

/** A socket file that its listener has left behind. */
async function leaveStale(path: string): Promise<void> {
  const server = createServer().listen(`${path}.new`)
  await once(server, 'listening')
  renameSync(`${path}.new`, path)
  await new Promise((resolve) => server.close(resolve))
}

/** True when the kernel has a keep-alive timer for a connection of ours; see proc_net_tcp in the kernel's docs. */
function probed(remote: number, local?: number): boolean {
  const hex = (port: number) => `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  const rows = readFileSync('/proc/net/tcp', 'utf8').split('\n').slice(1)
  return rows.some((row) => {
    const [, here = '', there = '', , , timer = ''] = row.trim().split(/\s+/)
    return there.endsWith(hex(remote)) && (!local || here.endsWith(hex(local))) && timer.startsWith('02:')
  })
}

/** Writes `count` bytes one by one, then ends. */
function drip(socket: Socket, count: number, everyMs: number, end = true): void {
  const timer = setInterval(() => {
    if (count-- > 0) return void socket.write('.')
    clearInterval(timer)
    if (end) socket.end()
  }, everyMs)
  socket.on('close', () => clearInterval(timer))
}

/** Sends random bytes in uneven pieces as they are taken, ends, and gives their hash. */
async function pour(socket: Socket, size: number): Promise<string> {
  const hash = createHash('md5')
  const source = randomBytes(1 << 20)
  for (let left = size; left > 0;) {
    const at = Math.floor(Math.random() * 1000)
    const length = Math.min(left, 1 + Math.floor(Math.random() * 300_000))
    const piece = source.subarray(at, at + length)
    hash.update(piece)
    left -= piece.length
    if (!socket.write(piece)) await once(socket, 'drain')
  }
  socket.end()
  return hash.digest('hex')
}

/** Reads to the end, with pauses if `slowly`, and gives the hash of all. */
async function drink(socket: Socket, slowly = false): Promise<string> {
  const hash: Hash = createHash('md5')
  socket.on('data', (chunk: Buffer) => {
    hash.update(chunk)
    if (!slowly || Math.random() > 0.1) return
    socket.pause()
    setTimeout(() => socket.resume(), Math.random() * 10)
  })
  socket.resume()
  await once(socket, 'end')
  return hash.digest('hex')
}

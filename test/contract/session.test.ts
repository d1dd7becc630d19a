// Every plane makes the same sessions of datagrams: each is tried with real sockets and a desk that keeps a ledger.

import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import os from 'node:os'
import t from 'tap'
import type { Test } from 'tap'
import { compileAccess } from '../../src/access/rules.ts'
import { parseBind } from '../../src/core/address.ts'
import type { HostPort } from '../../src/core/address.ts'
import type { Arrival, DatagramSpec, FlowEnd, ListenSpec, Plane } from '../../src/plane/plane.ts'
import { portablePlane } from '../../src/plane/portable/plane.ts'
import { FakeClock } from '../support/clock.ts'
import { answering, deadEnd, echo, named, talker, talkers } from '../support/datagrams.ts'
import type { Heard } from '../support/datagrams.ts'
import { NO_IPV6 } from '../support/ipv6.ts'
import { behaviour, DATAGRAMS, dial, ended, LedgerDesk, serve, SPEC, to } from '../support/ledger.ts'
import type { Script, Served } from '../support/ledger.ts'
import { logged } from '../support/observed.ts'
import { PLANES } from '../support/planes.ts'
import { descriptors, settled } from '../support/streams.ts'
import { until } from '../support/until.ts'

/** Listens for datagrams on a free port. */
function sessions(
  plane: Plane,
  script: Script,
  datagrams: Partial<DatagramSpec> = {},
  spec: Partial<ListenSpec> = {},
): Promise<Served> {
  return serve(plane, script, { ...spec, datagrams: { ...DATAGRAMS, ...datagrams } })
}

/** A session that has lost its backend, of row 1, and does not know yet where to `goOn`: at `server`, of row 2. */
async function stranded(t: Test, plane: Plane) {
  const dead = await deadEnd()
  const server = await answering(t)
  const served = await sessions(plane, {
    arrived: () => dial(dead, { backend: 1 }),
    dialFailed: () => ({ later: true }),
  })
  const client = await talker(t)
  await client.say(served.port, 'number 0')
  await until(() => served.desk.failures.length === 1)
  const goOn = () => served.answer(served.desk.arrivals[0]!.flow, dial(server.address, { backend: 2 }))
  return { served, client, server, goOn }
}

/** Ends what is left, and gives all ends. */
async function ends({ listening, desk }: Served): Promise<FlowEnd[]> {
  await listening.stop('shutdown')
  return desk.ends
}

const reasons = ({ desk }: Served) => desk.ends.map(({ reason }) => reason)

/** Clients that were answered, one after the other, until there are so many sessions. */
async function crowd(t: Test, { listening, port }: Served, count: number): Promise<void> {
  while (listening.flows < count) for (const each of await talkers(t, 8)) await each.asks(port, '?')
}

const numbered = (count: number, from = 0) => Array.from({ length: count }, (_, i) => `number ${from + i}`)

/** The port of bind number `i`. */
const portOf = ({ listening }: Served, i: number) => Number(listening.addresses[i]!.split(':').at(-1))

/** An IPv4 address of this machine besides 127.0.0.1 that every plane finds by itself. */
const OUTER = Object.values(os.networkInterfaces())
  .flatMap((each) => each ?? [])
  .find(({ family, address }) => family === 'IPv4' && address !== '127.0.0.1')?.address

/** What comes before is older: clocks of planes count milliseconds. */
const tick = () => new Promise((resolve) => setTimeout(resolve, 2))

const MOST_BYTES = 65_507

/** True without what shows the kernel's own list of sockets. */
const NO_SS = spawnSync('ss', ['-V']).status !== 0

for (const { name, skip, make } of PLANES) {
  t.test(`plane ${name}`, { skip }, async (t) => {
    const plane = make()
    const before = existsSync('/proc/self/fd') ? descriptors() : 0

    await behaviour(t, 'a question is answered, and both are counted', async (t) => {
      const server = await answering(t, () => ['PONG!'])
      const served = await sessions(plane, to(server.address, { backend: 3 }))
      const client = await talker(t)
      t.equal(await client.asks(served.port, 'PING'), 'PONG!')
      t.same(client.heard[0]!.from, { host: '127.0.0.1', port: served.port }, 'from where it was asked')
      const { flow: _, ...arrival } = served.desk.arrivals[0]!
      t.same(arrival, {
        ip: '127.0.0.1',
        port: client.port,
        localIp: '127.0.0.1',
        localPort: served.port,
        bind: 0,
        fd: -1,
      })
      const { listening } = served
      await until(() => listening.responses(3) === 1 && listening.rx(3) === 5, 'the counters of the row')
      t.same([listening.requests(3), listening.tx(3), listening.connects(3)], [1, 4, 1])
      t.same([listening.requests(99_999), listening.responses(99_999)], [0, 0])
      t.equal(listening.flows, 1)
      const [end] = await ends(served)
      const counted = { rx: 5, tx: 4, requests: 1, responses: 1 }
      t.match(end, { reason: 'shutdown', backend: 3, note: 7, ...counted })
      for (const ms of ['waitedMs', 'connectMs', 'firstByteMs', 'durationMs'] as const)
        t.ok(end![ms] >= 0, ms)
      t.same(listening.drops(), { queue: 0, access: 0, undecided: 0, draining: 0, send: 0 })
    })

    await behaviour(t, 'a client keeps its session, and the session its socket', async (t) => {
      const server = await answering(t)
      const served = await sessions(plane, to(server.address))
      const client = await talker(t)
      for (const text of numbered(50)) t.equal(await client.asks(served.port, text), text)
      t.equal(server.callers.length, 1)
      t.equal(served.desk.arrivals.length, 1)
      t.match(await ends(served), [{ requests: 50, responses: 50 }])
    })

    await behaviour(t, 'many clients have a session each, and hear only what is theirs', async (t) => {
      const server = await answering(t)
      const served = await sessions(plane, to(server.address))
      const clients = await talkers(t, 100)
      for (const round of numbered(5))
        await Promise.all(
          clients.map(async (each) => {
            const asked = `${round} of ${each.port}`
            t.equal(await each.asks(served.port, asked), asked)
          }),
        )
      t.equal(server.callers.length, 100)
      t.equal(served.listening.flows, 100)
      t.same(new Set(served.desk.arrivals.map(({ port }) => port)), new Set(clients.map(({ port }) => port)))
      t.equal(new Set(served.desk.arrivals.map(({ flow }) => flow)).size, 100)
      t.ok((await ends(served)).every(({ requests, responses }) => requests === 5 && responses === 5))
    })

    await behaviour(t, 'a backend may speak again, and later', async (t) => {
      const server = await talker(t)
      const served = await sessions(plane, to(server.address))
      const client = await talker(t)
      await client.say(served.port, 'subscribe')
      await server.hears(1)
      for (const text of numbered(20)) {
        await server.say(server.callers[0]!, text)
        await client.hears(Number(text.split(' ')[1]) + 1)
      }
      t.same(client.texts, numbered(20))
    })

    await behaviour(t, 'nobody but its backend speaks to a client', async (t) => {
      const server = await answering(t)
      const served = await sessions(plane, to(server.address))
      const client = await talker(t)
      await client.asks(served.port, 'hello')
      const stranger = await talker(t)
      await stranger.say(server.callers[0]!, 'you have won')
      t.equal(await client.asks(served.port, 'and?'), 'and?')
      t.same(client.texts, ['hello', 'and?'])
      t.match(await ends(served), [{ responses: 2 }])
    })

    await behaviour(t, 'datagrams in a row arrive one by one, as long as they were, both ways', async (t) => {
      const lengths = [...Array<number>(30).fill(900), 900, 7, 0, 900, 1, 899, 901, 0, 0, 5]
      const train = lengths.map((length, i) => Buffer.alloc(length, i))
      const server = await answering(t, echo, { buffer: 1 << 20 })
      const served = await sessions(plane, to(server.address), { receiveBuffer: 1 << 20 })
      const client = await talker(t, { buffer: 1 << 20 })
      await client.asks(served.port, 'first')
      await client.say(served.port, ...train)
      await client.hears(train.length + 1)
      const sums = (each: { heard: readonly { bytes: Buffer }[] }) =>
        each.heard.slice(1).map(({ bytes }) => `${bytes.length} of ${bytes[0]}`)
      const want = train.map((bytes) => `${bytes.length} of ${bytes[0]}`)
      t.same(sums(server), want)
      t.same(sums(client), want)
      const count = train.length + 1
      t.match(await ends(served), [{ requests: count, responses: count }])
    })

    await behaviour(t, 'a datagram may be empty, both ways, and the first one too', async (t) => {
      const server = await answering(t)
      const told: string[] = []
      const served = await sessions(
        plane,
        { ...to(server.address), firstByte: () => void told.push('first byte') },
        {},
        { report: true },
      )
      const client = await talker(t)
      t.equal(await client.asks(served.port, ''), '')
      t.equal(await client.asks(served.port, ''), '')
      t.equal(await client.asks(served.port, 'text'), 'text')
      const counted = { requests: 3, responses: 3, rx: 4, tx: 4 }
      const [end] = await ends(served)
      t.match(end, counted)
      t.ok(end!.firstByteMs >= 0)
      t.same(told, ['first byte'])
    })

    await behaviour(t, 'the largest datagrams there are go both ways', async (t) => {
      const server = await answering(t, ({ bytes }) => [Buffer.from(bytes).reverse()], { buffer: 1 << 20 })
      const served = await sessions(plane, to(server.address), { receiveBuffer: 1 << 20 })
      const client = await talker(t, { buffer: 1 << 20 })
      for (const length of [MOST_BYTES, MOST_BYTES - 1, 1_472, 1_473, 65_000]) {
        const sent = randomBytes(length)
        const heard = client.heard.length
        await client.say(served.port, sent)
        await client.hears(heard + 1)
        t.ok(client.heard[heard]!.bytes.equals(Buffer.from(sent).reverse()), `${length} bytes`)
      }
    })

    await behaviour(t, 'a first datagram of the largest size waits for a decision', async (t) => {
      const server = await answering(t, echo, { buffer: 1 << 20 })
      const served = await sessions(plane, { arrived: () => ({ later: true }) }, { receiveBuffer: 1 << 20 })
      const client = await talker(t, { buffer: 1 << 20 })
      const sent = randomBytes(MOST_BYTES)
      await client.say(served.port, sent)
      await until(() => served.desk.arrivals.length === 1)
      served.answer(served.desk.arrivals[0]!.flow, dial(server.address))
      await client.hears(1)
      t.ok(client.heard[0]!.bytes.equals(sent))
    })

    await behaviour(
      t,
      'datagrams keep their order while the desk has not decided, and after it',
      async (t) => {
        const server = await talker(t)
        const served = await sessions(plane, { arrived: () => ({ later: true }) })
        const client = await talker(t)
        await client.say(served.port, ...numbered(3))
        await until(() => served.desk.arrivals.length === 1)
        await client.say(served.port, ...numbered(2, 3))
        served.answer(served.desk.arrivals[0]!.flow, dial(server.address))
        await client.say(served.port, ...numbered(3, 5))
        await server.hears(8)
        await client.say(served.port, 'number 8')
        await server.hears(9)
        t.same(server.texts, numbered(9))
        t.match(await ends(served), [{ requests: 9, tx: 9 * 8, responses: 0, rx: 0, firstByteMs: -1 }])
        t.equal(served.listening.drops().undecided, 0)
      },
    )

    await behaviour(
      t,
      'eight datagrams wait for a decision, and those behind them are dropped',
      async (t) => {
        const server = await talker(t)
        const served = await sessions(plane, { arrived: () => ({ later: true }) })
        const client = await talker(t)
        await client.say(served.port, ...numbered(12))
        await until(() => served.listening.drops().undecided === 4, 'four to be dropped')
        await until(() => served.desk.arrivals.length === 1)
        served.answer(served.desk.arrivals[0]!.flow, dial(server.address))
        await server.hears(8)
        t.same(server.texts, numbered(8))
        await client.say(served.port, 'and on')
        await server.hears(9)
        t.equal(server.texts[8], 'and on')
        t.equal(served.listening.drops().undecided, 4)
      },
    )

    await behaviour(t, 'what waits for a decision of one session is at most 64 KiB', async (t) => {
      const server = await talker(t, { buffer: 1 << 20 })
      const served = await sessions(plane, { arrived: () => ({ later: true }) }, { receiveBuffer: 1 << 20 })
      const client = await talker(t)
      const sizes = [32_768, 32_768, 1]
      for (const size of sizes) await client.say(served.port, Buffer.alloc(size))
      await until(() => served.listening.drops().undecided === 1, 'one to be dropped')
      const other = await talker(t)
      await other.say(served.port, Buffer.alloc(60_000))
      await until(() => served.desk.arrivals.length === 2)
      for (const { flow } of served.desk.arrivals) served.answer(flow, dial(server.address))
      await server.hears(3)
      t.same(server.heard.map(({ bytes }) => bytes.length).sort(), [32_768, 32_768, 60_000])
      t.equal(served.listening.drops().undecided, 1, 'every session has its own 64 KiB')
    })

    await behaviour(t, 'a refused client has no end, and its next datagram asks again', async (t) => {
      const server = await answering(t)
      let refusals = 0
      const served = await sessions(plane, {
        arrived: () => (refusals++ < 2 ? { refuse: 'no-backends' } : dial(server.address)),
      })
      const client = await talker(t)
      for (const count of [1, 2]) {
        await client.say(served.port, `refused ${count}`)
        await until(() => served.desk.arrivals.length === count)
        await until(() => served.listening.flows === 0)
      }
      t.equal(await client.insists(served.port, 'accepted'), 'accepted')
      t.equal(new Set(served.desk.arrivals.map(({ flow }) => flow)).size, 3, 'each with a number of its own')
      t.ok(server.texts.every((text) => text === 'accepted'))
      t.equal((await ends(served)).length, 1)
    })

    await behaviour(t, 'a desk that waits is shown the first datagram at once, and only that', async (t) => {
      const server = await talker(t)
      const shown: string[] = []
      const served = await sessions(plane, {
        arrived: () => ({ wait: { atLeast: 1_000, atMost: 2_000, ms: 5_000 } }),
        headed: (_client, bytes, ended) => {
          shown.push(`${Buffer.from(bytes).toString()} ${ended}`)
          return dial(server.address, { backend: 2, note: 9 })
        },
      })
      const client = await talker(t)
      await client.say(served.port, ...numbered(3))
      await server.hears(3)
      t.same(shown, ['number 0 false'])
      t.same(server.texts, numbered(3))
      t.match(await ends(served), [{ backend: 2, note: 9, requests: 3 }])
    })

    await behaviour(t, 'what is shown may be nothing or very much, and goes on whole', async (t) => {
      const server = await talker(t, { buffer: 1 << 20 })
      const shown: Buffer[] = []
      const served = await sessions(
        plane,
        {
          arrived: () => ({ wait: { atLeast: 1, atMost: 64, ms: 5_000 } }),
          headed: (_client, bytes) => {
            shown.push(Buffer.from(bytes))
            return dial(server.address)
          },
        },
        { receiveBuffer: 1 << 20 },
      )
      for (const [i, length] of [0, 200, MOST_BYTES].entries()) {
        const sent = randomBytes(length)
        await (await talker(t, { buffer: 1 << 20 })).say(served.port, sent)
        await server.hears(i + 1)
        const head = shown[i]!
        t.ok(
          head.length >= Math.min(length, 64) && sent.subarray(0, head.length).equals(head),
          'its beginning',
        )
        t.ok(server.heard[i]!.bytes.equals(sent), 'the backend has all of it')
      }
      t.equal(shown.length, 3)
    })

    await behaviour(t, 'a desk that has seen the first datagram may refuse, or answer later', async (t) => {
      const server = await answering(t)
      const served = await sessions(
        plane,
        {
          arrived: () => ({ wait: { atLeast: 1, atMost: 64, ms: 5_000 } }),
          headed: (_client, bytes) => (bytes[0] === 0x21 ? { refuse: 'bad-header' } : { later: true }),
        },
        {},
        { undecidedMs: 50 },
      )
      const [bad, good] = [await talker(t), await talker(t)]
      await bad.say(served.port, '!no')
      await ended(served)
      t.match(served.desk.ends[0], { reason: 'bad-header', backend: -1, note: 0, requests: 1, tx: 3 })
      t.match(served.desk.ends[0], { waitedMs: -1, connectMs: -1, firstByteMs: -1 })
      await good.say(served.port, 'yes')
      await until(() => served.desk.arrivals.length === 2)
      served.answer(served.desk.arrivals[1]!.flow, dial(server.address))
      await good.hears(1)
      t.same(good.texts, ['yes'])
    })

    await behaviour(
      t,
      'who is to wait for more than the first datagram does not wait for ever',
      async (t) => {
        const more = { wait: { atLeast: 6, atMost: 8, ms: 100 } }
        const served = await sessions(
          plane,
          { arrived: () => more, headed: () => more },
          {},
          { undecidedMs: 100 },
        )
        const client = await talker(t)
        await client.say(served.port, 'ab')
        await ended(served)
        t.match(served.desk.ends[0], { backend: -1, tx: 2, requests: 1 })
      },
    )

    await behaviour(t, 'an answer given late finds the session, and only that', async (t) => {
      const server = await answering(t)
      const served = await sessions(
        plane,
        { arrived: () => ({ later: true }) },
        {},
        { undecidedMs: 20, clientIdleMs: 20, backendIdleMs: 20 },
      )
      const [kept, refused] = [await talker(t), await talker(t)]
      await kept.say(served.port, 'keep me')
      await until(() => served.desk.arrivals.length === 1)
      await refused.say(served.port, 'not me')
      await until(() => served.desk.arrivals.length === 2)
      const [first, second] = served.desk.arrivals as [Arrival, Arrival]
      served.answer(second.flow, { refuse: 'queue-timeout' })
      served.answer(12_345, { refuse: 'queue-timeout' })
      await ended(served)
      const undialled = { waitedMs: -1, connectMs: -1, firstByteMs: -1 }
      t.match(served.desk.ends[0], { reason: 'queue-timeout', backend: -1, note: 0, tx: 6, ...undialled })
      t.ok(served.desk.ends[0]!.durationMs >= 0)
      t.equal(served.listening.flows, 1)
      served.answer(first.flow, dial(server.address))
      await kept.hears(1)
      t.same(kept.texts, ['keep me'])
      t.same(server.texts, ['keep me'])
    })

    await behaviour(t, 'answers and drops from inside a question never re-enter the desk', async (t) => {
      const server = await answering(t)
      const there: { served?: Served } = {}
      const waiting: number[] = []
      const script: Script = {
        arrived: (client) => {
          if (waiting.push(client.flow) < 3) return { later: true }
          there.served!.answer(waiting[0]!, { refuse: 'all-full' })
          there.served!.answer(waiting[1]!, dial(server.address, { backend: 1 }))
          return dial(server.address, { backend: 2 })
        },
        firstByte: (_client, row) => there.served!.listening.drop(row, 'killed'),
        ended: (end) => {
          if (end.backend === 1) there.served!.answer(waiting[0]!, { refuse: 'all-full' })
        },
      }
      const served = (there.served = await sessions(plane, script, {}, { report: true }))
      for (let i = 1; i <= 3; i++) {
        await (await talker(t)).say(served.port, 'hello')
        await until(() => waiting.length === i)
      }
      await ended(served, 3)
      t.same(served.desk.ends.map(({ reason, backend }) => `${reason} ${backend}`).sort(), [
        'all-full -1',
        'killed 1',
        'killed 2',
      ])
    })

    await behaviour(t, 'a question about one session answers another', async (t) => {
      const server = await answering(t)
      const there: { served?: Served } = {}
      const served = (there.served = await sessions(plane, {
        arrived: ({ flow }) => {
          const [first] = there.served!.desk.arrivals
          if (first!.flow === flow) return { later: true }
          there.served!.answer(first!.flow, dial(server.address, { backend: 1 }))
          return dial(server.address, { backend: 2 })
        },
      }))
      const [first, second] = [await talker(t), await talker(t)]
      await first.say(served.port, 'waiting')
      await until(() => served.desk.arrivals.length === 1)
      t.equal(await second.asks(served.port, 'coming'), 'coming')
      await first.hears(1)
      t.same(first.texts, ['waiting'])
    })

    await behaviour(t, 'a socket that cannot be had is a failed dial, and another may follow', async (t) => {
      const server = await answering(t)
      const wrong = [
        { host: '127.0.0.1', port: 70_000 },
        { host: '255.255.255.255', port: 53 },
      ]
      const served = await sessions(plane, {
        arrived: () => dial(wrong[0]!, { backend: 1 }),
        dialFailed: (_client, { backend }) =>
          backend === 1 ? dial(wrong[1]!, { backend: 2 }) : dial(server.address, { backend: 3, note: 9 }),
      })
      const client = await talker(t)
      t.equal(await client.asks(served.port, 'anybody?'), 'anybody?')
      t.match(served.desk.failures, [
        { backend: 1, note: 7, lost: false },
        { backend: 2, note: 7, lost: false },
      ])
      t.ok(
        served.desk.failures.every(({ code }) => code !== ''),
        'each has a code for the log',
      )
      const { listening } = served
      t.same(
        [1, 2, 3].map((row) => listening.connects(row)),
        [0, 0, 1],
      )
      t.match(await ends(served), [{ backend: 3, note: 9, requests: 1 }])
    })

    await behaviour(t, 'a failed dial that nobody wants to repeat ends the session', async (t) => {
      const served = await sessions(plane, to({ host: '127.0.0.1', port: 70_000 }))
      const client = await talker(t)
      await client.say(served.port, 'anybody?')
      await ended(served)
      t.match(served.desk.ends[0], { reason: 'dial-failed', backend: -1, note: 7, connectMs: -1, tx: 8 })
      await client.say(served.port, 'anybody now?')
      await ended(served, 2)
      t.equal(served.desk.arrivals.length, 2, 'the next datagram is a new session')
    })

    await behaviour(t, 'an unreachable backend is told, and what waited goes to the next', async (t) => {
      const dead = await deadEnd()
      const server = await answering(t)
      const served = await sessions(plane, {
        arrived: () => ({ later: true }),
        dialFailed: () => dial(server.address, { backend: 2, note: 9 }),
      })
      const client = await talker(t)
      await client.say(served.port, ...numbered(4))
      await until(() => served.desk.arrivals.length === 1)
      const [{ flow }] = served.desk.arrivals as [Arrival]
      served.answer(flow, dial(dead, { backend: 1 }))
      await client.hears(4)
      t.same(server.texts, numbered(4), 'all of it, in order, and once')
      t.match(served.desk.failures, [
        { lost: true, backend: 1, note: 7, why: 'refused', code: 'ECONNREFUSED' },
      ])
      t.equal(await client.asks(served.port, 'still here'), 'still here')
      t.equal(served.desk.arrivals.length, 1, 'the session is the same')
      t.same([served.listening.connects(1), served.listening.connects(2)], [1, 1])
      const [end] = await ends(served)
      t.match(end, { client: { flow, port: client.port }, backend: 2, note: 9, reason: 'shutdown' })
      t.equal(end!.responses, 5)
    })

    await behaviour(t, 'the first datagram finds the one backend that is there', async (t) => {
      const dead = [await deadEnd(), await deadEnd(), await deadEnd()]
      const server = await answering(t)
      const places = [...dead, server.address]
      const served = await sessions(plane, {
        arrived: () => dial(places[0]!, { backend: 0 }),
        dialFailed: (_client, { backend }) => dial(places[backend + 1]!, { backend: backend + 1 }),
      })
      const client = await talker(t)
      t.equal(await client.asks(served.port, 'where?'), 'where?')
      t.same(server.texts, ['where?'])
      t.same(
        served.desk.failures.map(({ backend, lost }) => `${backend} ${lost}`),
        ['0 true', '1 true', '2 true'],
      )
      t.equal(served.desk.arrivals.length, 1)
    })

    await behaviour(t, 'a backend lost after it has answered is told too', async (t) => {
      const first = await answering(t)
      const second = await named(t, 'second')
      const served = await sessions(plane, {
        arrived: () => dial(first.address, { backend: 1 }),
        dialFailed: () => dial(second.address, { backend: 2 }),
      })
      const client = await talker(t)
      t.equal(await client.asks(served.port, 'hello'), 'hello')
      await first.close()
      t.equal(await client.insists(served.port, 'again'), 'second:again')
      t.match(served.desk.failures, [{ lost: true, backend: 1, why: 'refused', code: 'ECONNREFUSED' }])
      t.equal(served.desk.arrivals.length, 1)
      const { listening } = served
      t.same([listening.rx(1), listening.responses(1)], [5, 1], 'what it did stays with its row')
      t.match(await ends(served), [{ backend: 2 }])
    })

    await behaviour(t, 'a lost backend that nobody replaces ends the session', async (t) => {
      const server = await answering(t)
      const served = await sessions(plane, {
        ...to(server.address, { backend: 4 }),
        dialFailed: () => ({ refuse: 'backend-lost' }),
      })
      const client = await talker(t)
      await client.asks(served.port, 'hello')
      await server.close()
      await client.say(served.port, 'gone?')
      await ended(served)
      t.match(served.desk.ends[0], { reason: 'backend-lost', backend: -1, rx: 5, responses: 1 })
      t.equal(served.listening.flows, 0)
    })

    await behaviour(t, 'the next backend gets what was sent last', async (t) => {
      const large = (name: string, length: number) => name.repeat(length)
      const cases = [
        { sent: numbered(12), kept: numbered(7, 5), what: 'eight datagrams' },
        { sent: ['a', 'b', 'c'].map((name) => large(name, 1_500)), kept: ['b', 'c'], what: '4 KiB' },
        { sent: ['a', large('b', 5_000), 'c'], kept: ['a', 'c'], what: 'none that is too large' },
      ]
      for (const { sent, kept, what } of cases) {
        const [first, second] = [await talker(t), await answering(t)]
        const served = await sessions(plane, {
          arrived: () => dial(first.address, { backend: 1 }),
          dialFailed: () => dial(second.address, { backend: 2 }),
        })
        const client = await talker(t)
        for (const [i, each] of sent.entries()) {
          await client.say(served.port, each)
          await first.hears(i + 1)
        }
        await first.close()
        await client.insists(served.port, 'the last')
        const again = second.texts.slice(0, second.texts.indexOf('the last'))
        const names = again.map((text) => (text.length > 100 ? text[0]! : text))
        // Whatever was sent longer than a second ago has gone, which a slow machine makes of all.
        t.same(names, names.length > 0 ? kept : [], what)
      }
    })

    await behaviour(t, 'the first byte of a backend stays in the record of who has lost it', async (t) => {
      const server = await answering(t)
      const told: number[] = []
      const script: Script = {
        ...to(server.address, { backend: 4 }),
        firstByte: (_client, _row, ms) => void told.push(ms),
        dialFailed: () => ({ refuse: 'backend-lost' }),
      }
      const served = await sessions(plane, script, {}, { report: true })
      const clients = await talkers(t, 2)
      for (const [i, each] of clients.entries()) {
        await each.asks(served.port, 'hello')
        await until(() => told.length === i + 1)
        if (i === 0) served.listening.drop(4, 'moved')
        else await server.close()
        if (i === 1) await each.say(served.port, 'gone?')
        await ended(served, i + 1)
      }
      t.same(reasons(served), ['moved', 'backend-lost'])
      t.same(
        served.desk.ends.map(({ firstByteMs }) => firstByteMs),
        told,
      )
    })

    await behaviour(t, 'what comes while the next backend is looked for goes there in order', async (t) => {
      const { served, client, server, goOn } = await stranded(t, plane)
      await client.say(served.port, ...numbered(3, 1))
      goOn()
      await client.hears(4)
      t.same(server.texts, numbered(4))
    })

    await behaviour(t, 'a session without a backend is none of the row it had', async (t) => {
      const { served, client, goOn } = await stranded(t, plane)
      served.listening.drop(1, 'moved')
      goOn()
      await client.hears(1)
      t.same(served.desk.ends, [])
      served.listening.drop(2, 'moved')
      await ended(served)
      t.match(served.desk.ends[0], { backend: 2, reason: 'moved' })
    })

    await behaviour(t, 'without tellUnreachable a session waits until its backend is back', async (t) => {
      const place = await deadEnd()
      const served = await sessions(plane, to(place), { tellUnreachable: false })
      const client = await talker(t)
      for (const text of numbered(3)) await client.say(served.port, text)
      await until(() => served.listening.requests(0) === 3)
      const server = await answering(t, echo, place)
      t.equal(await client.insists(served.port, 'there?'), 'there?')
      await server.close()
      for (const text of numbered(3)) await client.say(served.port, text)
      await until(() => served.listening.requests(0) > 6)
      const again = await answering(t, echo, place)
      t.equal(await client.insists(served.port, 'back?'), 'back?')
      t.equal(again.callers[0], server.callers[0], 'by the socket it had')
      t.equal(served.desk.arrivals.length, 1)
      t.same(served.desk.failures, [])
    })

    await behaviour(t, 'fire and forget asks for every datagram, and relays no answer', async (t) => {
      const servers = [await answering(t), await answering(t), await answering(t)]
      let turn = 0
      const served = await sessions(
        plane,
        { arrived: () => dial(servers[turn++ % 3]!.address, { backend: turn % 3, note: turn }) },
        { maxRequests: 1 },
      )
      const client = await talker(t)
      for (let i = 0; i < 99; i++) {
        await client.say(served.port, `log line ${i}`)
        await until(() => served.desk.arrivals.length > i)
      }
      await ended(served, 99)
      await until(() => servers.every(({ heard }) => heard.length === 33), 'a third at each')
      t.same(
        served.desk.arrivals.map(({ port }) => port),
        Array(99).fill(client.port),
      )
      const once = { reason: 'max-requests', requests: 1, responses: 0, rx: 0, firstByteMs: -1 }
      t.match(served.desk.ends, Array(99).fill(once))
      t.ok(served.desk.ends.every(({ connectMs, waitedMs }) => connectMs >= 0 && waitedMs >= 0))
      t.equal(served.listening.flows, 0)
      await settled(() => client.heard.length)
      t.same(client.texts, [])
    })

    await behaviour(t, 'fire and forget keeps up with a burst of many clients', async (t) => {
      const server = await talker(t, { buffer: 4 << 20 })
      const served = await sessions(
        plane,
        to(server.address),
        { maxRequests: 1, receiveBuffer: 4 << 20 },
        { report: true },
      )
      const clients = await talkers(t, 10)
      await Promise.all(clients.map((each) => each.say(served.port, ...numbered(20))))
      const lost = () => {
        const { queue, undecided, send } = served.listening.drops()
        return queue + undecided + send
      }
      await until(() => served.desk.ends.length + lost() >= 200, 'each to be sent, or counted as dropped')
      t.equal(served.listening.requests(0), served.desk.ends.length)
      t.ok(served.desk.ends.length > 0)
    })

    await behaviour(t, 'a fire and forget that has no backend ends as its desk says', async (t) => {
      const answers = [dial({ host: '127.0.0.1', port: 70_000 }), { refuse: 'no-backends' } as const]
      const served = await sessions(plane, { arrived: () => answers.shift()! }, { maxRequests: 1 })
      const client = await talker(t)
      await client.say(served.port, 'one')
      await ended(served)
      t.match(served.desk.ends[0], { reason: 'dial-failed', backend: -1, requests: 1, tx: 3 })
      await client.say(served.port, 'two')
      await until(() => served.desk.arrivals.length === 2 && served.listening.flows === 0)
      t.equal(served.desk.ends.length, 1)
    })

    await behaviour(t, 'fire and forget may be decided later, and shown first', async (t) => {
      const server = await talker(t)
      const shown: string[] = []
      const served = await sessions(
        plane,
        {
          arrived: () => ({ wait: { atLeast: 1, atMost: 64, ms: 5_000 } }),
          headed: (_client, bytes) => {
            shown.push(Buffer.from(bytes).toString())
            return { later: true }
          },
        },
        { maxRequests: 1 },
      )
      const client = await talker(t)
      await client.say(served.port, ...numbered(5))
      await until(() => shown.length === 5, 'each to be shown')
      t.same(shown.sort(), numbered(5))
      t.equal(served.listening.flows, 5)
      for (const { flow } of served.desk.arrivals.slice(0, 4)) served.answer(flow, dial(server.address))
      await server.hears(4)
      await ended(served, 4)
      await served.listening.stop('killed')
      t.same(reasons(served), [...Array<string>(4).fill('max-requests'), 'killed'])
      t.match(served.desk.ends[4], { backend: -1, requests: 1, tx: 8 })
    })

    await behaviour(t, 'fire and forget at somebody who is not there harms nobody else', async (t) => {
      const dead = [await deadEnd(), await deadEnd()]
      const server = await talker(t)
      let turn = 0
      const place = () => (turn++ % 2 ? server.address : dead[turn % 4 ? 0 : 1]!)
      const served = await sessions(plane, { arrived: () => dial(place()) }, { maxRequests: 1 })
      const client = await talker(t)
      for (let i = 0; i < 40; i++) {
        await client.say(served.port, `line ${i}`)
        await ended(served, i + 1)
      }
      await server.hears(20)
      t.same(new Set(reasons(served)), new Set(['max-requests']))
      t.same(served.desk.failures, [])
    })

    await behaviour(t, 'fire and forget is over for those who come while it drains', async (t) => {
      const server = await talker(t)
      const served = await sessions(plane, to(server.address), { maxRequests: 1 })
      const client = await talker(t)
      await client.say(served.port, 'one')
      await ended(served)
      await served.listening.drain()
      await client.say(served.port, 'two', 'three')
      await until(() => served.listening.drops().draining === 2, 'two to be dropped')
      t.same(server.texts, ['one'])
    })

    await behaviour(t, 'after maxRequests the next datagram begins another session', async (t) => {
      const server = await talker(t)
      const served = await sessions(plane, to(server.address), { maxRequests: 2 })
      const client = await talker(t)
      for (const [i, text] of numbered(5).entries()) {
        await client.say(served.port, text)
        await server.hears(i + 1)
      }
      const from = server.heard.map(({ from: { port } }) => server.callers.indexOf(port))
      t.same(from, [0, 0, 1, 1, 2], 'two datagrams a session')
      t.equal(served.desk.arrivals.length, 3)
      t.equal(served.listening.flows, 3, 'the old ones live on')
      for (const [i, port] of server.callers.entries()) {
        await server.say(port, `answer ${i}`)
        await client.hears(i + 1)
      }
      t.same(client.texts, ['answer 0', 'answer 1', 'answer 2'], 'and go on relaying')
      await server.say(server.callers[0]!, 'one more')
      await client.hears(4)
      const told = (await ends(served)).map(({ requests, responses }) => `${requests} ${responses}`)
      t.same(told.sort(), ['1 1', '2 1', '2 2'])
    })

    await behaviour(t, 'a session that has had its requests ends as max-requests by idleness', async (t) => {
      const server = await answering(t)
      for (const idle of [{ clientIdleMs: 150 }, { backendIdleMs: 150 }]) {
        const served = await sessions(plane, to(server.address), { maxRequests: 2 }, idle)
        const client = await talker(t)
        for (const text of numbered(2)) await client.asks(served.port, text)
        await ended(served)
        t.match(served.desk.ends[0], { reason: 'max-requests', requests: 2, responses: 2 })
        t.ok(served.desk.ends[0]!.durationMs >= 150, 'never early')
      }
    })

    await behaviour(t, 'requests that waited for a decision count for maxRequests', async (t) => {
      const server = await talker(t)
      const served = await sessions(plane, { arrived: () => ({ later: true }) }, { maxRequests: 3 })
      const client = await talker(t)
      await client.say(served.port, ...numbered(7))
      await until(() => served.desk.arrivals.length === 3, 'three sessions')
      for (const { flow } of served.desk.arrivals) {
        const heard = server.heard.length
        served.answer(flow, dial(server.address))
        await server.hears(heard + 1)
      }
      await server.hears(7)
      t.same(server.texts, numbered(7))
      t.equal(server.callers.length, 3)
      t.same((await ends(served)).map(({ requests }) => requests).sort(), [1, 3, 3])
    })

    await behaviour(t, 'after maxResponses the session is over, and the last answer relayed', async (t) => {
      const server = await answering(t, ({ bytes }) => [bytes, 'two', 'three', 'four', 'five'])
      const served = await sessions(plane, to(server.address), { maxResponses: 3 })
      const client = await talker(t)
      await client.say(served.port, 'one')
      await ended(served)
      await client.hears(3)
      t.match(served.desk.ends[0], { reason: 'max-responses', requests: 1, responses: 3, rx: 11 })
      t.equal(served.listening.flows, 0)
      await client.say(served.port, 'eins')
      await ended(served, 2)
      await client.hears(6)
      t.same(client.texts, ['one', 'two', 'three', 'eins', 'two', 'three'])
      t.equal(served.desk.arrivals.length, 2)
      t.equal(server.callers.length, 2)
    })

    await behaviour(t, 'maxResponses ends a session that has had its requests', async (t) => {
      const server = await answering(t)
      const served = await sessions(plane, to(server.address), { maxRequests: 2, maxResponses: 2 })
      const client = await talker(t)
      for (const text of numbered(6)) t.equal(await client.asks(served.port, text), text)
      await ended(served, 3)
      t.same(reasons(served), Array(3).fill('max-responses'))
      t.equal(served.listening.flows, 0)
    })

    await behaviour(t, 'a silent client is idle, however much its backend says', async (t) => {
      const server = await talker(t)
      const served = await sessions(plane, to(server.address), {}, { clientIdleMs: 250 })
      const client = await talker(t)
      await client.say(served.port, 'hello')
      await server.hears(1)
      const chat = setInterval(() => void server.say(server.callers[0]!, 'chat').catch(() => {}), 20)
      t.teardown(() => clearInterval(chat))
      await client.hears(3)
      const last = performance.now()
      await client.say(served.port, 'still here')
      await ended(served)
      t.ok(performance.now() - last >= 250, 'counted from the last datagram, and never early')
      t.match(served.desk.ends[0], { reason: 'client-idle', requests: 2 })
      t.ok(served.desk.ends[0]!.responses >= 3)
    })

    await behaviour(t, 'a silent backend is idle, however much its client says', async (t) => {
      const server = await talker(t)
      const served = await sessions(plane, to(server.address), {}, { backendIdleMs: 250 })
      const client = await talker(t)
      const chat = setInterval(() => void client.say(served.port, 'chat').catch(() => {}), 20)
      t.teardown(() => clearInterval(chat))
      await server.hears(3)
      const last = performance.now()
      await server.say(server.callers[0]!, 'here')
      await until(() => served.desk.ends.length > 0, 'the end')
      clearInterval(chat)
      t.ok(performance.now() - last >= 250, 'counted from the last datagram, and never early')
      t.match(served.desk.ends[0], { reason: 'backend-idle', responses: 1 })
      t.ok(served.desk.ends[0]!.requests >= 3)
    })

    await behaviour(t, 'a backend that never answers is idle since the dial', async (t) => {
      const server = await talker(t)
      const served = await sessions(plane, to(server.address), {}, { backendIdleMs: 150 })
      const client = await talker(t)
      await client.say(served.port, 'hello')
      await ended(served)
      t.match(served.desk.ends[0], { reason: 'backend-idle', responses: 0, firstByteMs: -1, requests: 1 })
      t.ok(served.desk.ends[0]!.durationMs >= 150, 'never early')
      await client.say(served.port, 'hello again')
      await ended(served, 2)
      t.equal(server.callers.length, 2, 'what comes after the end is a new session')
    })

    await behaviour(t, 'the clock of idleness begins with the dial, not before', async (t) => {
      const server = await talker(t)
      const spec = { backendIdleMs: 100, undecidedMs: 30 }
      const served = await sessions(plane, { arrived: () => ({ later: true }) }, {}, spec)
      const client = await talker(t)
      await client.say(served.port, 'hello')
      await until(() => served.desk.arrivals.length === 1)
      const came = performance.now()
      await until(() => performance.now() - came > 150, 'longer than any limit, of which none is for those')
      t.same(reasons(served), [])
      const dialled = performance.now()
      served.answer(served.desk.arrivals[0]!.flow, dial(server.address))
      await ended(served)
      t.ok(performance.now() - dialled >= 100, 'never early')
      t.equal(served.desk.ends[0]!.reason, 'backend-idle')
      t.ok(served.desk.ends[0]!.waitedMs >= 140)
    })

    await behaviour(t, 'limits no clock can count to are no limits', async (t) => {
      const server = await answering(t)
      const ages = { clientIdleMs: 4e13, backendIdleMs: Number.MAX_VALUE }
      const served = await sessions(plane, to(server.address, { timeoutMs: 2 ** 32 }), {}, ages)
      const client = await talker(t)
      for (const text of numbered(3)) t.equal(await client.asks(served.port, text), text)
      t.match(await ends(served), [{ reason: 'shutdown', requests: 3 }])
    })

    await behaviour(t, 'maxSessions evicts those never answered while they are many', async (t) => {
      const server = await answering(t, ({ bytes }) => (bytes[0] === 0x3f ? [bytes] : []))
      const served = await sessions(plane, to(server.address), { maxSessions: 16 })
      const real = await talkers(t, 4)
      for (const each of real) await each.asks(served.port, '?')
      const flood = await talkers(t, 100)
      for (const each of flood) await each.say(served.port, 'spoofed')
      const { listening, desk } = served
      // Too many at once are not asked about.
      const came = () => desk.arrivals.length + listening.drops().undecided
      const over = () => listening.flows + desk.ends.length === desk.arrivals.length
      await until(() => came() === 104 && over() && listening.flows <= 16, 'the evictions')
      t.ok(desk.ends.length > 0)
      t.ok(desk.ends.every(({ reason, responses }) => reason === 'evicted' && responses === 0))
      if (name === 'portable') t.equal(listening.flows, 16)
      for (const each of real) t.equal(await each.asks(served.port, '?!'), '?!')
      const sessionsOf = (text: string) =>
        server.heard.filter((each) => each.bytes.toString() === text).map(({ from }) => from.port)
      t.same(sessionsOf('?!'), sessionsOf('?'), 'who was answered kept its session')
    })

    await behaviour(t, 'a full table answers new clients, several at a time', async (t) => {
      const late = 4
      const asked: Heard[] = []
      const server = await answering(t)
      const slow = await talker(t)
      slow.socket.on('message', (bytes, { address: host, port }) => {
        asked.push({ bytes, from: { host, port } })
        if (asked.length > late) answerOne()
      })
      const answerOne = () => {
        const { bytes, from } = asked.shift()!
        void slow.say(from, bytes)
      }
      let place = server.address
      const script: Script = { arrived: () => dial(place) }
      const served = await sessions(plane, script, { maxSessions: 128 })
      await crowd(t, served, 128)
      place = slow.address
      const clients = await talkers(t, 60)
      for (const [i, each] of clients.entries()) {
        await each.say(served.port, `${each.port}`)
        await slow.hears(i + 1)
        if (i >= late) await clients[i - late]!.hears(1)
      }
      while (asked.length > 0) answerOne()
      for (const each of clients) t.same((await each.hears(1)).texts, [`${each.port}`])
      t.ok(served.listening.flows <= 128)
    })

    await behaviour(t, 'a flood of strangers leaves seven eighths of the answered', async (t) => {
      const server = await answering(t, ({ bytes }) => (bytes[0] === 0x3f ? [bytes] : []))
      const served = await sessions(plane, to(server.address), { maxSessions: 128 })
      const { listening, desk } = served
      await crowd(t, served, 128)
      const before = new Set(desk.ends.map(({ client }) => client.flow))
      const flood = await talkers(t, 60)
      for (const each of flood) {
        const came = () => desk.arrivals.length + listening.drops().undecided
        const count = came()
        await each.say(served.port, 'spoofed')
        await until(() => came() > count)
      }
      await until(() => listening.flows === 128, 'the evictions')
      const lost = desk.ends.filter(({ client, responses }) => responses > 0 && !before.has(client.flow))
      t.ok(lost.length > 0 && lost.length <= 128 / 8, `${lost.length} of the answered were evicted`)
      t.ok(desk.ends.every(({ reason }) => reason === 'evicted'))
    })

    await behaviour(t, 'then it evicts whoever was heard of longest ago', async (t) => {
      const server = await answering(t)
      const served = await sessions(plane, to(server.address), { maxSessions: 8 })
      const [keen, ...others] = await talkers(t, 31)
      await keen!.asks(served.port, 'first')
      for (const each of others) {
        await tick()
        await each.asks(served.port, 'me too')
        await tick()
        t.equal(await keen!.asks(served.port, 'still here'), 'still here')
      }
      const { listening, desk } = served
      await until(() => listening.flows + desk.ends.length === 31 && listening.flows <= 8, 'the evictions')
      t.equal(desk.arrivals.length, 31, 'who was heard of kept its session')
      t.ok(desk.ends.every(({ reason }) => reason === 'evicted'))
      if (name !== 'portable') return // Each of its threads has a share of the sessions.
      t.same(
        desk.ends.map(({ client: { port } }) => port),
        others.slice(0, 23).map(({ port }) => port),
      )
    })

    await behaviour(
      t,
      'who speaks is not evicted, unanswered client and unasked backend alike',
      async (t) => {
        const server = await answering(t, ({ bytes }) => (bytes[0] === 0x3f ? [bytes] : []))
        const served = await sessions(plane, to(server.address), { maxSessions: 16 })
        const [telling, listening, ...others] = await talkers(t, 62)
        await telling!.asks(served.port, '?telling')
        await listening!.asks(served.port, '?listening')
        const [told, spoken] = [server.callers[0]!, server.callers[1]!]
        for (const each of others) {
          await tick()
          await each.asks(served.port, '?')
          await tick()
          const heard = [server.heard.length, listening!.heard.length] as const
          await telling!.say(served.port, 'psst')
          await server.say(spoken, 'news')
          await Promise.all([server.hears(heard[0] + 1), listening!.hears(heard[1] + 1)])
          t.equal(server.heard.at(-1)!.from.port, told)
        }
        t.equal(served.desk.arrivals.length, 62)
      },
    )

    await behaviour(t, 'a table that is to be smaller shrinks as new sessions come', async (t) => {
      const server = await answering(t)
      const served = await sessions(plane, to(server.address), { maxSessions: 128 })
      const { listening, desk } = served
      await crowd(t, served, 64)
      listening.limitSessions(16)
      t.equal(listening.flows, 64, 'nobody is evicted by it alone')
      const clients = await talkers(t, 60)
      const evicted = []
      for (const each of clients) {
        const over = desk.ends.length
        await tick()
        await each.asks(served.port, 'me too')
        await tick()
        await clients[0]!.asks(served.port, 'still here')
        evicted.push(desk.ends.length - over)
      }
      t.ok(Math.max(...evicted) <= 8, `${evicted.join(' ')}: eight by one newcomer at most`)
      await until(() => listening.flows <= 16, 'the evictions')
      t.equal(desk.arrivals.length, 64 + 60, 'who was heard of kept its session')
      t.ok(desk.ends.every(({ reason }) => reason === 'evicted'))
      const few = desk.ends.length
      listening.limitSessions(128)
      for (const each of await talkers(t, 30)) await each.asks(served.port, 'me too')
      t.equal(desk.ends.length, few, 'and when it may be larger it grows')
    })

    await behaviour(t, 'sessions that are over make room at once', async (t) => {
      const server = await answering(t)
      let row = 2
      const script: Script = { arrived: () => dial(server.address, { backend: row }) }
      const served = await sessions(plane, script, { maxSessions: 8 })
      const [staying, ...others] = await talkers(t, 31)
      await staying!.asks(served.port, 'first')
      row = 1
      for (const [i, each] of others.entries()) {
        await each.asks(served.port, 'me too')
        served.listening.drop(1, 'moved')
        await ended(served, i + 1)
      }
      t.same(new Set(reasons(served)), new Set(['moved']))
      t.equal(await staying!.asks(served.port, 'still here'), 'still here')
      t.equal(served.desk.arrivals.length, 31)
    })

    await behaviour(t, 'undecided sessions are evicted too, and pay nothing', async (t) => {
      const served = await sessions(plane, { arrived: () => ({ later: true }) }, { maxSessions: 8 })
      const clients = await talkers(t, 60)
      for (const each of clients) await each.say(served.port, 'hello')
      const { listening, desk } = served
      const all = () => desk.arrivals.length + listening.drops().undecided
      // A thread that evicts before it hears of `later` has the end wait for the answer.
      const few = () => name === 'native' || listening.flows <= 8
      await until(() => all() === 60 && few(), 'the evictions')
      for (const { flow } of desk.arrivals) served.answer(flow, { refuse: 'all-full' })
      await until(() => listening.flows === 0, 'the end of all')
      const told = new Set(reasons(served))
      t.ok(told.has('all-full'))
      told.delete('all-full')
      told.delete('evicted')
      t.same([...told], [])
      t.ok(desk.ends.every(({ backend }) => backend === -1))
    })

    await behaviour(t, 'with the key ip a client may change its port, and is answered there', async (t) => {
      const server = await answering(t)
      const served = await sessions(plane, to(server.address), { sessionKey: 'ip' })
      const [old, young] = [await talker(t), await talker(t)]
      const other = await talker(t, { host: '127.0.0.2' })
      t.equal(await old.asks(served.port, 'from here'), 'from here')
      t.equal(await young.asks(served.port, 'now from there'), 'now from there')
      const [session] = server.callers
      t.same(server.callers, [session], 'one session')
      await server.say(session!, 'to the latest')
      await young.hears(2)
      t.equal(await old.asks(served.port, 'back again'), 'back again')
      await server.say(session!, 'to the first')
      await old.hears(3)
      t.equal(await other.asks({ host: '127.0.0.1', port: served.port }, 'another'), 'another')
      t.same(old.texts, ['from here', 'back again', 'to the first'])
      t.same(young.texts, ['now from there', 'to the latest'])
      t.same(
        served.desk.arrivals.map(({ ip, port }) => `${ip} ${port}`),
        [`127.0.0.1 ${old.port}`, `127.0.0.2 ${other.port}`],
      )
    })

    await behaviour(t, 'with the key ip many ports of one address are one session', async (t) => {
      const server = await answering(t)
      const served = await sessions(plane, to(server.address), { sessionKey: 'ip' })
      const clients = await talkers(t, 40)
      for (const [i, each] of clients.entries()) t.equal(await each.asks(served.port, `${i}`), `${i}`)
      t.equal(served.desk.arrivals.length, 1)
      t.match(await ends(served), [{ requests: 40, responses: 40 }])
    })

    await behaviour(t, 'dropping a row ends its sessions, and the next datagram opens anew', async (t) => {
      const [one, two] = [await named(t, 'one'), await named(t, 'two')]
      const places = [
        dial(one.address, { backend: 1 }),
        dial(two.address, { backend: 2 }),
        dial(two.address, { backend: 2, note: 9 }),
      ]
      const served = await sessions(plane, { arrived: () => places.shift()! })
      const [first, second] = [await talker(t), await talker(t)]
      t.equal(await first.asks(served.port, 'a'), 'one:a')
      t.equal(await second.asks(served.port, 'b'), 'two:b')
      served.listening.drop(1, 'moved')
      await ended(served)
      t.match(served.desk.ends[0], { reason: 'moved', backend: 1, requests: 1, responses: 1 })
      t.equal(served.listening.flows, 1)
      t.equal(await first.asks(served.port, 'c'), 'two:c')
      t.equal(await second.asks(served.port, 'd'), 'two:d')
      t.equal(served.desk.arrivals.length, 3)
      t.equal(two.callers.length, 2)
    })

    await behaviour(t, 'dropping a row ends hundreds of sessions, each once, and no others', async (t) => {
      const server = await talker(t, { buffer: 4 << 20 })
      const count = 400
      const served = await sessions(
        plane,
        {
          arrived: ({ flow }) =>
            flow % 10 === 0 ? { later: true } : dial(server.address, { backend: flow % 10 < 3 ? 2 : 1 }),
        },
        { receiveBuffer: 4 << 20 },
      )
      const { listening, desk } = served
      const clients = await talkers(t, count)
      for (const each of clients) await each.say(served.port, 'hello')
      await until(() => desk.arrivals.length === count && listening.flows === count)
      const rows = desk.arrivals.map(({ flow }) => (flow % 10 === 0 ? -1 : flow % 10 < 3 ? 2 : 1))
      const having = (row: number) => rows.filter((each) => each === row).length
      listening.drop(1, 'moved')
      await ended(served, having(1))
      t.ok(desk.ends.every(({ reason, backend }) => reason === 'moved' && backend === 1))
      listening.drop(2, 'killed')
      await ended(served, having(1) + having(2))
      listening.drop(1, 'killed')
      await until(() => listening.flows === having(-1), 'those without a row stay')
      t.equal(desk.ends.length, having(1) + having(2))
    })

    await behaviour(t, 'a listening that has stopped drops nobody of the one after it', async (t) => {
      const stopped = await sessions(plane, {})
      await stopped.listening.stop('shutdown')
      const server = await answering(t)
      const served = await sessions(plane, to(server.address))
      const client = await talker(t)
      await client.asks(served.port, 'one')
      stopped.listening.drop(0, 'moved')
      t.equal(await client.asks(served.port, 'two'), 'two')
      t.equal(served.desk.arrivals.length, 1)
    })

    await behaviour(t, 'drain lets sessions live, and drops and counts what is new', async (t) => {
      const server = await answering(t)
      const served = await sessions(plane, to(server.address))
      const [old, young] = [await talker(t), await talker(t)]
      await old.asks(served.port, 'before')
      await served.listening.drain()
      await served.listening.drain()
      await young.say(served.port, ...numbered(3))
      await until(() => served.listening.drops().draining === 3, 'three to be dropped')
      t.equal(await old.asks(served.port, 'after'), 'after')
      t.equal(served.desk.arrivals.length, 1)
      t.same(young.texts, [])
      const taken = { ...SPEC, binds: parseBind(served.at)!, datagrams: DATAGRAMS }
      await t.rejects(plane.listen(taken, new LedgerDesk({})), { code: 'EADDRINUSE', address: served.at })
      t.equal(await old.asks(served.port, 'at last'), 'at last')
      await served.listening.stop('drained')
      t.match(served.desk.ends, [{ reason: 'drained', requests: 3 }])
      const again = await sessions(plane, to(server.address), {}, { binds: parseBind(served.at)! })
      t.equal(await young.asks(again.port, 'new'), 'new')
    })

    await behaviour(t, 'drain leaves sessions that wait for an answer to it', async (t) => {
      const server = await answering(t)
      const served = await sessions(plane, { arrived: () => ({ later: true }) })
      const client = await talker(t)
      await client.say(served.port, 'hello')
      await until(() => served.desk.arrivals.length === 1)
      await served.listening.drain()
      served.answer(served.desk.arrivals[0]!.flow, dial(server.address))
      await client.hears(1)
      t.same(client.texts, ['hello'])
    })

    await behaviour(t, 'stop ends every session, whatever it is doing, and frees the address', async (t) => {
      const server = await talker(t)
      const answers = [
        dial(server.address),
        { later: true } as const,
        dial(server.address, { backend: 1 }),
        { refuse: 'access' } as const,
      ]
      const served = await sessions(plane, { arrived: ({ flow }) => answers[flow % 4]! })
      const clients = await talkers(t, 40)
      for (const each of clients) await each.say(served.port, 'hello')
      await until(() => served.desk.arrivals.length === 40)
      const refused = served.desk.arrivals.filter(({ flow }) => flow % 4 === 3).length
      await until(() => served.listening.flows === 40 - refused)
      await served.listening.stop('shutdown')
      t.equal(served.desk.ends.length, 40 - refused)
      t.ok(served.desk.ends.every(({ reason }) => reason === 'shutdown'))
      const here = await talker(t, { port: served.port })
      t.equal(here.port, served.port, 'anybody may have the address now')
    })

    await behaviour(t, 'stop in the middle of traffic ends each session once', async (t) => {
      const server = await answering(t)
      const binds = [await deadEnd()]
      const clients = await talkers(t, 8)
      const chat = setInterval(() => {
        for (const each of clients) void each.say(binds[0]!, 'chat').catch(() => {})
      }, 1)
      t.teardown(() => clearInterval(chat))
      for (let i = 0; i < 10; i++) {
        const script: Script = {
          arrived: ({ port }) => (port % 2 ? { later: true } : dial(server.address, { backend: port % 3 })),
        }
        const served = await sessions(plane, script, {}, { binds, report: true })
        await until(() => served.desk.arrivals.length > 3)
        await served.listening.stop('killed')
        t.same(served.desk.audit, [])
        t.ok(served.desk.ends.every(({ reason }) => reason === 'killed'))
      }
    })

    await behaviour(t, 'several binds are told apart, and so are the sessions of one client', async (t) => {
      const server = await answering(t)
      const binds = [
        { host: '127.0.0.1', port: 0 },
        { host: '127.0.0.3', port: 0 },
      ]
      const served = await sessions(plane, to(server.address), {}, { binds })
      const client = await talker(t)
      const doors = binds.map(({ host }, i) => ({ host, port: portOf(served, i) }))
      for (const door of [...doors, ...doors]) t.equal(await client.asks(door, 'hello'), 'hello')
      t.same(
        client.heard.map(({ from }) => from),
        [...doors, ...doors],
        'each answer comes from where it was asked for',
      )
      t.match(served.desk.arrivals, [
        { bind: 0, localIp: '127.0.0.1', localPort: doors[0]!.port },
        { bind: 1, localIp: '127.0.0.3', localPort: doors[1]!.port },
      ])
      t.equal(served.desk.arrivals.length, 2)
      t.equal(server.callers.length, 2)
    })

    await behaviour(t, 'a wildcard answers from the address that was asked', async (t) => {
      const server = await answering(t)
      const hosts = ['127.0.0.1', ...(OUTER ? [OUTER] : []), ...(name === 'native' ? ['127.0.0.2'] : [])]
      if (!OUTER) t.comment('this machine has no address but 127.0.0.1')
      for (const host of ['0.0.0.0', '', '::']) {
        const served = await sessions(plane, to(server.address), {}, { binds: [{ host, port: 0 }] })
        const client = await talker(t, { host: '0.0.0.0' })
        for (const asked of hosts) {
          const place = { host: asked, port: served.port }
          t.equal(await client.asks(place, asked), asked)
          t.same(client.heard.at(-1)!.from, place, `bind ${host || 'without a host'}`)
        }
        t.same(
          served.desk.arrivals.map(({ localIp }) => localIp),
          hosts,
          'each is a session of its own',
        )
        const locals = new Set(served.desk.arrivals.map(({ ip }) => ip))
        t.notOk(
          [...locals].some((ip) => ip.includes('::')),
          'IPv4 is written as IPv4',
        )
        t.equal(served.listening.addresses.length, 1)
      }
    })

    await behaviour(t, 'a wildcard takes IPv6 too, 0.0.0.0 does not', { skip: !!NO_IPV6 }, async (t) => {
      const server = await answering(t)
      const client = await talker(t, { host: '::1' })
      for (const host of ['', '::']) {
        const served = await sessions(plane, to(server.address), {}, { binds: [{ host, port: 0 }] })
        t.match(served.at, /^\[::\]:\d+$/)
        const place = { host: '::1', port: served.port }
        t.equal(await client.asks(place, 'six'), 'six')
        t.same(client.heard.at(-1)!.from, place)
        t.match(served.desk.arrivals[0], { ip: '::1', localIp: '::1', localPort: served.port })
      }
      const four = await sessions(plane, to(server.address), {}, { binds: [{ host: '0.0.0.0', port: 0 }] })
      t.match(four.at, /^0\.0\.0\.0:\d+$/)
      const owner = await talker(t, { host: '::1', port: four.port })
      t.equal(owner.port, four.port, 'IPv6 of that port is free')
    })

    await behaviour(t, 'IPv6 is listened on and dialled', { skip: !!NO_IPV6 }, async (t) => {
      const server = await answering(t, echo, { host: '::1', buffer: 1 << 20 })
      const binds = [{ host: '::1', port: 0 }]
      const served = await sessions(plane, to(server.address), { receiveBuffer: 1 << 20 }, { binds })
      t.match(served.at, /^\[::1\]:\d+$/)
      const client = await talker(t, { host: '::1', buffer: 1 << 20 })
      t.equal(await client.asks(served.port, 'six'), 'six')
      t.match(served.desk.arrivals[0], { ip: '::1', port: client.port, localIp: '::1', bind: 0 })
      const large = randomBytes(MOST_BYTES)
      await client.say(served.port, large)
      await client.hears(2)
      t.ok(client.heard[1]!.bytes.equals(large))
      const mixed = await sessions(plane, to(server.address))
      const four = await talker(t)
      t.equal(await four.asks(mixed.port, 'from four to six'), 'from four to six')
    })

    await behaviour(t, 'an unreachable backend of IPv6 is told as well', { skip: !!NO_IPV6 }, async (t) => {
      const dead = await deadEnd('::1')
      const server = await answering(t)
      const served = await sessions(plane, {
        arrived: () => dial(dead, { backend: 1 }),
        dialFailed: () => dial(server.address, { backend: 2 }),
      })
      const client = await talker(t)
      t.equal(await client.asks(served.port, 'hello'), 'hello')
      t.match(served.desk.failures, [{ lost: true, backend: 1, why: 'refused' }])
    })

    await behaviour(t, 'an address that cannot be had rejects with it, and nothing stays open', async (t) => {
      const served = await sessions(plane, {})
      const free = await deadEnd()
      const stranger = await talker(t)
      for (const taken of [parseBind(served.at)![0] as HostPort, stranger.address]) {
        const binds = [free, taken]
        const desk = new LedgerDesk({})
        await t.rejects(plane.listen({ ...SPEC, binds, datagrams: DATAGRAMS }, desk), {
          code: 'EADDRINUSE',
          address: `127.0.0.1:${taken.port}`,
        })
      }
      const nowhere = { ...SPEC, binds: [free, { host: '192.0.2.254', port: 0 }], datagrams: DATAGRAMS }
      await t.rejects(plane.listen(nowhere, new LedgerDesk({})), { code: 'EADDRNOTAVAIL' })
      const again = await sessions(plane, {}, {}, { binds: [free] })
      t.ok(again.listening)
      const client = await talker(t)
      await client.say(served.port, 'to the one that has it')
      await until(() => served.desk.arrivals.length === 1)
    })

    await behaviour(t, 'who may not come in is dropped unasked, by address', async (t) => {
      const server = await answering(t)
      const { served: open, counts } = await guarded({ default: 'allow', rules: ['deny 127.0.0.2'] })
      t.same(counts, { '127.0.0.1': 1, '127.0.0.2': 0, '127.0.0.3': 1 })
      t.equal(open.listening.drops().access, 3)
      const { served: closed, counts: few } = await guarded({ default: 'deny', rules: ['allow 127.0.0.2'] })
      t.same(few, { '127.0.0.1': 0, '127.0.0.2': 1, '127.0.0.3': 0 })
      t.equal(closed.listening.drops().access, 6)

      /** How many sessions each of three addresses was given, by sending three datagrams. */
      async function guarded(settings: Parameters<typeof compileAccess>[0]) {
        const served = await sessions(plane, to(server.address), { access: tableOf(settings) })
        const hosts = ['127.0.0.1', '127.0.0.2', '127.0.0.3']
        for (const host of hosts)
          await (await talker(t, { host })).say({ host: '127.0.0.1', port: served.port }, ...numbered(3))
        const { listening, desk } = served
        await until(() => listening.requests(0) + listening.drops().access === 9, 'nine datagrams')
        const of = (host: string) => desk.arrivals.filter(({ ip }) => ip === host).length
        return { served, counts: Object.fromEntries(hosts.map((host) => [host, of(host)])) }
      }
    })

    await behaviour(t, 'access tells IPv6 clients apart too', { skip: !!NO_IPV6 }, async (t) => {
      const server = await answering(t)
      const binds = [
        { host: '::1', port: 0 },
        { host: '', port: 0 },
      ]
      const access = tableOf({ default: 'allow', rules: ['deny ::1', 'deny 127.0.0.2'] })
      const served = await sessions(plane, to(server.address), { access }, { binds })
      const six = await talker(t, { host: '::1' })
      await six.say(portOf(served, 0), 'denied')
      await six.say(portOf(served, 1), 'denied')
      const four = await talker(t, { host: '127.0.0.2' })
      await four.say({ host: '127.0.0.1', port: portOf(served, 1) }, 'denied')
      await until(() => served.listening.drops().access === 3)
      const welcome = await talker(t)
      t.equal(await welcome.asks(portOf(served, 1), 'allowed'), 'allowed')
      t.equal(served.desk.arrivals.length, 1)
    })

    await behaviour(t, 'receiveBuffer is what the kernel keeps', { skip: NO_SS }, async (t) => {
      const served = await sessions(plane, {}, { receiveBuffer: 16_384 })
      const { stdout } = spawnSync('ss', ['-uanmH', `sport = :${served.port}`], { encoding: 'utf8' })
      const rooms = [...stdout.matchAll(/\brb(\d+)/g)].map(([, room]) => Number(room))
      t.ok(rooms.length > 0)
      t.same(new Set(rooms), new Set([32_768]), 'the kernel doubles it for its own needs, socket(7)')
    })

    await behaviour(t, 'the first datagrams of a backend are shown, in part', async (t) => {
      const server = await answering(t, ({ bytes }) => [bytes, Buffer.alloc(200, 0x62), 'third'])
      const seen: string[] = []
      const script: Script = {
        ...to(server.address, { backend: 5 }),
        glimpsed: ({ port }, row, bytes) => {
          seen.push(`${port === client.port} ${row} ${Buffer.from(bytes).toString()}`)
        },
      }
      const served = await sessions(plane, script, { glimpses: 2 })
      const client = await talker(t)
      await client.say(served.port, 'a')
      await client.hears(3)
      await until(() => seen.length === 2, 'two to be shown')
      await client.say(served.port, 'b')
      await client.hears(6)
      await ends(served)
      t.same(seen, ['true 5 a', `true 5 ${'b'.repeat(64)}`], 'two of them, and 64 bytes of each')
    })

    await behaviour(t, 'connected and first byte are told when asked for, for every backend', async (t) => {
      const dead = await deadEnd()
      const server = await answering(t)
      for (const report of [true, false]) {
        const told: string[] = []
        const served = await sessions(
          plane,
          {
            arrived: () => dial(dead, { backend: 1 }),
            dialFailed: () => dial(server.address, { backend: 4 }),
            connected: (_, row, ms) => void told.push(`connected ${row} ${ms >= 0}`),
            firstByte: (_, row, ms) => void told.push(`first byte ${row} ${ms >= 0}`),
          },
          {},
          { report },
        )
        const client = await talker(t)
        for (const text of numbered(3)) await client.asks(served.port, text)
        await ends(served)
        const want = ['connected 1 true', 'connected 4 true', 'first byte 4 true']
        t.same(told, report ? want : [])
      }
    })

    // Elsewhere nobody can ask how many there were.
    if (name === 'native')
      await behaviour(t, 'answers that the kernel dropped are counted when their session ends', async (t) => {
        const server = await talker(t)
        const served = await sessions(plane, { ...to(server.address, { backend: 4 }) })
        const client = await talker(t)
        await client.say(served.port, 'go')
        await server.hears(1)
        const most = 2_000
        await server.say(server.heard[0]!.from, ...Array<Buffer>(most).fill(Buffer.alloc(8_192)))
        server.socket.on(
          'message',
          (bytes, { address: host, port }) => void server.say({ host, port }, bytes),
        )
        await client.insists(served.port, 'the last')
        served.listening.drop(4, 'moved')
        await ended(served)
        const { responses } = served.desk.ends[0]!
        const counted = responses + served.listening.drops().queue
        t.ok(counted > most, `of ${most} and an answer ${responses} came`)
        t.ok(counted <= most + server.heard.length - 1, `and ${counted - responses} did not`)
      })

    await behaviour(t, 'a backend that answers a thousandfold drowns nobody else', async (t) => {
      const loud = await answering(t, () => Array<Buffer>(1_000).fill(Buffer.alloc(1_000)))
      const calm = await answering(t)
      const places = [dial(loud.address, { backend: 1 }), dial(calm.address, { backend: 2 })]
      const served = await sessions(plane, { arrived: () => places.shift()! })
      const [greedy, modest] = [await talker(t), await talker(t)]
      await greedy.say(served.port, 'everything')
      await until(() => served.desk.arrivals.length === 1)
      for (let i = 0; i < 20; i++) {
        await greedy.say(served.port, 'more')
        t.equal(await modest.asks(served.port, `${i}`), `${i}`)
      }
      await settled(() => served.listening.responses(1))
      const { listening } = served
      t.ok(listening.responses(1) > 0)
      t.equal(listening.rx(1), listening.responses(1) * 1_000)
      t.equal(listening.responses(2), 20)
    })

    await behaviour(t, 'a client that floods drowns nobody else', async (t) => {
      const [sink, calm] = [await talker(t), await answering(t)]
      const places = [dial(sink.address, { backend: 1 }), dial(calm.address, { backend: 2 })]
      const served = await sessions(plane, { arrived: () => places.shift()! })
      const [flooding, modest] = [await talker(t), await talker(t)]
      await flooding.say(served.port, 'first')
      await until(() => served.desk.arrivals.length === 1)
      let over = false
      const flood = (async () => {
        while (!over) {
          await flooding.say(served.port, ...Array<Buffer>(50).fill(Buffer.alloc(100)))
          await new Promise(setImmediate)
        }
      })()
      for (let i = 0; i < 20; i++) t.equal(await modest.insists(served.port, `${i}`), `${i}`)
      over = true
      await flood
      await settled(() => served.listening.requests(1))
      t.ok(served.listening.requests(1) > 0)
      t.equal(served.desk.arrivals.length, 2)
    })

    await behaviour(t, 'a thousand sessions leave nothing behind', { skip: before === 0 }, async (t) => {
      const server = await answering(t)
      const served = await sessions(plane, to(server.address), { maxResponses: 1 })
      const clients = await talkers(t, 4)
      const idle = descriptors()
      await Promise.all(
        clients.map(async (each) => {
          for (const text of numbered(250)) if ((await each.asks(served.port, text)) !== text) t.fail(text)
        }),
      )
      await ended(served, 1_000)
      t.equal(served.listening.flows, 0)
      await until(() => descriptors() <= idle, 'the descriptors of before')
      t.ok(reasons(served).every((reason) => reason === 'max-responses'))
      t.equal(served.listening.connects(0), 1_000)
    })

    await behaviour(t, 'every descriptor is given back', { skip: before === 0 }, async () => {
      await until(() => descriptors() <= before, `${before} descriptors, as at the start`)
    })
  })
}

t.test('addresses that come and go, on the plane with a socket for each', async (t) => {
  const clock = new FakeClock()
  const plane = portablePlane(clock)
  const real = os.networkInterfaces
  t.teardown(() => pretend(real))
  const [here, there] = ['127.0.0.1', '127.0.0.5']
  /** Listens on all of them, and everything comes back. */
  const wildcard = async (t: Test, host = '') => {
    pretend(() => lo(here))
    const server = await answering(t)
    return sessions(plane, to(server.address), {}, { binds: [{ host, port: 0 }] })
  }
  const look = () => clock.advance(2_000)

  await behaviour(t, 'a wildcard answers from one that came later', async (t) => {
    const client = await talker(t, { host: '0.0.0.0' })
    for (const host of ['0.0.0.0', '', '::']) {
      const served = await wildcard(t, host)
      pretend(() => lo(here, there))
      await look()
      for (const asked of [there, here]) {
        const place = { host: asked, port: served.port }
        t.equal(await client.asks(place, asked), asked)
        t.same(client.heard.at(-1)!.from, place)
      }
      t.equal(served.listening.addresses.length, 1)
    }
  })

  await behaviour(t, 'one that is gone is free, once its sessions are over', async (t) => {
    const { listening, port, desk } = await wildcard(t)
    const client = await talker(t, { host: '0.0.0.0' })
    const place = { host: there, port }
    pretend(() => lo(here, there))
    await look()
    await client.asks(place, 'hello')
    pretend(() => lo(here))
    await look()
    t.equal(await client.asks(place, 'back again'), 'back again', 'it came back meanwhile')
    t.equal(desk.arrivals.length, 1)
    listening.drop(0, 'killed')
    await until(() => listening.flows === 0)
    await look()
    const owner = await talker(t, place)
    t.equal(owner.port, port)
    t.equal(await client.asks({ host: here, port }, 'still here'), 'still here')
  })

  await behaviour(t, 'one that cannot be had is complained of once, and had when it is free', async (t) => {
    const { port } = await wildcard(t)
    const client = await talker(t, { host: '0.0.0.0' })
    const owner = await talker(t, { host: there, port })
    const log = logged(t)
    pretend(() => lo(here, there, '192.0.2.254'))
    for (let i = 0; i < 5; i++) await look()
    const lines = await log()
    t.match(lines, /cannot be listened on: bind EADDRINUSE 127\.0\.0\.5/)
    t.equal(lines.trim().split('\n').length, 1)
    await owner.close()
    await look()
    t.equal(await client.asks({ host: there, port }, 'now?'), 'now?')
  })

  await behaviour(t, 'a system that does not tell its addresses keeps those it had', async (t) => {
    const { port } = await wildcard(t)
    const log = logged(t)
    pretend(() => {
      throw new Error('too many open files')
    })
    await look()
    t.match(await log(), /too many open files/)
    const client = await talker(t)
    t.equal(await client.asks(port, 'still here'), 'still here')
  })

  await behaviour(t, 'nobody looks once it has stopped', async (t) => {
    const { listening, port } = await wildcard(t)
    t.equal(clock.pending, 1)
    await listening.stop('shutdown')
    t.equal(clock.pending, 0)
    pretend(() => lo(here, there))
    await look()
    const owner = await talker(t, { host: there, port })
    t.equal(owner.port, port)
    const one = await sessions(plane, {})
    t.equal(clock.pending, 0, 'nor where one address is all there is')
    t.ok(one.port)
  })

  function pretend(networkInterfaces: typeof real): void {
    Object.assign(os, { networkInterfaces })
    syncBuiltinESMExports()
  }

  /** What the system says of its one interface. */
  function lo(...addresses: readonly string[]): ReturnType<typeof real> {
    const rest = { netmask: '', mac: '', internal: true, cidr: null }
    return { lo: addresses.map((address) => ({ address, family: 'IPv4', ...rest })) }
  }
})

/** The table that planes search. */
function tableOf(settings: Parameters<typeof compileAccess>[0]) {
  const { ipv4, ipv6 } = compileAccess(settings)
  return { ipv4, ipv6 }
}

// Every plane keeps the same promises: each is tried with real sockets and a desk that keeps a ledger.

import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { parseBind } from '../../src/core/address.ts'
import type { Answer, Arrival } from '../../src/plane/plane.ts'
import { FakePlane } from '../support/fakeplane.ts'
import { NO_IPV6 } from '../support/ipv6.ts'
import { audited, behaviour, dial, ended, LedgerDesk, serve, SPEC, to } from '../support/ledger.ts'
import type { Script, Served } from '../support/ledger.ts'
import { peer } from '../support/peer.ts'
import { PLANES } from '../support/planes.ts'
import { backend, deadPort, descriptors, drink, drip, open, saturated, settled } from '../support/streams.ts'
import { until } from '../support/until.ts'

const full = await saturated()

for (const { name, skip, make } of PLANES) {
  t.test(`plane ${name}`, { skip }, async (t) => {
    const plane = make()
    const before = existsSync('/proc/self/fd') ? descriptors() : 0

    await behaviour(t, 'limits no clock can count to are no limits', async (t) => {
      const server = await peer('accept', 'read 4', 'expect eof', 'write "PONG"', 'shutdown')
      const ages = {
        clientIdleMs: 4e13,
        backendIdleMs: 1e300,
        halfCloseMs: Number.MAX_VALUE,
        keepAliveMs: 4e13,
      }
      const served = await serve(plane, to(server.address, { timeoutMs: 2 ** 32 }), ages)
      const client = await peer(`connect ${served.at}`, 'write "PING"', 'shutdown', 'read 4', 'expect eof')
      await Promise.all([client.done, server.done, ended(served)])
      t.match(served.desk.ends[0], { reason: 'client-closed', rx: 4, tx: 4 })
    })

    await behaviour(t, 'a limit of less than a millisecond is one', async (t) => {
      const address = await backend(t, (socket) => socket.resume())
      const served = await serve(plane, to(address), { clientIdleMs: 0.5 })
      const client = await peer(`connect ${served.at}`, 'expect eof')
      await Promise.all([client.done, ended(served)])
      t.match(served.desk.ends[0], { reason: 'client-idle' })
    })

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

    await behaviour(t, 'a dial that is repeated sends ahead what its answer says, once', async (t) => {
      const dead = await deadPort()
      const server = await peer('accept', 'read 8', 'expect eof', 'write "ok"', 'shutdown')
      const served = await serve(plane, {
        arrived: () => ({ wait: { atLeast: 4, atMost: 4, ms: 5_000 } }),
        headed: () => dial(dead, { backend: 1, ahead: Buffer.from('first') }),
        dialFailed: (_client, { backend }) =>
          backend < 3
            ? dial(dead, { backend: backend + 1, ahead: Buffer.from('again') })
            : dial(server.address, { backend: 4, ahead: Buffer.from('last') }),
      })
      const client = await peer(`connect ${served.at}`, 'write "head"', 'shutdown', 'read 2', 'expect eof')
      await Promise.all([client.done, server.done, ended(served)])
      t.equal(server.received, 'lasthead')
      t.match(served.desk.ends[0], { backend: 4, rx: 2, tx: 4 })
    })

    await behaviour(t, 'first bytes may be one or very many, and waited for again and again', async (t) => {
      const body = randomBytes(200_000)
      const server = await backend(t, (socket) => {
        sums.push(drink(socket))
        socket.on('end', () => socket.end())
      })
      const sums: Promise<string>[] = []
      for (const steps of [[1], [4_096], [65_536], [1, 4_096, 65_536], [65_535, 65_536]]) {
        const seen: number[] = []
        const need = () => steps[seen.length]!
        const served = await serve(plane, {
          arrived: () => ({ wait: { atLeast: need(), atMost: need(), ms: 10_000 } }),
          headed: (_client, bytes, ended) => {
            if (ended || !body.subarray(0, bytes.length).equals(bytes)) return { refuse: 'bad-header' }
            seen.push(bytes.length)
            return need() ? { wait: { atLeast: need(), atMost: need(), ms: 10_000 } } : dial(server)
          },
        })
        const socket = await open(served.port)
        for (let at = 0; at < body.length; at += 30_011) {
          socket.write(body.subarray(at, at + 30_011))
          await new Promise(setImmediate)
        }
        socket.resume().end()
        await ended(served)
        t.same(seen, steps)
        t.match(served.desk.ends[0], { reason: 'client-closed', tx: body.length })
      }
      const want = createHash('md5').update(body).digest('hex')
      t.same(await Promise.all(sums), Array(5).fill(want))
    })

    await behaviour(t, 'who is to wait for more than can come is closed', async (t) => {
      const more = { wait: { atLeast: 6, atMost: 8, ms: 5_000 } }
      const served = await serve(plane, {
        arrived: () => ({ wait: { atLeast: 4, atMost: 8, ms: 5_000 } }),
        headed: () => more,
      })
      const client = await peer(`connect ${served.at}`, 'write "ab"', 'shutdown', 'expect eof')
      await Promise.all([client.done, ended(served)])
      t.match(served.desk.ends[0], { reason: 'client-closed', backend: -1, tx: 2 })
    })

    await behaviour(t, 'a desk that has seen first bytes may answer later', async (t) => {
      const server = await peer('accept', 'read 8', 'expect eof', 'write "ok"', 'shutdown')
      let asked = 0
      const served = await serve(
        plane,
        {
          arrived: () => ({ wait: { atLeast: 4, atMost: 4, ms: 5_000 } }),
          headed: () => (asked++, { later: true }),
        },
        { undecidedMs: 100 },
      )
      const client = await peer(
        `connect ${served.at}`,
        'write "headrest"',
        'shutdown',
        'read 2',
        'expect eof',
      )
      await until(() => asked === 1)
      await new Promise((resolve) => setTimeout(resolve, 200)) // Longer than undecidedMs, which is not for those.
      served.answer(served.desk.arrivals[0]!.flow, dial(server.address))
      await Promise.all([client.done, server.done, ended(served)])
      t.equal(server.received, 'headrest')
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

    await behaviour(t, 'a backend is idle again when its client is no longer blocked', async (t) => {
      let taken: Socket | undefined
      const address = await backend(t, (socket) => (taken = socket.resume()))
      const served = await serve(plane, to(address), { backendIdleMs: 250, keepAliveMs: 0 })
      const socket = (await open(served.port)).pause()
      await until(() => taken !== undefined)
      const size = 24 << 20
      let got = 0
      taken!.write(Buffer.alloc(size))
      await until(() => served.listening.rx(0) > 0)
      const start = performance.now()
      await until(() => performance.now() - start > 700, 'the client to be blocked for longer than that')
      t.equal(served.desk.ends.length, 0)
      socket.on('data', (chunk: Buffer) => (got += chunk.length)).resume()
      await until(() => got === size, 'the rest')
      const silent = performance.now()
      await ended(served)
      t.equal(served.desk.ends[0]!.reason, 'backend-idle')
      t.ok(performance.now() - silent >= 200, 'not at once')
      socket.destroy()
    })

    await behaviour(t, 'idle is counted from the last byte, and never early', async (t) => {
      const address = await backend(t, (socket) => socket.resume())
      for (const [side, spec] of [
        ['client', { clientIdleMs: 300 }],
        ['backend', { backendIdleMs: 300 }],
      ] as const) {
        const served = await serve(plane, to(address), spec)
        const sockets = await Promise.all(Array.from({ length: 20 }, () => open(served.port)))
        let last = 0
        for (let i = 0; i < 8; i++) {
          await new Promise((resolve) => setTimeout(resolve, 60))
          last = performance.now()
          for (const socket of sockets) socket.write('.')
        }
        const times: number[] = []
        await until(() => {
          while (times.length < served.desk.ends.length) times.push(performance.now() - last)
          return times.length === 20
        }, 'the ends')
        t.ok(
          served.desk.ends.every(({ reason, tx }) => reason === `${side}-idle` && tx === 8),
          side,
        )
        t.ok(Math.min(...times) >= 300, `after ${Math.min(...times)} ms`)
        for (const socket of sockets) socket.destroy()
      }
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

    await behaviour(t, 'a flow whose backend has ended and whose client says nothing ends', async (t) => {
      const address = await backend(t, (socket) => socket.resume().end())
      const served = await serve(plane, to(address), { halfCloseMs: 250 })
      const socket = (await open(served.port)).resume()
      drip(socket, 4, 100, false)
      await ended(served)
      t.match(served.desk.ends[0], { reason: 'half-close-timeout', rx: 0, tx: 4 })
      t.ok(served.desk.ends[0]!.durationMs >= 550)
      socket.destroy()
    })

    await behaviour(t, 'an answer to a flow that has just ended is paid back by its end', async (t) => {
      const there: { served?: Served } = {}
      const served = (there.served = await serve(plane, {
        arrived: () => ({ later: true }),
        ended: ({ client }) => {
          const other = there.served!.desk.arrivals.find(({ flow }) => flow !== client.flow)!
          if (there.served!.desk.ends.length === 1)
            there.served!.answer(other.flow, dial({ host: '127.0.0.1', port: 1 }))
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
      const ends = served.desk.ends.map((end) => `${end.reason} ${end.backend} ${end.connectMs >= 0}`)
      t.same(ends.sort(), ['backend-lost 1 false', 'backend-lost 1 true'])
      t.equal(served.listening.flows, 1)
      second.go()
      await second.done
      second.close()
    })

    await behaviour(t, 'a listening that has stopped drops nobody of the one after it', async (t) => {
      const stopped = await serve(plane, {})
      await stopped.listening.stop('shutdown')
      const server = await peer('accept', 'write "a"', 'read 1', 'write "b"', 'expect eof')
      const served = await serve(plane, to(server.address))
      const client = await peer(`connect ${served.at}`, 'read 1', 'hold', 'write "x"', 'read 1', 'shutdown')
      await until(() => served.listening.rx(0) === 1)
      stopped.listening.drop(0, 'backend-lost')
      client.go()
      await Promise.all([client.done, server.done, ended(served)])
      t.match(served.desk.ends[0], { reason: 'client-closed', rx: 2, tx: 1 })
    })

    await behaviour(t, 'dropping a row ends thousands of flows, each once', async (t) => {
      const count = 2_000
      const address = await backend(t, (socket) => socket.resume())
      const served = await serve(plane, {
        arrived: ({ flow }) => {
          if (flow % 10 === 0) return { later: true }
          return flow % 10 < 3 ? dial(address, { backend: 2 }) : dial(full, { backend: 1, timeoutMs: 0 })
        },
      })
      const sockets: Socket[] = []
      while (sockets.length < count)
        sockets.push(...(await Promise.all(Array.from({ length: 100 }, () => open(served.port)))))
      await until(() => served.desk.arrivals.length === count)
      await until(() => served.listening.connects(2) === count / 5)
      t.equal(served.listening.flows, count)
      served.listening.drop(1, 'backend-lost')
      await ended(served, (count * 7) / 10)
      t.ok(served.desk.ends.every(({ reason, backend }) => reason === 'backend-lost' && backend === 1))
      served.listening.drop(2, 'killed')
      await ended(served, (count * 9) / 10)
      t.equal(served.listening.flows, count / 10, 'those without a row stay')
      for (const socket of sockets) socket.destroy()
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

    await behaviour(t, 'stop ends flows that are blocked, half closed, or full of first bytes', async (t) => {
      const taken: Socket[] = []
      const address = await backend(t, (socket) => void taken.push(socket.pause()))
      const first = { atLeast: 60_000, atMost: 65_536, ms: 0 }
      let waits = false
      const served = await serve(plane, { arrived: () => (waits ? { wait: first } : dial(address)) })
      const sockets: Socket[] = []
      for (let i = 1; i <= 12; i++) {
        sockets.push(await open(served.port))
        await until(() => taken.length === i)
      }
      for (const [i, socket] of sockets.entries()) {
        // Backends and clients that nobody reads, then those that have ended, or both.
        if (i < 4) taken[i]!.write(Buffer.alloc(16 << 20))
        if (i % 4 === 0) socket.write(Buffer.alloc(16 << 20))
        if (i >= 4 && i < 8) socket.end('bye')
        if (i >= 8) taken[i]!.end('bye')
      }
      waits = true
      for (let i = 0; i < 4; i++) {
        sockets.push(await open(served.port))
        sockets.at(-1)!.write(Buffer.alloc(50_000))
      }
      await until(() => served.desk.arrivals.length === 16)
      await settled(() => served.listening.rx(0) + served.listening.tx(0))
      t.same(served.desk.ends, [])
      await served.listening.stop('shutdown')
      t.equal(served.desk.ends.length, 16)
      t.ok(served.desk.ends.every(({ reason }) => reason === 'shutdown'))
      for (const socket of sockets) socket.destroy()
    })

    await behaviour(t, 'IPv6 is listened on and dialled', { skip: NO_IPV6 !== false }, async (t) => {
      const server = createServer((socket) => socket.end(`to ${socket.remoteAddress}`)).listen(0, '::1')
      await once(server, 'listening')
      t.teardown(() => server.close())
      const address = { host: '::1', port: (server.address() as AddressInfo).port }
      const served = await serve(plane, to(address), { binds: [{ host: '::1', port: 0 }] })
      t.match(served.at, /^\[::1\]:\d+$/)
      const client = await open(served.port, '::1')
      const { localPort } = client
      t.equal(await text(client), 'to ::1')
      client.end()
      await ended(served)
      t.match(served.desk.arrivals[0], {
        ip: '::1',
        port: localPort,
        localIp: '::1',
        localPort: served.port,
      })
    })

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

  await audited(t)
})

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

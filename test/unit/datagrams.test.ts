// A server of datagrams on a plane without sockets, and the parts only such a server has.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import type { Test } from 'tap'
import { scrape } from '../../src/api/scrape.ts'
import { readServer } from '../../src/config/read.ts'
import type { FlowEnd } from '../../src/plane/plane.ts'
import { portablePlane } from '../../src/plane/portable/plane.ts'
import { MOST_ID, readLongHeader, readShortHeader } from '../../src/plane/quic.ts'
import { buildSockets } from '../../src/server/build.ts'
import { QuicIds } from '../../src/server/quicids.ts'
import { SessionBudget } from '../../src/server/sessionbudget.ts'
import { FakeClock } from '../support/clock.ts'
import { FakePlane } from '../support/fakeplane.ts'
import { logged, statsOf } from '../support/observed.ts'
import { clientInitial, longHeader, retry, serverInitial, shortHeader } from '../support/quic.ts'
import { running } from '../support/running.ts'

const hex = (bytes: Uint8Array | undefined) => bytes && Buffer.from(bytes).toString('hex')

t.test('ids of QUIC headers', async (t) => {
  t.test('those of the packets in RFC 9001', async (t) => {
    const ids = (bytes: Uint8Array) => {
      const { version, destination, source } = readLongHeader(bytes)!
      return [version, hex(destination), hex(source)]
    }
    t.same(ids(clientInitial), [1, '8394c8f03e515708', ''])
    t.same(ids(serverInitial), [1, '', 'f067a5502a4262b5'])
    t.same(ids(retry), [1, '', 'f067a5502a4262b5'])
  })

  t.test('both of the greatest length', async (t) => {
    const [destination, source] = [Buffer.alloc(20, 1), Buffer.alloc(20, 2)]
    const { destination: to, source: from } = readLongHeader(longHeader(destination, source))!
    t.same([hex(to), hex(from)], [hex(destination), hex(source)])
    t.equal(readLongHeader(longHeader(Buffer.alloc(21))), undefined)
    t.equal(readLongHeader(longHeader(destination, Buffer.alloc(21))), undefined)
  })

  t.test('what is cut off has none', async (t) => {
    const whole = longHeader(Buffer.alloc(8, 1), Buffer.alloc(5, 2)).subarray(0, 20)
    t.ok(readLongHeader(whole))
    for (let length = 0; length < 20; length++) t.equal(readLongHeader(whole.subarray(0, length)), undefined)
  })

  t.test('a short one, of the length somebody knows', async (t) => {
    const id = Buffer.from('0102030405', 'hex')
    t.equal(hex(readShortHeader(shortHeader(id), 5)), '0102030405')
    t.equal(readShortHeader(shortHeader(id).subarray(0, 5), 5), undefined)
    t.equal(readShortHeader(clientInitial, 5), undefined)
    t.equal(readShortHeader(Buffer.alloc(0), 0), undefined)
    t.equal(readLongHeader(shortHeader(id)), undefined)
  })
})

t.test('where QUIC connections are', async (t) => {
  const here = { backend: 1, host: '10.0.0.1' }
  const there = { backend: 2, host: '10.0.0.2' }
  const id = (value: number, length = 8) => Buffer.alloc(length, value)

  t.test('ids of all lengths are found, the longest first', async (t) => {
    const ids = new QuicIds(100)
    for (let length = 1; length <= MOST_ID; length++)
      ids.learn(longHeader(id(0), id(7, length)), { backend: length, host: '' })
    t.equal(ids.read(shortHeader(id(7, 20))).home?.backend, 20)
    t.equal(ids.read(Buffer.concat([Buffer.from([0x40]), id(7, 5), id(1, 30)])).home?.backend, 5)
    t.equal(ids.read(shortHeader(id(8, 20))).home, undefined)
  })

  t.test('what a client chose is nothing that a short header could mean', async (t) => {
    const ids = new QuicIds(100)
    ids.choose(id(3), here)
    t.equal(ids.read(longHeader(id(3))).home, here)
    t.equal(ids.read(shortHeader(id(3))).home, undefined)
  })

  t.test('nothing is learnt from no id, nor from a list of versions', async (t) => {
    const ids = new QuicIds(100)
    ids.learn(longHeader(id(1)), here)
    const versions = longHeader(id(1), id(2))
    versions.fill(0, 1, 5)
    ids.learn(versions, here)
    ids.learn(shortHeader(id(1)), here)
    t.equal(ids.size, 0)
  })

  t.test('an id too short for a client to choose is nothing to elect by', async (t) => {
    const ids = new QuicIds(100)
    t.same(ids.read(longHeader(id(1, 7))), { home: undefined, key: undefined })
    t.equal(hex(ids.read(longHeader(id(1))).key), hex(id(1)))
    ids.learn(longHeader(id(0), id(1, 7)), here)
    t.same(ids.read(longHeader(id(1, 7))), { home: here, key: undefined })
  })

  t.test('the one unused for longest goes, and clients push out none that a backend issued', async (t) => {
    const ids = new QuicIds(2)
    ids.learn(longHeader(id(0), id(1)), here)
    ids.learn(longHeader(id(0), id(2)), here)
    for (let i = 10; i < 20; i++) ids.choose(id(i), there)
    t.equal(ids.size, 4)
    t.equal(ids.read(shortHeader(id(1))).home, here)
    ids.learn(longHeader(id(0), id(3, 5)), there)
    t.equal(ids.read(shortHeader(id(1))).home, here)
    t.equal(ids.read(shortHeader(id(2))).home, undefined)
    t.equal(ids.read(shortHeader(id(3, 5))).home, there)
    t.equal(ids.read(longHeader(id(19))).home, there)
    t.equal(ids.read(longHeader(id(10))).home, undefined)
    ids.learn(longHeader(id(0), id(1)), there)
    t.equal(ids.read(shortHeader(id(1))).home, there, 'the last one to issue it has it')
  })
})

t.test('descriptors, shared by the sessions of several servers', async (t) => {
  /** What each of them may have that asked. */
  const divided = (asked: readonly number[], limit: number) => {
    const budget = new SessionBudget(limit)
    const shares: number[] = []
    for (const [i, each] of asked.entries()) budget.join(each, (most) => (shares[i] = most))
    return shares
  }

  t.test(
    'everyone gets what he asks for while there is enough, else as much as others who want more',
    async (t) => {
      for (const [asked, limit, shares] of [
        [[65_536], 20_000, [10_000]],
        [[500], 20_000, [500]],
        [[65_536], Infinity, [65_536]],
        [[65_536, 65_536, 65_536], 20_000, [4968, 4968, 4968]],
        [[65_536, 500, 65_536], 20_000, [7202, 500, 7202]],
        [[3333, 3333, 3334], 20_000, [3333, 3333, 3334]],
        [[2 ** 40, 1, 9, 12], 64, [14, 1, 9, 12]],
        [[65_536, 5], 1, [1, 1]],
        [[7, 7, 7], 4, [1, 1, 1]],
      ] as const)
        t.same(divided(asked, limit), shares, `${asked.join()} of ${limit}`)
    },
  )

  t.test('nobody could have one more, and together they have no more than there is', async () => {
    const asked = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 8 })
    fc.assert(
      fc.property(asked, fc.integer({ min: 16, max: 400 }), (asked, limit) => {
        const shares = divided(asked, limit)
        const level = Math.max(...shares)
        const { most: half, total } = new SessionBudget(limit)
        const most = Math.min(Math.max(...asked), half)
        const sum = (most: number) => asked.reduce((all, each) => all + Math.min(each, most), 0)
        assert.deepEqual(
          shares,
          asked.map((each) => Math.min(each, level)),
        )
        assert.ok(half <= limit / 2 && total < limit && level <= most && sum(level) <= total)
        assert.ok(level === most || sum(level + 1) > total)
      }),
    )
  })

  t.test('who comes and goes changes what the others have; who keeps his share hears nothing', async (t) => {
    const budget = new SessionBudget(200)
    const heard: string[] = []
    const join = (name: string, asked: number) =>
      budget.join(asked, (most) => heard.push(`${name} ${most} of ${budget.servers}`))
    join('small', 20)
    const big = join('big', 90)
    const second = join('second', 90)
    big()
    big()
    second()
    t.same(heard, ['small 20 of 1', 'big 90 of 2', 'big 46 of 3', 'second 46 of 3', 'second 90 of 2'])
    t.equal(budget.servers, 1)
  })
})

const server = (more: object = {}, list = ['127.0.0.1:1', '127.0.0.2:1']) => ({
  bind: '127.0.0.1:53',
  protocol: 'udp',
  discovery: { kind: 'static', static_list: list },
  ...more,
})

/** The server `web` on a fake plane and clock. */
async function started(t: Test, settings: object = {}) {
  const plane = new FakePlane()
  const clock = new FakeClock()
  const ends: (FlowEnd & { datagrams: boolean | undefined })[] = []
  const manager = await running(
    t,
    { servers: { web: server(settings) } },
    { plane, clock, accessLog: (end, { datagrams }) => ends.push({ ...end, datagrams }) },
  )
  const web = manager.servers.get('web')!
  const session = () => {
    const flow = plane.arrive('192.0.2.1')
    while (plane.flush());
    plane.dialResult(flow, 'ok')
    return flow
  }
  const settle = () => {
    while (plane.flush());
  }
  return { plane, clock, manager, web, ends, session, settle }
}

t.test('a server of datagrams', async (t) => {
  t.test('asks the plane for what its settings say', async (t) => {
    const { plane } = await started(t, {
      client_idle_timeout: '5s',
      on_backend_loss: 'keep',
      udp: {
        ...{ max_requests: 2, max_responses: 3, session_key: 'ip', max_sessions: 17, receive_buffer: 4096 },
        transparent: true,
      },
      access: { default: 'deny', rules: ['allow 192.0.2.0/24'] },
    })
    const { access, ...datagrams } = plane.spec.datagrams!
    t.same(datagrams, {
      ...{ sessionKey: 'ip', maxRequests: 2, maxResponses: 3, maxSessions: 17, receiveBuffer: 4096 },
      ...{ tellUnreachable: false, glimpses: 0 },
    })
    t.same([...access!.ipv4.words], [0, 0xc0000200, 0xc0000300])
    t.match(plane.spec, { clientIdleMs: 5000, backendIdleMs: 60_000, sockets: { transparent: true } })
  })

  t.test('has defaults, and says those that end sessions', async (t) => {
    const plane = new FakePlane()
    const manager = await running(t, {}, { plane })
    const log = logged(t)
    await manager.create('web', server({ backend_idle_timeout: '0', balance: 'maglev' }))
    t.match(plane.spec, {
      clientIdleMs: 60_000,
      backendIdleMs: 0,
      datagrams: { sessionKey: 'address', maxRequests: 0, tellUnreachable: true, glimpses: 0 },
    })
    t.equal(plane.spec.datagrams!.access, undefined)
    const said = await log()
    t.match(said, 'web: client_idle_timeout is not set: a session ends after 60s of silence')
    t.notMatch(said, 'backend_idle_timeout is not set')
    t.notMatch(said, 'backend_connection_timeout')
    await manager.create('syslog', server({ udp: { max_requests: 1 } }))
    t.notMatch(await log(), 'syslog: client_idle_timeout', 'a session that ends at once cannot be idle')
  })

  t.test('has fewer sessions than it asks for when there are few descriptors, and says so', async (t) => {
    const plane = new FakePlane()
    const manager = await running(t, {}, { plane })
    const log = logged(t)
    await manager.create('web', server({ udp: { max_sessions: 2 ** 40 } }))
    const most = plane.spec.datagrams!.maxSessions
    t.ok(most < 2 ** 40)
    t.match(await log(), `web: max_sessions is ${most}, half of what ulimit -n allows`)
  })

  t.test('several share what descriptors there are, and hear of those that come and go', async (t) => {
    const planes = Object.fromEntries([...'abcde'].map((name) => [name, new FakePlane()]))
    const manager = await running(
      t,
      { servers: { a: server(), b: server({ udp: { max_sessions: 400 } }) } },
      {
        planes: { usual: 'native', of: (name) => planes[name]! },
        sessions: new SessionBudget(1000),
      },
    )
    const asked = (name: string) => planes[name]!.spec.datagrams!.maxSessions
    const limits = () =>
      Object.fromEntries([...'abcde'].map((name) => [name, planes[name]!.limits.splice(0)]))
    const none = { a: [], b: [], c: [], d: [], e: [] }
    t.same([asked('a'), asked('b')], [327, 327], 'each knows of the other before it listens')
    t.same(limits(), none)

    const log = logged(t)
    await manager.create('c', server({ udp: { max_sessions: 100 } }))
    t.equal(asked('c'), 100)
    t.same(limits(), { ...none, a: [277], b: [277] })
    await manager.create('d', server({ udp: { max_requests: 1 } }))
    await manager.create('e', server({ protocol: 'tcp' }))
    t.equal(asked('d'), 65_536, 'fire and forget takes no part')
    t.same(limits(), none)
    await manager.remove('a')
    t.same(limits(), { ...none, b: [400] })
    await manager.remove('c')
    await manager.create('a', server({ udp: { max_sessions: 400 } }))
    t.equal(asked('a'), 327)
    t.same(limits(), { ...none, b: [327] })
    await manager.stop(0, 'shutdown')
    t.same(limits(), none, 'who stops is left alone')

    const share = 'servers share three quarters of what ulimit -n allows'
    const said = [...(await log()).matchAll(/(INFO|WARN).* (\w: max_sessions .*)/g)]
    t.same(
      said.map(([, level, text]) => `${level} ${text}`),
      [
        `INFO a: max_sessions is 277: 3 ${share}`,
        `INFO b: max_sessions is 277: 3 ${share}`,
        'INFO b: max_sessions is 400 again',
        `INFO b: max_sessions is 327: 2 ${share}`,
        `WARN a: max_sessions is 327: 2 ${share}`,
      ],
    )
  })

  t.test('who cannot listen gives its share back', async (t) => {
    const plane = new FakePlane()
    const failing = Object.assign(new FakePlane(), { listen: () => Promise.reject(new Error('no')) })
    const manager = await running(
      t,
      { servers: { web: server() } },
      {
        planes: { usual: 'native', of: (name) => (name === 'web' ? plane : failing) },
        sessions: new SessionBudget(1000),
      },
    )
    await t.rejects(manager.create('other', server()))
    t.equal(plane.limits.at(-1), 500)
  })

  t.test('what comes while it begins to listen is heard of afterwards', async (t) => {
    const plane = new FakePlane()
    const sessions = new SessionBudget(1000)
    const listen = plane.listen.bind(plane)
    plane.listen = (spec, desk) => {
      sessions.join(300, () => {})
      return listen(spec, desk)
    }
    await running(t, { servers: { web: server() } }, { plane, sessions })
    t.equal(plane.spec.datagrams!.maxSessions, 500)
    t.same(plane.limits, [354])
  })

  t.test('is transparent on the native plane only', async (t) => {
    const { settings } = readServer('web', server({ udp: { transparent: true } }), {}).server
    t.throws(() => buildSockets('web', settings, 'portable'), {
      code: 'UNSUPPORTED',
      message: 'server web needs the native plane for udp.transparent, and has the portable one',
    })
    t.match(buildSockets('web', settings, 'native'), { transparent: true, source: '', mark: 0 })
    const manager = await running(t, {}, { plane: portablePlane() })
    await t.rejects(manager.create('web', server({ udp: { transparent: true } })), { code: 'UNSUPPORTED' })
  })

  t.test('moves the sessions of a backend that is removed, or ends or keeps them', async (t) => {
    for (const [on_backend_loss, reason] of [
      ['move', 'moved'],
      ['close', 'backend-lost'],
      ['keep', undefined],
    ]) {
      const { session, settle, web, ends } = await started(t, { on_backend_loss })
      session()
      await web.pool.update([])
      settle()
      t.same(
        ends.map((end) => end.reason),
        reason ? [reason] : [],
      )
    }
  })

  t.test('waits a second for its sessions when it stops, however long it may', async (t) => {
    const { session, settle, clock, web, ends } = await started(t)
    session()
    let stopped = false
    const stopping = web.stop(30_000, 'shutdown').then(() => (stopped = true))
    await clock.advance(999)
    t.notOk(stopped)
    await clock.advance(1)
    settle()
    await stopping
    t.match(ends, [{ reason: 'shutdown', datagrams: true }])
  })

  t.test('counts datagrams', async (t) => {
    const { plane, session, settle, manager, ends } = await started(t, { balance: 'roundrobin' })
    plane.finish(session(), 'client-idle', { rx: 70, tx: 30, requests: 3, responses: 2 })
    plane.finish(session(), 'max-responses', { rx: 7, tx: 3, requests: 1, responses: 1 })
    settle()
    plane.dropped = { queue: 1, access: 2, undecided: 3, draining: 4, send: 5 }
    t.match(ends, [{ requests: 3, responses: 2 }, {}])
    const stats = await statsOf(manager)
    t.match(stats, { rx_total: 77, requests_total: 4, responses_total: 3, dropped: plane.dropped })
    t.match(
      stats.backends.map((each) => each.stats),
      [
        { total_connections: 1, rx: 70, requests: 3, responses: 2 },
        { total_connections: 1, rx: 7, requests: 1, responses: 1 },
      ],
    )

    const text = Buffer.concat([...(await scrape(manager, { version: '1', gobetween: true }))]).toString()
    for (const line of [
      'fairlead_server_received_datagrams_total{server="web"} 3',
      'fairlead_server_sent_datagrams_total{server="web"} 4',
      'fairlead_backend_received_datagrams_total{server="web",backend="127.0.0.1:1"} 2',
      'fairlead_backend_sent_datagrams_total{server="web",backend="127.0.0.1:1"} 3',
      'fairlead_server_dropped_datagrams_total{server="web",reason="queue"} 1',
      'fairlead_server_dropped_datagrams_total{server="web",reason="access"} 2',
      'fairlead_server_dropped_datagrams_total{server="web",reason="undecided"} 3',
      'fairlead_server_dropped_datagrams_total{server="web",reason="draining"} 4',
      'fairlead_server_dropped_datagrams_total{server="web",reason="send"} 5',
    ])
      t.ok(text.includes(`\n${line}\n`), line)
  })

  t.test('a server of connections says nothing of datagrams', async (t) => {
    const { plane, manager, session, settle, ends } = await started(t, { protocol: 'tcp' })
    plane.finish(session(), 'client-closed')
    settle()
    t.match(ends, [{ datagrams: false }])
    t.equal(plane.spec.datagrams, undefined)
    const stats = await statsOf(manager)
    t.notOk('requests_total' in stats || 'dropped' in stats || 'requests' in stats.backends[0]!.stats)
    const text = Buffer.concat([...(await scrape(manager, { version: '1', gobetween: true }))]).toString()
    t.notMatch(text, /^[^#]*datagrams/m)
  })

  t.test('follows QUIC connections where it hashes their ids', async (t) => {
    const { plane, settle, ends } = await started(t, {
      balance: 'iphash1',
      hash_key: 'quic-connection-id',
    })
    t.equal(plane.spec.datagrams!.glimpses, 4)
    const begin = (bytes: Uint8Array, ip: string) => {
      const flow = plane.arrive(ip)
      plane.send(flow, bytes)
      settle()
      plane.dialResult(flow, 'ok')
      return flow
    }
    const first = begin(clientInitial, '192.0.2.1')
    plane.glimpse(first, serverInitial)
    settle()
    const rebound = Array.from({ length: 8 }, (_, i) =>
      begin(shortHeader(Buffer.from('f067a5502a4262b5', 'hex')), `198.51.100.${i}`),
    )
    for (const flow of [first, ...rebound]) plane.finish(flow, 'client-idle')
    settle()
    t.equal(new Set(ends.map(({ backend }) => backend)).size, 1)
  })

  t.test('looks into no datagram where it does not hash', async (t) => {
    const { plane } = await started(t, { balance: 'roundrobin', hash_key: 'quic-connection-id' })
    t.equal(plane.spec.datagrams!.glimpses, 0)
    plane.arrive('192.0.2.1')
    plane.flush()
    t.equal(plane.dials.length, 1)
  })
})

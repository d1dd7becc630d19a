// The small parts of a server: room, queue, notes, histograms, the access log's line.

import t from 'tap'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Bursts } from '../../src/core/burst.ts'
import { callerCeiling, descriptorCeiling, descriptorLimit } from '../../src/core/descriptors.ts'
import type { FlowEnd } from '../../src/plane/plane.ts'
import { openAccessLog } from '../../src/server/accesslog.ts'
import { Histogram } from '../../src/server/histogram.ts'
import { describeNote, packNote, unpackNote } from '../../src/server/note.ts'
import { Queue } from '../../src/server/queue.ts'
import { Room } from '../../src/server/room.ts'
import { FakeClock } from '../support/clock.ts'
import { until } from '../support/until.ts'

const OPEN = { maxConnections: 0, maxPerClient: 0, ratePerClient: 0 }

t.test('room', async (t) => {
  t.test('a full server lets nobody in until somebody leaves', async (t) => {
    const room = new Room({ ...OPEN, maxConnections: 2 }, new FakeClock())
    t.same([room.enter('a'), room.enter('b'), room.enter('c')], [undefined, undefined, 'server-full'])
    room.leave('a')
    t.equal(room.enter('c'), undefined)
    t.equal(room.size, 2)
  })

  t.test('a client at its own limit does not keep others out', async (t) => {
    const room = new Room({ ...OPEN, maxPerClient: 1 }, new FakeClock())
    t.same([room.enter('a'), room.enter('a'), room.enter('b')], [undefined, 'rate', undefined])
    room.leave('a')
    t.equal(room.enter('a'), undefined)
  })

  t.test('a client may come as fast as its rate, and in a burst of one second', async (t) => {
    const clock = new FakeClock()
    const room = new Room({ ...OPEN, ratePerClient: 2 }, clock)
    t.same(
      [1, 2, 3].map(() => room.enter('a')),
      [undefined, undefined, 'rate'],
    )
    await clock.advance(500)
    t.same(
      [1, 2].map(() => room.enter('a')),
      [undefined, 'rate'],
    )
    t.equal(room.size, 3, 'a client that was too fast takes no room')
  })

  t.test('clients of a unix listener have no address to be limited by', async (t) => {
    const room = new Room({ maxConnections: 3, maxPerClient: 1, ratePerClient: 1 }, new FakeClock())
    t.same(
      [1, 2, 3, 4].map(() => room.enter('')),
      [undefined, undefined, undefined, 'server-full'],
    )
    room.leave('')
    t.equal(room.enter(''), undefined)
  })

  t.test('a rate below one a second still lets the first one in', async (t) => {
    const clock = new FakeClock()
    const room = new Room({ ...OPEN, ratePerClient: 0.1 }, clock)
    t.equal(room.enter('a'), undefined)
    t.equal(room.enter('a'), 'rate')
    await clock.advance(10_000)
    t.equal(room.enter('a'), undefined)
  })
})

t.test('queue', async (t) => {
  const flow = (id: number) => ({ client: { flow: id } })

  t.test('first come, first served', async (t) => {
    const queue = new Queue(1000, new FakeClock(), () => {})
    queue.add(flow(1))
    queue.add(flow(2))
    t.same([...queue], [flow(1), flow(2)])
    queue.remove(1)
    t.same([...queue], [flow(2)])
  })

  t.test('each one waits its own time and no longer', async (t) => {
    const clock = new FakeClock()
    const expired: number[] = []
    const queue = new Queue(1000, clock, (each: { client: { flow: number } }) =>
      expired.push(each.client.flow),
    )
    queue.add(flow(1))
    await clock.advance(600)
    queue.add(flow(2))
    await clock.advance(399)
    t.same(expired, [])
    await clock.advance(1)
    t.same(expired, [1])
    await clock.advance(599)
    t.same(expired, [1])
    await clock.advance(1)
    t.same(expired, [1, 2])
    t.equal(clock.pending, 0, 'no timer is left')
  })

  t.test('a queue that was empty for a while times the next one anew', async (t) => {
    const clock = new FakeClock()
    const expired: number[] = []
    const queue = new Queue(1000, clock, (each: { client: { flow: number } }) =>
      expired.push(each.client.flow),
    )
    queue.add(flow(1))
    await clock.advance(500)
    queue.remove(1)
    queue.add(flow(2))
    await clock.advance(999)
    t.same(expired, [])
    await clock.advance(1)
    t.same(expired, [2])
  })

  t.test('closing forgets everybody', async (t) => {
    const clock = new FakeClock()
    const queue = new Queue(1000, clock, () => t.fail('nobody expires'))
    queue.add(flow(1))
    queue.close()
    await clock.advance(5000)
    t.equal(queue.size, 0)
    t.equal(clock.pending, 0)
  })
})

t.test('notes', async (t) => {
  t.test('come back as they were', async (t) => {
    const note = { how: 'queued', redispatches: 3, endpoint: 7, priority: 500 } as const
    t.same(unpackNote(packNote(note)), note)
  })
  t.test('what does not fit is cut to the largest', async (t) => {
    const note = packNote({ how: 'elected', redispatches: 99, endpoint: 999, priority: 1e6 })
    t.same(unpackNote(note), { how: 'elected', redispatches: 15, endpoint: 255, priority: 65535 })
  })
  t.test('say why in words', async (t) => {
    const plain = { how: 'elected', redispatches: 0, endpoint: 0, priority: 1 } as const
    t.equal(describeNote(packNote(plain), 'iphash'), 'iphash')
    t.equal(describeNote(packNote({ ...plain, how: 'only-one' }), 'iphash'), 'only-one')
    t.equal(
      describeNote(packNote({ ...plain, redispatches: 2, priority: 3 }), 'weight'),
      'weight;redispatch=2;priority=3',
    )
  })
})

t.test('a histogram counts each value under the first bound it does not exceed', async (t) => {
  const histogram = new Histogram([1, 10])
  for (const ms of [0.5, 1, 1.1, 10, 11]) histogram.record(ms)
  t.same([...histogram.counts], [2, 2, 1])
  t.equal(histogram.total, 5)
  t.equal(histogram.sumMs, 23.6)
})

t.test('a burst of the same line is one line, and the rest is counted', async (t) => {
  const clock = new FakeClock()
  const lines: string[] = []
  const bursts = new Bursts((line) => lines.push(line), clock)
  for (let i = 0; i < 100; i++) bursts.say('full', () => 'full')
  bursts.say('other', () => 'other')
  t.same(lines, ['full', 'other'])
  await clock.advance(10_000)
  bursts.say('full', () => 'full')
  t.same(lines.slice(2), ['full (99 more like it before)'])
})

t.test('a burst that goes on is told of once a minute', async (t) => {
  const clock = new FakeClock()
  const lines: string[] = []
  const bursts = new Bursts((line) => lines.push(line), clock)
  for (let second = 0; second <= 61; second++) {
    bursts.say('full', () => 'full')
    await clock.advance(1000)
  }
  t.equal(lines.length, 2)
  t.match(lines[1], /^full \(60 more like it within a minute\)$/)
})

t.test('descriptors: a reserve is kept, and never more than a quarter', async (t) => {
  t.equal(descriptorCeiling(20_000), 20_000 - 128)
  t.equal(descriptorCeiling(100), 75)
  t.ok(callerCeiling(20_000) > descriptorCeiling(20_000), 'the API is there when clients are refused')
  t.ok(descriptorLimit() > 0)
})

t.test('the access log', async (t) => {
  const end: FlowEnd = {
    client: { flow: 1, ip: '192.0.2.7', port: 4711, localIp: '::1', localPort: 80, bind: 0, fd: 20 },
    reason: 'client-closed',
    backend: 0,
    note: packNote({ how: 'elected', redispatches: 1, endpoint: 0, priority: 1 }),
    rx: 1234,
    tx: 56,
    waitedMs: 0.1234567,
    connectMs: 1.5,
    firstByteMs: -1,
    durationMs: 2000,
  }
  const context = { server: 'web', balance: 'weight', backend: '10.0.0.1:80' }
  const write = async (format: string, context_ = context, end_ = end) => {
    const file = join(t.testdir(), 'access.log')
    openAccessLog(file, format, () => 1_700_000_000_000)(end_, context_)
    await until(() => readFileSync(file, 'utf8').endsWith('\n'), 'the line')
    return readFileSync(file, 'utf8')
  }

  t.test('says it all in one JSON object', async (t) => {
    t.same(JSON.parse(await write('json')), {
      time: '2023-11-14T22:13:20.000Z',
      server: 'web',
      client: '192.0.2.7:4711',
      local: '[::1]:80',
      backend: '10.0.0.1:80',
      why: 'weight;redispatch=1',
      rx: 1234,
      tx: 56,
      waited_ms: 0.123,
      connect_ms: 1.5,
      first_byte_ms: null,
      duration_ms: 2000,
      reason: 'client-closed',
    })
  })

  t.test('says it all in one line of text', async (t) => {
    t.match(
      await write('text'),
      /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d web 192\.0\.2\.7:4711 \[::1\]:80 10\.0\.0\.1:80 weight;redispatch=1 rx=1234 tx=56 ms=0\.123\/1\.5\/-\/2000 client-closed\n$/,
    )
  })

  t.test('leaves out what a flow never had', async (t) => {
    const unix = { ...end, client: { ...end.client, ip: '', localIp: '' }, reason: 'queue-timeout' } as const
    t.match(await write('text', { ...context, backend: '' }, unix), / web - - - - rx=/)
  })
})

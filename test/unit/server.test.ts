// The small parts of a server: room, queue, notes, ramps, outliers, histograms, the access log's line.

import assert from 'node:assert/strict'
import t from 'tap'
import fc from 'fast-check'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { roundrobin } from '../../src/balance/kinds.ts'
import type { OutlierSettings } from '../../src/config/server.ts'
import { readDocument } from '../../src/config/read.ts'
import { found } from '../../src/core/backend.ts'
import { Bursts } from '../../src/core/burst.ts'
import { callerCeiling, descriptorCeiling, descriptorLimit } from '../../src/core/descriptors.ts'
import type { ConfigError } from '../../src/core/errors.ts'
import type { FlowEnd } from '../../src/plane/plane.ts'
import type { Backend } from '../../src/pool/backend.ts'
import { Pool } from '../../src/pool/pool.ts'
import { openAccessLog } from '../../src/server/accesslog.ts'
import { Histogram } from '../../src/server/histogram.ts'
import { describeNote, packNote, unpackNote } from '../../src/server/note.ts'
import { failureOf, Outliers } from '../../src/server/outliers.ts'
import { Queue } from '../../src/server/queue.ts'
import { Ramps } from '../../src/server/ramps.ts'
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

t.test('ramps', async (t) => {
  const ramping = (wholeMs: number) => {
    const clock = new FakeClock()
    const told: string[] = []
    const ramps = new Ramps(wholeMs, clock, ({ id }, share) => told.push(`${id} ${share.toFixed(2)}`))
    return { clock, told, ramps }
  }
  const one = { id: 1 } as Backend
  const two = { id: 2 } as Backend

  t.test('grow evenly to the whole, with one timer for all', async (t) => {
    const { clock, told, ramps } = ramping(10_000)
    ramps.leaves(one)
    ramps.returns(one)
    t.same(told.splice(0), ['1 0.05'], 'a little at once')
    await clock.advance(5_000)
    t.same(told.length, 10)
    t.equal(told.splice(0).at(-1), '1 0.50')
    ramps.leaves(two)
    ramps.returns(two)
    t.equal(clock.pending, 1)
    await clock.advance(5_000)
    t.ok(told.includes('1 1.00'))
    t.equal(told.splice(0).at(-1), '2 0.50')
    await clock.advance(5_000)
    t.equal(told.at(-1), '2 1.00')
    t.equal(clock.pending, 0, 'nobody ramps, nothing ticks')
  })

  t.test('are for those that come back, not for those that are new', async (t) => {
    const { clock, told, ramps } = ramping(10_000)
    ramps.returns(one)
    ramps.leaves(one)
    ramps.forget(one)
    ramps.returns(one)
    t.same(told, [])
    t.equal(clock.pending, 0)
  })

  t.test('begin anew for who goes and comes again', async (t) => {
    const { clock, told, ramps } = ramping(1_000)
    ramps.leaves(one)
    ramps.returns(one)
    await clock.advance(900)
    ramps.leaves(one)
    ramps.returns(one)
    t.equal(told.at(-1), '1 0.05')
    await clock.advance(500)
    t.equal(told.at(-1), '1 0.50')
  })

  t.test('end with their backend, and with the server', async (t) => {
    const { clock, told, ramps } = ramping(1_000)
    for (const each of [one, two]) {
      ramps.leaves(each)
      ramps.returns(each)
    }
    ramps.forget(one)
    told.length = 0
    await clock.advance(50)
    t.same(told, ['2 0.05'])
    ramps.stop()
    t.equal(clock.pending, 0)
  })

  t.test('are none without a time', async (t) => {
    const { told, ramps } = ramping(0)
    ramps.leaves(one)
    ramps.returns(one)
    t.same(told, [])
  })

  t.test('take the time they are given, and no tick of less than 50 ms', async (t) => {
    const { clock, told, ramps } = ramping(120)
    ramps.leaves(one)
    ramps.returns(one)
    await clock.advance(1_000)
    t.same(told, ['1 0.05', '1 0.42', '1 0.83', '1 1.00'])
  })
})

const OUTLIER: OutlierSettings = {
  consecutive_failures: 3,
  failures: ['refused', 'timeout', 'reset', 'empty'],
  ejection_time: 1_000,
  max_ejection_time: 2_500,
  max_ejected_percent: 50,
}

const over = (reason: FlowEnd['reason'], { rx = 0, tx = 0, connectMs = 1 } = {}) =>
  ({ reason, rx, tx, connectMs }) as FlowEnd

/** A pool of backends `0:1`, `1:1` … whose flows are watched; `checks` is whether they are checked too. */
async function watching(size: number, settings: Partial<OutlierSettings> = {}, checks = false) {
  const clock = new FakeClock()
  const events: string[] = []
  const balancer = roundrobin.create({}, { clock })
  const pool: Pool = new Pool(
    { balancer, weighted: false, random: () => 0, initiallyHealthy: true },
    {
      discovered: (backend) => pool.locate(backend, [backend.found.address]),
      undiscovered: (backend) => outliers.forget(backend),
      room: () => {},
    },
  )
  const asked: Backend[] = []
  const outliers: Outliers = new Outliers({ ...OUTLIER, ...settings }, clock, {
    counts: () => pool,
    recheck: (backend) => checks && asked.push(backend) > 0,
    ejected: (backend, ms, why) => {
      events.push(`${backend.text} out ${ms} ${why}`)
      pool.eject(backend, true)
    },
    returned: (backend) => {
      events.push(`${backend.text} back`)
      pool.eject(backend, false)
    },
  })
  const list = async (names: readonly number[]) => {
    await pool.update(names.map((name) => found({ host: String(name), port: 1 })))
    outliers.trim()
  }
  await list(Array.from({ length: size }, (_, i) => i))
  const get = (name: number) => [...pool.backends].find(({ text }) => text === `${name}:1`)
  const fails = (name: number, times = OUTLIER.consecutive_failures) => {
    for (let i = 0; i < times; i++) outliers.dialFailed(get(name)!, 'refused')
  }
  return { clock, pool, outliers, events, asked, list, get, fails }
}

t.test('whoever is ejected returns when nobody else is left, however that came', async (t) => {
  const gone = await watching(2, { max_ejected_percent: 50 })
  gone.fails(0)
  t.same(gone.events, ['0:1 out 1000 refused'])
  await gone.list([0])
  t.same(gone.events.slice(1), ['0:1 back'])
  const down = await watching(2, { max_ejected_percent: 50 })
  down.fails(0)
  down.pool.mark(down.get(1)!, false)
  down.outliers.trim()
  t.same(down.events.slice(1), ['0:1 back'])
})

t.test('what may be written of ejection, panic and slow start', async (t) => {
  const server = (more: object) => ({
    servers: { web: { bind: ':0', discovery: { kind: 'static', static_list: ['a:1'] }, ...more } },
  })
  const read = (more: object) => readDocument(server(more), 'the test').config.servers.get('web')!.settings
  const problems = (more: object) => {
    try {
      return read(more) && []
    } catch (error) {
      return (error as ConfigError).problems.map(({ path, message }) => `${path}: ${message}`)
    }
  }
  t.match(read({}), { outlier: undefined, slow_start: 0, panic_threshold: 0 })
  t.same(read({ outlier: {} }).outlier, {
    consecutive_failures: 5,
    failures: ['refused', 'timeout', 'reset'],
    ejection_time: 30_000,
    max_ejected_percent: 10,
  })
  t.match(read({ outlier: { max_ejected_percent: '12.5%' }, panic_threshold: '40', slow_start: '1m' }), {
    outlier: { max_ejected_percent: 12.5 },
    panic_threshold: 40,
    slow_start: 60_000,
  })
  t.match(problems({ outlier: { ejection_time: '1h', max_ejection_time: '5m' } }), [
    /outlier\.max_ejection_time: expected ejection_time or longer/,
  ])
  t.match(problems({ panic_threshold: 101, outlier: { failures: ['slow'], consecutive_failures: 0 } }), [
    /consecutive_failures: expected a whole number, 1 or more/,
    /failures\[0\]: expected one of refused, timeout, reset, empty/,
    /panic_threshold: expected a percentage, 0 to 100/,
  ])
})

t.test('outliers', async (t) => {
  t.test('what a flow says against its backend', async (t) => {
    t.equal(failureOf(over('backend-reset')), 'reset')
    t.equal(failureOf(over('backend-reset', { rx: 1 })), undefined, 'it had answered')
    t.equal(failureOf(over('backend-closed', { tx: 1 })), 'empty')
    t.equal(failureOf(over('backend-idle', { tx: 1 })), 'empty')
    t.equal(failureOf(over('backend-closed')), undefined, 'there was nothing to answer')
    t.equal(failureOf(over('client-closed')), undefined, 'a client that sends nothing and leaves')
    t.equal(failureOf(over('client-closed', { tx: 9 })), undefined)
    t.equal(failureOf(over('client-reset', { tx: 9 })), undefined)
    t.equal(failureOf(over('killed', { tx: 9 })), undefined)
    t.equal(failureOf(over('backend-reset', { connectMs: -1 })), undefined, 'a dial is told of as a dial')
  })

  t.test('it takes failures in a row, of dials or of flows', async (t) => {
    const { outliers, events, get, fails } = await watching(4)
    fails(0, 2)
    outliers.connected(get(0)!)
    fails(0, 2)
    t.same(events, [])
    outliers.answered(get(0)!)
    fails(0, 1)
    t.same(events.splice(0), ['0:1 out 1000 refused'], 'a byte breaks a row of flows, not one of dials')

    for (const end of [over('backend-reset'), over('backend-closed', { tx: 1 })]) outliers.ended(get(1)!, end)
    outliers.connected(get(1)!)
    outliers.ended(get(1)!, over('client-closed'))
    outliers.ended(get(1)!, over('backend-reset'))
    t.same(events, ['1:1 out 1000 reset'])
    t.same(outliers.ejections, { refused: 1, timeout: 0, reset: 1, empty: 0 })
  })

  t.test('only what is in the list counts', async (t) => {
    const { outliers, events, get, fails } = await watching(2, { failures: ['timeout', 'reset'] })
    fails(0, 9)
    for (let i = 0; i < 9; i++) outliers.ended(get(0)!, over('backend-closed', { tx: 1 }))
    t.same(events, [])
    for (let i = 0; i < 3; i++) outliers.dialFailed(get(0)!, 'timeout')
    t.same(events, ['0:1 out 1000 timeout'])
    t.same(outliers.ejections, { timeout: 1, reset: 0 })
  })

  t.test('without checks who is out returns by itself, each time later', async (t) => {
    const { clock, events, fails } = await watching(2)
    const times = []
    for (let i = 0; i < 4; i++) {
      fails(0)
      const began = clock.now()
      while (!events.includes('0:1 back')) await clock.advance(100)
      times.push(clock.now() - began)
      events.length = 0
    }
    t.same(times, [1_000, 2_000, 2_500, 2_500])
    await clock.advance(2_600)
    fails(0)
    t.same(events, ['0:1 out 1000 refused'], 'it has been in for longer than it was out')
  })

  t.test('with checks it returns when its time is over and a check has not failed', async (t) => {
    const { clock, pool, outliers, events, asked, get, fails } = await watching(2, {}, true)
    fails(0)
    events.length = 0
    outliers.checked(get(0)!, false)
    t.same(events, [], 'its time is not over')
    await clock.advance(1_000)
    t.same(asked, [get(0)])
    outliers.checked(get(0)!, true)
    await clock.advance(60_000)
    t.same(events, [], 'no check, no return')
    pool.mark(get(0)!, false)
    outliers.checked(get(0)!, false)
    t.same(events, ['0:1 back'])
    outliers.checked(get(0)!, false)
    t.equal(events.length, 1)
  })

  t.test('no more are out than may be, and one may be', async (t) => {
    const { events, fails } = await watching(10, { max_ejected_percent: 29 })
    for (let name = 0; name < 10; name++) fails(name)
    t.equal(events.length, 2)
    const few = await watching(3, { max_ejected_percent: 1 })
    for (let name = 0; name < 3; name++) few.fails(name)
    t.equal(few.events.length, 1)
    const none = await watching(3, { max_ejected_percent: 0 })
    none.fails(0)
    t.same(none.events, [])
  })

  t.test('who failed while there was no room is out with the next failure that finds some', async (t) => {
    const { clock, events, fails } = await watching(2)
    fails(0)
    fails(1, 5)
    await clock.advance(1_000)
    fails(1, 1)
    t.same(events, ['0:1 out 1000 refused', '0:1 back', '1:1 out 1000 refused'])
  })

  t.test('the last one that could be elected stays', async (t) => {
    const { pool, events, get, fails } = await watching(2, { max_ejected_percent: 100 })
    pool.mark(get(1)!, false)
    fails(0)
    t.same(events, [])
    pool.mark(get(1)!, true)
    fails(0, 1)
    t.equal(events.length, 1)
  })

  t.test('what fails while it is out, down or draining says nothing', async (t) => {
    const { clock, pool, events, get, fails } = await watching(4)
    pool.mark(get(0)!, false)
    fails(0, 9)
    pool.mark(get(0)!, true)
    pool.advise(get(1)!, { drain: true })
    fails(1, 9)
    t.same(events, [])
    fails(2, 9)
    await clock.advance(1_000)
    fails(2, 2)
    t.same(events, ['2:1 out 1000 refused', '2:1 back'])
  })

  t.test('who is undiscovered is forgotten', async (t) => {
    const { clock, events, list, get, fails } = await watching(4)
    fails(0)
    await list([1, 2, 3])
    t.equal(clock.pending, 0)
    await list([0, 1, 2, 3])
    t.equal(get(0)!.ejected, false)
    fails(0)
    t.same(events, ['0:1 out 1000 refused', '0:1 out 1000 refused'])
  })

  t.test('when the list shrinks, who has been out longest returns', async (t) => {
    const { events, list, fails } = await watching(6)
    fails(0)
    fails(1)
    fails(2)
    events.length = 0
    await list([0, 1, 2, 3])
    t.same(events, ['0:1 back'])
  })

  t.test('nothing is left when the server stops', async (t) => {
    const { clock, outliers, fails } = await watching(4)
    fails(0)
    fails(1)
    outliers.stop()
    t.equal(clock.pending, 0)
  })

  t.test('whatever happens: never too many, never too soon, and nobody for ever', async () => {
    const name = fc.nat(9)
    const step = fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({
          do: fc.constant('dial' as const),
          name,
          times: fc.integer({ min: 1, max: 4 }),
        }),
      },
      {
        weight: 4,
        arbitrary: fc.record({
          do: fc.constant('reset' as const),
          name,
          times: fc.integer({ min: 1, max: 4 }),
        }),
      },
      fc.record({ do: fc.constantFrom('connected' as const, 'answered' as const), name }),
      fc.record({ do: fc.constant('mark' as const), name, up: fc.boolean() }),
      fc.record({ do: fc.constant('check' as const), name, up: fc.boolean() }),
      fc.record({ do: fc.constant('list' as const), names: fc.subarray([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]) }),
      fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: 3_000 }) }),
    )
    const property = fc.asyncProperty(
      fc.array(step, { maxLength: 60 }),
      fc.constantFrom(0, 10, 30, 100),
      fc.boolean(),
      async (steps, percent, checks) => {
        const { clock, pool, outliers, events, asked, list, get } = await watching(
          10,
          { max_ejected_percent: percent },
          checks,
        )
        for (const each of steps) {
          const backend = 'name' in each ? get(each.name) : undefined
          const fit = pool.fit
          if (each.do === 'list') await list(each.names)
          else if (each.do === 'wait') await clock.advance(each.ms)
          else if (!backend) continue
          else if (each.do === 'mark') pool.mark(backend, each.up)
          else if (each.do === 'check') outliers.checked(backend, !each.up)
          else if (each.do === 'dial')
            for (let i = 0; i < each.times; i++) outliers.dialFailed(backend, 'refused')
          else if (each.do === 'reset')
            for (let i = 0; i < each.times; i++) outliers.ended(backend, over('backend-reset'))
          else outliers[each.do](backend)

          const out = [...pool.backends].filter(({ ejected }) => ejected)
          const most = percent === 0 ? 0 : Math.max(1, Math.floor((pool.discovered * percent) / 100))
          assert.ok(out.length <= most, `${out.length} of ${pool.discovered} are out`)
          if (each.do === 'dial' || each.do === 'reset') assert.ok(pool.fit >= Math.min(1, fit))
        }
        // Each one out is back when its time is over and its check has passed.
        await clock.advance(OUTLIER.max_ejection_time!)
        for (const backend of asked) if (backend.discovered) outliers.checked(backend, false)
        assert.deepEqual(
          [...pool.backends].filter(({ ejected }) => ejected),
          [],
        )
        const total = Object.values(outliers.ejections).reduce((sum, count) => sum + count, 0)
        assert.equal(total, events.filter((event) => event.includes(' out ')).length)
        assert.equal(clock.pending, 0)
      },
    )
    await fc.assert(property, { numRuns: 150 })
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
    requests: 0,
    responses: 0,
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

  t.test('says how many datagrams a session had', async (t) => {
    const session = { ...end, requests: 3, responses: 2 }
    const about = { ...context, datagrams: true }
    t.match(JSON.parse(await write('json', about, session)), { tx: 56, requests: 3, responses: 2 })
    t.match(await write('text', about, session), / rx=1234 tx=56 requests=3 responses=2 ms=/)
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

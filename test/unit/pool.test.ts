// One server's backends: what discovery and health say, and who may be elected then.

import assert from 'node:assert/strict'
import t from 'tap'
import fc from 'fast-check'
import type { Balancer, Electable } from '../../src/balance/balancer.ts'
import { parseBackendAddress } from '../../src/core/address.ts'
import { found } from '../../src/core/backend.ts'
import type { Found } from '../../src/core/backend.ts'
import type { Backend } from '../../src/pool/backend.ts'
import { NOTHING_COUNTED } from '../../src/pool/backend.ts'
import { Pool } from '../../src/pool/pool.ts'
import { SortedRows } from '../../src/pool/sorted.ts'

const KEY = new Uint8Array(0)

/** Elects the first; what it was shown is kept for the test. */
class First implements Balancer {
  seen: Electable | undefined
  elect(_key: Uint8Array, electable: Electable): number {
    this.seen = electable
    return electable.rows[0]!
  }
}

interface Options {
  weighted?: boolean
  random?: () => number
  healthy?: boolean
  panicThreshold?: number
}

function setUp(options: Options = {}) {
  const balancer = new First()
  const events: string[] = []
  const panics: boolean[] = []
  const pool = new Pool(
    {
      balancer,
      weighted: options.weighted ?? false,
      random: options.random ?? (() => 0.5),
      initiallyHealthy: options.healthy ?? true,
      panicThreshold: options.panicThreshold ?? 0,
    },
    {
      discovered: (backend) => {
        events.push(`+${backend.text}`)
        pool.locate(backend, [backend.found.address])
      },
      undiscovered: (backend) => events.push(`-${backend.text}`),
      room: () => {},
      panicked: (panic) => panics.push(panic),
    },
  )
  const get = (text: string): Backend => [...pool.backends].find((each) => each.text === text)!
  const elect = (passed?: readonly number[]) => {
    const election = pool.elect(KEY, passed)
    return typeof election === 'string' ? election : election.backend.text
  }
  /** Texts of everybody an election may choose from now. */
  const electable = () => {
    const reason = elect()
    return balancer.seen && !reason.includes('-')
      ? [...balancer.seen.rows].map((row) => pool.at(row).text)
      : []
  }
  return { pool, balancer, events, panics, get, elect, electable }
}

/** `a:1 weight=2` as a Found. */
function at(text: string, settings: Partial<Found> = {}): Found {
  return found(parseBackendAddress(text)!, settings)
}

t.test('an update adds, changes and removes, and says so', async (t) => {
  const { pool, events, get } = setUp()
  t.same(await pool.update([at('a:1'), at('b:1')]), { added: ['a:1', 'b:1'], removed: [], changed: [] })
  const a = get('a:1')
  t.same(await pool.update([at('a:1', { weight: 5 }), at('c:1')]), {
    added: ['c:1'],
    removed: ['b:1'],
    changed: ['a:1'],
  })
  t.equal(get('a:1'), a, 'a changed backend is the same backend')
  t.same(events, ['+a:1', '+b:1', '+c:1', '-b:1'])
  t.same(await pool.update([at('a:1', { weight: 5 }), at('c:1')]), { added: [], removed: [], changed: [] })
})

t.test('of two lines for one address the later one wins', async (t) => {
  const { pool, get } = setUp()
  await pool.update([at('a:1', { weight: 2 }), at('a:1', { weight: 7 })])
  t.equal(pool.size, 1)
  t.equal(get('a:1').found.weight, 7)
})

t.test('one address may serve several names', async (t) => {
  const { pool } = setUp()
  await pool.update([at('a:1', { sni: 'x' }), at('a:1', { sni: 'y' })])
  t.equal(pool.size, 2)
})

t.test('a replaced list never leaves the pool empty', async (t) => {
  const { pool, elect } = setUp()
  await pool.update(Array.from({ length: 3000 }, (_, i) => at(`old-${i}:1`)))
  const refusals: string[] = []
  let turns = 0
  const watch = () => {
    turns++
    const answer = elect()
    if (!answer.includes(':')) refusals.push(answer)
    watching = setImmediate(watch)
  }
  let watching = setImmediate(watch)
  await pool.update(Array.from({ length: 3000 }, (_, i) => at(`new-${i}:1`)))
  clearImmediate(watching)
  t.same(refusals, [])
  t.ok(turns > 1, 'clients are decided while a long update runs')
  t.equal(pool.size, 3000)
})

t.test('of updates that wait only the latest is done', async (t) => {
  const { pool } = setUp()
  const first = pool.update([at('a:1')])
  const second = pool.update([at('b:1')])
  const third = pool.update([at('c:1')])
  t.same([await first, await second], [undefined, undefined])
  t.same((await third)?.added, ['c:1'])
  t.same(
    [...pool.backends].map(({ text }) => text),
    ['c:1'],
  )
})

t.test('nobody to elect has its true reason', async (t) => {
  const { pool, elect, get } = setUp()
  t.equal(elect(), 'no-backends')
  await pool.update([at('a:1', { maxConnections: 1 })])
  pool.mark(get('a:1'), false)
  t.equal(elect(), 'all-unhealthy')
  pool.mark(get('a:1'), true)
  pool.take(get('a:1').row)
  t.equal(elect(), 'all-full')
  await pool.update([at('a:1', { drain: true })])
  t.equal(elect(), 'draining')
  await pool.update([])
  t.equal(elect(), 'no-backends', 'a backend that only finishes its flows is not discovered')
})

t.test('a full backend is passed over until a slot is given back', async (t) => {
  const { pool, electable, get } = setUp()
  await pool.update([at('a:1', { maxConnections: 2 }), at('b:1')])
  const { row } = get('a:1')
  pool.take(row)
  t.same(electable(), ['a:1', 'b:1'])
  pool.take(row)
  t.same(electable(), ['b:1'])
  pool.release(row)
  t.same(electable(), ['a:1', 'b:1'])
})

t.test('the lowest priority serves, and a full or unhealthy group spills into the next', async (t) => {
  const { pool, electable, get } = setUp()
  await pool.update([
    at('a:1', { priority: 1, maxConnections: 1 }),
    at('b:1', { priority: 2 }),
    at('c:1', { priority: 3 }),
  ])
  t.same(electable(), ['a:1'])
  pool.take(get('a:1').row)
  t.same(electable(), ['b:1'])
  pool.mark(get('b:1'), false)
  t.same(electable(), ['c:1'])
  pool.release(get('a:1').row)
  t.same(electable(), ['a:1'])
})

t.test('a backend follows its priority into another group', async (t) => {
  const { pool, electable } = setUp()
  await pool.update([at('a:1'), at('b:1', { priority: 2 })])
  await pool.update([at('a:1', { priority: 3 }), at('b:1', { priority: 2 })])
  t.same(electable(), ['b:1'])
})

t.test('weight 0 takes nothing while a sibling has more, and counts as 1 when nobody has', async (t) => {
  const { pool, electable, get, balancer } = setUp()
  await pool.update([at('a:1', { weight: 0 }), at('b:1', { weight: 0 }), at('c:1', { weight: 3 })])
  t.same(electable(), ['c:1'])
  pool.mark(get('c:1'), false)
  t.same(electable(), ['a:1', 'b:1'])
  t.equal(balancer.seen?.columns.weight[get('a:1').row], 1)
  pool.mark(get('c:1'), true)
  t.same(electable(), ['c:1'])
})

t.test('a weightless sibling does not step in for a full one', async (t) => {
  const { pool, electable, get } = setUp()
  await pool.update([
    at('a:1', { weight: 0 }),
    at('b:1', { weight: 1, maxConnections: 1 }),
    at('c:1', { priority: 2 }),
  ])
  pool.take(get('b:1').row)
  t.same(electable(), ['c:1'])
})

t.test('a draining backend takes nobody and keeps what it has', async (t) => {
  const { pool, electable, get } = setUp()
  await pool.update([at('a:1'), at('b:1')])
  pool.take(get('a:1').row)
  await pool.update([at('a:1', { drain: true }), at('b:1')])
  t.same(electable(), ['b:1'])
  t.equal(pool.columns.slots[get('a:1').row], 1)
})

t.test('a removed backend with flows lives until the last one ends', async (t) => {
  const { pool, get, elect } = setUp()
  await pool.update([at('a:1')])
  const a = get('a:1')
  pool.take(a.row)
  await pool.update([])
  t.equal(pool.size, 1)
  t.equal(elect(), 'no-backends')
  pool.release(a.row)
  t.equal(pool.size, 0)
})

t.test('a backend that returns while it holds flows is the same entry', async (t) => {
  const { pool, get } = setUp()
  await pool.update([at('a:1')])
  const a = get('a:1')
  pool.take(a.row)
  a.refused = 3
  await pool.update([])
  await pool.update([at('a:1')])
  t.equal(get('a:1'), a)
  t.equal(a.refused, 3)
  pool.release(a.row)
  t.equal(pool.size, 1)
})

t.test('a row is given to another backend only when nothing is left of the first', async (t) => {
  const { pool, get } = setUp()
  const carried = { rx: 0, tx: 0, connects: 0 }
  pool.traffic.readFrom({
    ...NOTHING_COUNTED,
    rx: () => carried.rx,
    tx: () => carried.tx,
    connects: () => carried.connects,
  })
  await pool.update([at('a:1')])
  const { row, id } = get('a:1')
  Object.assign(carried, { rx: 10, tx: 20, connects: 1 })
  await pool.update([])
  await pool.update([at('b:1')])
  t.equal(get('b:1').row, row)
  t.not(get('b:1').id, id)
  t.match(pool.traffic.of(row), { rx: 0, tx: 0 }, 'what the first carried is not counted again')
  t.equal(pool.traffic.connects(row), 0)
  t.match(pool.traffic.total(), { rx: 10, tx: 20 }, 'the server has carried it all the same')
})

t.test('rates are those of the last two seconds', async (t) => {
  const { pool, get } = setUp()
  let rx = 0
  pool.traffic.readFrom({ ...NOTHING_COUNTED, rx: () => rx })
  await pool.update([at('a:1')])
  const { row } = get('a:1')
  rx = 1001
  pool.traffic.tick()
  t.equal(pool.traffic.of(row).rxSecond, 500)
  pool.traffic.tick()
  t.equal(pool.traffic.of(row).rxSecond, 500)
  t.equal(pool.columns.bandwidth[row], 500)
  pool.traffic.tick()
  t.equal(pool.traffic.of(row).rxSecond, 0)
  t.equal(pool.traffic.total().rxSecond, 0)
})

t.test('a ramping backend is passed over by chance, unless it is alone', async (t) => {
  const chances = [0.9, 0.1]
  const { pool, elect, get } = setUp({ random: () => chances.shift() ?? 0.99 })
  await pool.update([at('a:1'), at('b:1')])
  pool.ramp(get('a:1'), 0.25)
  t.equal(elect(), 'b:1', '0.9 is more than a quarter')
  t.equal(elect(), 'a:1', '0.1 is less')
  pool.mark(get('b:1'), false)
  t.equal(elect(), 'a:1', 'alone in its group it serves whatever chance says')
})

t.test('a ramp scales weight and limit, and never to nothing', async (t) => {
  const { pool, get } = setUp({ weighted: true })
  await pool.update([at('a:1', { weight: 100, maxConnections: 10 }), at('b:1', { weight: 2 })])
  const { row } = get('a:1')
  pool.ramp(get('a:1'), 0.25)
  t.equal(pool.columns.weight[row], 25)
  t.equal(pool.columns.limit[row], 2)
  pool.ramp(get('a:1'), 0.001)
  t.equal(pool.columns.weight[row], 1)
  t.equal(pool.columns.limit[row], 1)
})

t.test('rows already tried are left out', async (t) => {
  const { pool, elect, get } = setUp()
  await pool.update([at('a:1'), at('b:1')])
  t.equal(elect([get('a:1').row]), 'b:1')
  t.equal(elect([get('a:1').row, get('b:1').row]), 'all-unhealthy')
})

t.test(
  'an ejected backend is passed over, and nobody else is told apart from one that is down',
  async (t) => {
    const { pool, get, elect, electable } = setUp()
    await pool.update([at('a:1'), at('b:1')])
    pool.eject(get('a:1'), true)
    t.same(electable(), ['b:1'])
    pool.eject(get('b:1'), true)
    t.equal(elect(), 'all-unhealthy')
    t.equal(pool.fit, 0)
    pool.eject(get('a:1'), false)
    pool.mark(get('a:1'), false)
    t.equal(elect(), 'all-unhealthy')
    pool.mark(get('a:1'), true)
    t.equal(elect(), 'a:1')
  },
)

t.test('what an agent asks for stands beside what discovery says, until that names it no more', async (t) => {
  const { pool, get, elect } = setUp({ weighted: true })
  const list = [at('a:1', { weight: 100, maxConnections: 50 }), at('b:1', { weight: 100 })]
  await pool.update(list)
  const { weight, limit } = pool.columns
  const { row } = get('a:1')
  pool.advise(get('a:1'), { share: 0.75, maxConnections: 30 })
  t.same([weight[row], limit[row]], [75, 30])
  pool.ramp(get('a:1'), 0.5)
  t.same([weight[row], limit[row]], [37.5, 15])
  await pool.update([at('a:1', { weight: 10, maxConnections: 50 }), list[1]!])
  t.same([weight[row], limit[row]], [3.75, 15], 'what discovery says anew is what the agent has a share of')
  pool.advise(get('a:1'), { maxConnections: 0 })
  t.equal(limit[row], 0, 'unlimited')
  pool.advise(get('a:1'), { share: 0 })
  t.equal(elect(), 'b:1', 'nothing while a sibling has more')
  pool.advise(get('b:1'), { drain: true })
  t.equal(elect(), 'a:1')
  pool.advise(get('a:1'), { drain: true })
  t.equal(elect(), 'draining')

  pool.take(row)
  await pool.update([list[1]!])
  await pool.update(list)
  t.equal(get('a:1').row, row, 'it held a flow all the while')
  t.same([get('a:1').advice, weight[row], limit[row]], [{}, 100, 50])
})

t.test('what a weight of one cannot say is left to chance', async (t) => {
  const chances = [0.6, 0.4]
  const { pool, get, elect } = setUp({ weighted: true, random: () => chances.shift()! })
  await pool.update([at('a:1'), at('b:1')])
  pool.advise(get('a:1'), { share: 0.5 })
  t.equal(pool.columns.weight[get('a:1').row], 1)
  t.equal(elect(), 'b:1')
  t.equal(elect(), 'a:1')
  pool.advise(get('a:1'), {})
  t.equal(elect(), 'a:1', 'and chance is not asked when it has no say')
})

t.test('when all of many return at once an election does not go on for ever', async (t) => {
  let asked = 0
  const { pool, elect } = setUp({ random: () => (asked++, 0.99) })
  await pool.update(Array.from({ length: 50 }, (_, i) => at(`10.0.0.${i}:1`)))
  for (const backend of pool.backends) pool.ramp(backend, 0.05)
  t.not(elect(), 'all-full')
  t.ok(asked < 20)
})

t.test('in panic nobody is sent to a dead group while a later one has somebody who is fit', async (t) => {
  const { pool, get, elect } = setUp({ panicThreshold: 90 })
  await pool.update([at('a:1', { priority: 0 }), at('b:1', { priority: 0 }), at('c:1')])
  pool.mark(get('a:1'), false)
  pool.mark(get('b:1'), false)
  t.equal(pool.panic, true)
  t.equal(elect(), 'c:1')
  pool.mark(get('c:1'), false)
  t.match(elect(), /^[ab]:1$/, 'where nobody is fit the lowest number counts again')
})

t.test('panic', async (t) => {
  const four = ['a:1', 'b:1', 'c:1', 'd:1']

  t.test('begins below the threshold, not at it, and ends there', async (t) => {
    const { pool, panics, get, electable } = setUp({ panicThreshold: 50 })
    await pool.update(four.map((each) => at(each)))
    pool.mark(get('a:1'), false)
    pool.eject(get('b:1'), true)
    t.same(electable(), ['c:1', 'd:1'])
    t.same(panics, [])
    pool.mark(get('c:1'), false)
    t.same(electable(), four, 'all, also the ejected one')
    t.equal(pool.panic, true)
    pool.eject(get('b:1'), false)
    t.same(electable(), ['b:1', 'd:1'])
    t.same(panics, [true, false])
  })

  t.test('elects nobody who drains, is full, has no address or is of a lesser priority', async (t) => {
    const { pool, get, electable } = setUp({ panicThreshold: 100 })
    await pool.update([
      at('a:1'),
      at('b:1', { drain: true }),
      at('c:1', { maxConnections: 1 }),
      at('d:1', { priority: 2 }),
      at('e:1'),
    ])
    for (const backend of pool.backends) pool.mark(backend, false)
    pool.take(get('c:1').row)
    pool.locate(get('e:1'), [])
    t.same(electable(), ['a:1'])
    pool.advise(get('a:1'), { drain: true })
    t.same(electable(), ['d:1'])
  })

  t.test('counts nobody of whom nothing is known yet', async (t) => {
    const { pool, panics, get, elect, electable } = setUp({ panicThreshold: 50, healthy: false })
    await pool.update(four.map((each) => at(each)))
    t.equal(elect(), 'all-unhealthy')
    pool.mark(get('a:1'), true)
    t.same(electable(), ['a:1'])
    t.same(panics, [], 'a server that boots does not panic')
    pool.mark(get('b:1'), false)
    pool.mark(get('c:1'), false)
    t.same(panics, [true])
    t.same(electable(), ['a:1', 'b:1', 'c:1'])
    pool.unmark(get('b:1'))
    t.same(panics, [true, false])
  })

  t.test(
    'ends when those that were down are gone, and a list that is replaced does not begin it',
    async (t) => {
      const { pool, panics, get } = setUp({ panicThreshold: 60 })
      await pool.update(four.map((each) => at(each)))
      pool.mark(get('c:1'), false)
      pool.mark(get('d:1'), false)
      await pool.update([at('a:1')])
      t.same(panics, [true, false])
      await pool.update([at('b:1')])
      await pool.update([])
      t.same(panics, [true, false])
      t.same([pool.discovered, pool.candidates, pool.fit], [0, 0, 0])
    },
  )
})

/** What `Pool.live` promises, from the backends' own facts. */
function liveOf(pool: Pool, threshold: number): Backend[] {
  const able = [...pool.backends].filter(
    ({ discovered, endpoints, advice }) => discovered && endpoints.length > 0 && !advice.drain,
  )
  const fit = able.filter(({ healthy, ejected }) => healthy && !ejected)
  assert.deepEqual([pool.candidates, pool.fit], [able.length, fit.length])
  assert.equal(pool.discovered, [...pool.backends].filter(({ discovered }) => discovered).length)
  return fit.length * 100 < threshold * able.length ? able : fit
}

t.test(
  'whatever happens, an election sees exactly who is live and not full, in the order of their text',
  async () => {
    const names = ['a:1', 'b:1', 'c:1', 'd:1', 'e:1']
    const step = fc.oneof(
      fc.record({ do: fc.constant('list' as const), list: fc.subarray(names) }),
      fc.record({ do: fc.constant('mark' as const), who: fc.constantFrom(...names), up: fc.boolean() }),
      fc.record({ do: fc.constant('eject' as const), who: fc.constantFrom(...names), up: fc.boolean() }),
      fc.record({ do: fc.constant('drain' as const), who: fc.constantFrom(...names), up: fc.boolean() }),
      fc.record({ do: fc.constant('locate' as const), who: fc.constantFrom(...names), up: fc.boolean() }),
      fc.record({ do: fc.constant('take' as const), who: fc.constantFrom(...names) }),
      fc.record({ do: fc.constant('release' as const), who: fc.constantFrom(...names) }),
    )
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 40 }),
        fc.constantFrom(0, 50, 100),
        async (steps, threshold) => {
          const { pool, get, electable } = setUp({ panicThreshold: threshold })
          for (const each of steps) {
            if (each.do === 'list')
              await pool.update(each.list.map((text) => at(text, { maxConnections: 2 })))
            else {
              const backend = get(each.who)
              if (!backend) continue
              const held = pool.columns.slots[backend.row]!
              if (each.do === 'mark') pool.mark(backend, each.up)
              if (each.do === 'eject') pool.eject(backend, each.up && backend.discovered)
              if (each.do === 'drain') pool.advise(backend, { drain: each.up })
              if (each.do === 'locate') pool.locate(backend, each.up ? [backend.found.address] : [])
              if (each.do === 'take' && held < 2) pool.take(backend.row)
              if (each.do === 'release' && held > 0) pool.release(backend.row)
            }
            const expected = liveOf(pool, threshold)
              .filter((one) => pool.columns.slots[one.row]! < 2)
              .map(({ text }) => text)
              .sort()
            assert.deepEqual(electable(), expected)
          }
        },
      ),
      { numRuns: 150 },
    )
  },
)

t.test('sorted rows stay sorted through any order of changes', async () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), fc.nat(40)), { maxLength: 200 }), (changes) => {
      const text = Array.from({ length: 41 }, (_, i) => `h${(i * 7919) % 41}`)
      const sorted = new SortedRows(text)
      const model = new Set<number>()
      for (const [insert, row] of changes) {
        if (insert) sorted.insert(row)
        else sorted.remove(row)
        if (insert) model.add(row)
        else model.delete(row)
      }
      assert.deepEqual(
        [...sorted.rows],
        [...model].sort((a, b) => (text[a]! < text[b]! ? -1 : 1)),
      )
    }),
    { numRuns: 100 },
  )
})

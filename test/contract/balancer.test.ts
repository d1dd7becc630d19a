// Every balancer keeps the contract: one of the electable, whatever their load, and fairly.

import t from 'tap'
import fc from 'fast-check'
import type { Balancer, BalancerKind, Electable } from '../../src/balance/balancer.ts'
import * as kinds from '../../src/balance/kinds.ts'
import { FakeClock } from '../support/clock.ts'
import { electable, view } from '../support/electable.ts'
import type { Row } from '../support/electable.ts'

const all = Object.entries(kinds) as unknown as [string, BalancerKind][]
const TABLES = ['iphash', 'iphash1', 'maglev']

function create(kind: BalancerKind, given: Record<string, unknown> = {}, clock = new FakeClock()): Balancer {
  const settings = Object.fromEntries(
    Object.entries(kind.settings).map(([key, schema]) => [
      key,
      (schema as { parse(v: unknown): unknown }).parse(given[key]),
    ]),
  )
  return kind.create(settings, { clock })
}

const client = (i: number) => Uint8Array.from([10, i >> 16, i >> 8, i])

/** How often each row was elected, where every flow stays open. */
function spread(balancer: Balancer, pool: Electable, elections: number): Map<number, number> {
  const counts = new Map<number, number>()
  for (let i = 0; i < elections; i++) {
    const row = balancer.elect(client(i), pool)
    counts.set(row, (counts.get(row) ?? 0) + 1)
    pool.columns.slots[row]!++
    balancer.connected?.(row, 1)
  }
  return counts
}

for (const [name, kind] of all) {
  t.test(`${name} elects one of the electable, whatever their number, load and weight`, (t) => {
    const row = fc.record({
      weight: fc.oneof(fc.integer({ min: 0, max: 300 }), fc.double({ min: 0, max: 5, noNaN: true })),
      slots: fc.nat(1000),
      limit: fc.nat(1000),
      bandwidth: fc.nat(1e9),
      full: fc.boolean(),
    })
    const pools = fc.array(row, { minLength: 1, maxLength: 64 }).map((rows) => {
      rows[0]!.full = false
      return rows
    })
    const balancers = [
      create(kind),
      ...(name === 'maglev' ? [create(kind, { hash_balance_factor: '125' })] : []),
    ]
    fc.assert(
      fc.property(pools, fc.array(fc.nat(2 ** 24), { minLength: 1, maxLength: 20 }), (rows, clients) => {
        const pool = electable(rows)
        for (const balancer of balancers) {
          for (const each of clients)
            if (!pool.rows.includes(balancer.elect(client(each), pool))) return false
          if (!pool.rows.includes(balancer.elect(new Uint8Array(0), pool))) return false
        }
        return true
      }),
      { numRuns: name === 'maglev' ? 60 : 300, seed: 1 },
    )
    t.end()
  })

  t.test(`${name} serves pools of every size from 1 to 64, all idle or all of weight 0`, (t) => {
    const balancer = create(kind)
    for (let size = 1; size <= 64; size++) {
      for (const weight of size % 8 ? [1] : [0, 1]) {
        const pool = electable(Array.from({ length: size }, () => ({ weight })))
        t.ok(pool.rows.includes(balancer.elect(client(size), pool)))
      }
    }
    t.end()
  })

  t.test(`${name} changes nothing it is given`, (t) => {
    const pool = electable([{ slots: 3, weight: 2 }, { full: true }, { slots: 1 }, { weight: 5 }])
    const before = structuredClone({ rows: pool.rows, members: pool.members, columns: pool.columns })
    const balancer = create(kind)
    const key = client(7)
    for (let i = 0; i < 50; i++) balancer.elect(key, pool)
    t.same({ rows: pool.rows, members: pool.members, columns: pool.columns }, before)
    t.same(key, client(7))
    t.end()
  })

  t.test(`${name} gives a redispatched client another backend each time`, (t) => {
    const pool = electable(Array.from({ length: 8 }, (_, i) => ({ weight: 1 + i })))
    const balancer = create(kind)
    const tried = new Set<number>()
    for (let i = 0; i < 8; i++)
      tried.add(
        balancer.elect(
          client(1),
          view(pool, (row) => !tried.has(row)),
        ),
      )
    t.equal(tried.size, 8)
    t.end()
  })

  t.test(`${name} spreads clients over equal backends`, (t) => {
    const pool = electable(Array.from({ length: 10 }, () => ({})))
    const counts = spread(create(kind), pool, 10_000)
    t.equal(counts.size, 10)
    for (const [row, count] of counts) {
      if (name === 'iphash1') t.ok(count > 300 && count < 2500, `${count} of 10,000 at row ${row}`)
      else t.ok(count > 850 && count < 1150, `${count} of 10,000 at row ${row}, 15 % allowed`)
    }
    t.end()
  })

  t.test(`${name} spreads over what is left when nearly all of 3,000 are full`, (t) => {
    const pool = electable(
      Array.from({ length: 3000 }, (_, i) => ({ weight: 1 + (i % 2), full: i % 500 !== 0 })),
    )
    const counts = spread(create(kind), pool, 6000)
    t.equal(counts.size, 6)
    for (const [row, count] of counts) {
      if (name === 'iphash1') t.ok(count > 100, `${count} of 6,000 at row ${row}`)
      else t.ok(count > 800 && count < 1200, `${count} of 6,000 at row ${row}, 20 % allowed`)
    }
    t.end()
  })

  t.test(
    `${name} passes backends that left and takes in those that came, from one election to the next`,
    (t) => {
      const balancer = create(kind)
      for (let round = 0; round < 30; round++) {
        const pool = electable(
          Array.from({ length: 1 + ((round * 37) % 90) }, (_, i) => ({ text: `10.0.${round % 3}.${i}:80` })),
          { row: (i) => i + (round % 4) },
        )
        for (let i = 0; i < 20; i++) t.ok(pool.rows.includes(balancer.elect(client(i), pool)))
      }
      t.end()
    },
  )

  if (!kind.weighted) continue

  t.test(`${name} gives each backend its weight's share`, (t) => {
    const weights = [1, 2, 3, 4]
    const counts = spread(create(kind), electable(weights.map((weight) => ({ weight }))), 10_000)
    for (const [row, weight] of weights.entries()) {
      const count = counts.get(row) ?? 0
      t.ok(
        Math.abs(count - 1000 * weight) < 150,
        `${count} of 10,000 at weight ${weight} of 10, 1.5 % of all allowed`,
      )
    }
    t.end()
  })

  t.test(`${name} gives weight 0 nothing beside a sibling with more`, (t) => {
    const counts = spread(
      create(kind),
      electable([{ weight: 0 }, { weight: 0.5 }, { weight: 0 }, { weight: 2 }]),
      500,
    )
    t.notOk(counts.has(0) || counts.has(2))
    t.end()
  })

  t.test(`${name} counts weights as 1 when all are 0`, (t) => {
    const counts = spread(create(kind), electable(Array.from({ length: 4 }, () => ({ weight: 0 }))), 4000)
    for (let row = 0; row < 4; row++)
      t.ok(Math.abs((counts.get(row) ?? 0) - 1000) < 150, `${counts.get(row)} of 4,000`)
    t.end()
  })
}

for (const name of TABLES) {
  const kind = kinds[name as keyof typeof kinds] as unknown as BalancerKind
  t.test(`${name} gives a client the same backend again, on every instance, in whatever rows`, (t) => {
    const texts = Array.from({ length: 200 }, (_, i) => ({
      text: `db-${i}.example:${5000 + i}`,
      weight: 1 + (i % 3),
    }))
    const here = electable(texts)
    const there = electable(texts, { row: (i) => (i * 77 + 5) % 401 })
    const one = create(kind)
    const other = create(kind, {}, new FakeClock(99))
    for (let i = 0; i < 500; i++) {
      const text = here.columns.text[one.elect(client(i), here)]
      t.equal(text, there.columns.text[other.elect(client(i), there)])
      t.equal(text, here.columns.text[one.elect(client(i), here)])
    }
    t.end()
  })
}

for (const name of ['iphash1', 'maglev'] as const) {
  t.test(
    `${name} moves few clients when one of 100 backends leaves, and none back and forth when it returns`,
    (t) => {
      const kind = kinds[name] as unknown as BalancerKind
      const list = Array.from({ length: 100 }, (_, i): Row => ({ text: `10.0.0.${i}:80` }))
      const whole = electable(list)
      const less = electable(
        list.filter((_, i) => i !== 42),
        { row: (i) => i },
      )
      const balancer = create(kind)
      const textOf = (i: number, pool: Electable) => pool.columns.text[balancer.elect(client(i), pool)]!
      const before = Array.from({ length: 5000 }, (_, i) => textOf(i, whole))
      const during = Array.from({ length: 5000 }, (_, i) => textOf(i, less))
      const moved = before.filter((text, i) => text !== '10.0.0.42:80' && text !== during[i]).length
      t.ok(
        moved <= (name === 'iphash1' ? 0 : 150),
        `${moved} of 5,000 moved though their backend stayed, 3 % allowed`,
      )
      t.same(
        Array.from({ length: 5000 }, (_, i) => textOf(i, whole)),
        before,
      )
      t.end()
    },
  )
}

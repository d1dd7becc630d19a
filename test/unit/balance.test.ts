// What each balancer does that no other does.

import t from 'tap'
import fc from 'fast-check'
import type { Electable } from '../../src/balance/balancer.ts'
import { hashKeyOf } from '../../src/balance/hash.ts'
import { HighestHash } from '../../src/balance/highest.ts'
import { highestOf } from '../../src/balance/iphash1.ts'
import * as kinds from '../../src/balance/kinds.ts'
import { Rotation } from '../../src/balance/rotation.ts'
import { Tables } from '../../src/balance/tables.ts'
import { FakeClock } from '../support/clock.ts'
import { address, electable, view } from '../support/electable.ts'
import type { Row } from '../support/electable.ts'

const NO_KEY = new Uint8Array(0)
const client = (i: number) => Uint8Array.from([10, i >> 16, i >> 8, i])
const many = (count: number, row: (i: number) => Row = () => ({})) =>
  Array.from({ length: count }, (_, i) => row(i))
const context = () => ({ clock: new FakeClock() })
const hashing = { hash_key: 'client' as const, hash_balance_factor: 0 }

/** FNV-1a 32 as it is written down, in arithmetic without tricks. */
function fnv(...parts: (Uint8Array | string)[]): bigint {
  let hash = 2166136261n
  for (const byte of Buffer.concat(parts.map((part) => Buffer.from(part)))) {
    hash = ((hash ^ BigInt(byte)) * 16777619n) % 4294967296n
  }
  return hash
}

function rendezvous(key: Uint8Array, pool: Electable): number {
  const text = (row: number) => pool.columns.text[row]!
  return pool.rows.reduce((best, row) => (fnv(key, text(row)) > fnv(key, text(best)) ? row : best))
}

t.test('the reference hash is FNV-1a', (t) => {
  t.equal(fnv(''), 0x811c9dc5n)
  t.equal(fnv('a'), 0xe40c292cn)
  t.equal(fnv('foobar'), 0xbf9cf968n)
  t.end()
})

t.test('iphash is FNV-1a of the key modulo the electable, in the order of their text', (t) => {
  const pool = electable([
    { text: 'c:80' },
    { text: 'a:80' },
    { text: 'b:80' },
    { text: 'a:8000', full: true },
  ])
  const balancer = kinds.iphash.create(hashing, context())
  for (const key of [client(1), client(2), client(70_000), new Uint8Array(16).fill(7)]) {
    const texts = ['a:80', 'b:80', 'c:80']
    t.equal(pool.columns.text[balancer.elect(key, pool)], texts[Number(fnv(key) % 3n)])
  }
  t.end()
})

t.test('iphash1 is the highest FNV-1a of the key followed by the text', (t) => {
  const balancer = kinds.iphash1.create(hashing, context())
  for (const size of [1, 2, 10, 64, 65, 300]) {
    const pool = electable(
      many(size, (i) => ({ text: i % 5 ? address(i) : `naïve-${i}.example:80`, full: i % 7 === 6 })),
    )
    for (let i = 0; i < 40; i++) {
      const key = hashKeyOf(client(i * 7919), hashing, i % 2 === 0)
      t.equal(balancer.elect(key, pool), rendezvous(key, pool))
    }
  }
  t.end()
})

t.test('iphash1 finds by its index whom it finds by hashing every text', (t) => {
  const texts = fc.uniqueArray(fc.oneof(fc.nat(1e6).map(address), fc.webAuthority(), fc.string()), {
    minLength: 1,
    maxLength: 80,
  })
  fc.assert(
    fc.property(
      texts,
      fc.array(fc.nat(2 ** 32 - 1), { minLength: 1, maxLength: 30 }),
      fc.func(fc.boolean()),
      (texts, states, full) => {
        const all = electable(texts.map((text) => ({ text })))
        const some = view(all, (row) => row === 0 || full(row))
        const index = new HighestHash(all)
        return states.every((state) => {
          if (index.highest(state, all) !== highestOf(state, all)) return false
          return [undefined, highestOf(state, some)].includes(index.highest(state, some))
        })
      },
    ),
    { numRuns: 300, seed: 2 },
  )
  t.end()
})

t.test('iphash1 gives a tie to the earliest text, and the index too', (t) => {
  // "costarring" and "liquid" are a known collision of FNV-1a 32, of unlike lengths; "declinate" and "macallums" one of like.
  for (const [first, second] of [
    ['costarring', 'liquid'],
    ['declinate', 'macallums'],
  ] as const) {
    t.equal(fnv(first), fnv(second), `${first} and ${second} collide`)
    const pool = electable([{ text: second }, { text: first }])
    const state = Number(fnv(''))
    t.equal(pool.columns.text[highestOf(state, pool)], first)
    t.equal(pool.columns.text[new HighestHash(pool).highest(state, pool)!], first)
  }
  t.end()
})

t.test('iphash1 keeps its index when only weights change', (t) => {
  const pool = electable(many(100))
  const index = new HighestHash(pool)
  t.ok(index.covers({ ...pool, version: -1 }))
  t.notOk(index.covers(electable(many(100, (i) => ({ text: `b${i}:80` })))))
  t.notOk(index.covers(electable(many(99))))
  t.end()
})

t.test('a hash key is the client, or its /24 or /64, in the form gobetween hashes', (t) => {
  const key = (bytes: number[], hash_key: 'client' | 'prefix', mapped: boolean) =>
    Buffer.from(hashKeyOf(Uint8Array.from(bytes), { hash_key }, mapped)).toString('hex')
  const six = [0x20, 1, 0xd, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
  t.equal(key([192, 0, 2, 7], 'client', false), 'c0000207')
  t.equal(key([192, 0, 2, 7], 'client', true), '00000000000000000000ffffc0000207')
  t.equal(key([192, 0, 2, 7], 'prefix', false), 'c0000200')
  t.equal(key([192, 0, 2, 7], 'prefix', true), '00000000000000000000ffffc0000200')
  t.equal(key(six, 'client', true), '20010db80102030405060708090a0b0c')
  t.equal(key(six, 'prefix', true), '20010db8010203040000000000000000')
  t.equal(key([], 'prefix', true), '')
  const bytes = Uint8Array.from([192, 0, 2, 7])
  hashKeyOf(bytes, { hash_key: 'prefix' }, false)
  t.same(bytes, Uint8Array.from([192, 0, 2, 7]))
  t.end()
})

t.test('roundrobin goes by text, and its turn outlives changes until it is past the end', (t) => {
  const balancer = kinds.roundrobin.create({}, context())
  const turns = (texts: string[], count: number) => {
    const pool = electable(texts.map((text) => ({ text })))
    return many(count)
      .map(() => pool.columns.text[balancer.elect(NO_KEY, pool)])
      .join(' ')
  }
  t.equal(turns(['c:1', 'a:1', 'b:1'], 4), 'a:1 b:1 c:1 a:1')
  t.equal(turns(['c:1', 'a:1', 'b:1', 'aa:1'], 2), 'aa:1 b:1', 'the turn stays a number')
  t.equal(turns(['a:1', 'b:1'], 3), 'a:1 b:1 a:1', 'past the end it starts over')
  t.end()
})

t.test('kinds that look at load find the least of it', (t) => {
  const pool = electable([
    { slots: 4, weight: 8, bandwidth: 900 },
    { slots: 1, weight: 1, bandwidth: 500 },
    { slots: 0, weight: 0.2, bandwidth: 700 },
    { slots: 2, weight: 5, bandwidth: 100 },
  ])
  const elect = (name: 'leastconn' | 'leastbandwidth' | 'wleastconn' | 'sed' | 'nq', from = pool) =>
    kinds[name].create({}, context()).elect(NO_KEY, from)
  t.equal(elect('leastconn'), 2)
  t.equal(elect('leastbandwidth'), 3)
  t.equal(elect('wleastconn'), 2)
  t.equal(elect('sed'), 3, '3/5 against 5/8, 2/1 and 1/0.2')
  t.equal(elect('nq'), 2, 'the idle one first')
  t.equal(
    elect(
      'nq',
      view(pool, (row) => row !== 2),
    ),
    3,
    'then as sed',
  )
  t.equal(
    elect('nq', electable([{ weight: 1 }, { weight: 3 }, { slots: 1, weight: 99 }])),
    1,
    'the heaviest idle one',
  )
  t.end()
})

t.test('ties take turns, wherever they lie', (t) => {
  const pool = electable(many(10, (i) => ({ slots: i === 3 || i === 4 ? 0 : 5 })))
  const balancer = kinds.leastconn.create({}, context())
  t.same(
    many(4).map(() => balancer.elect(NO_KEY, pool)),
    [3, 4, 3, 4],
  )
  t.end()
})

t.test('p2c never elects the busier of two', (t) => {
  const pool = electable([{ slots: 5 }, { slots: 4 }])
  const balancer = kinds.p2c.create({}, context())
  const busier = many(1000).filter(() => balancer.elect(NO_KEY, pool) === 0).length
  t.ok(busier < 80, `${busier} of 1,000: both draws the same, 1 in 32 expected`)
  t.end()
})

t.test('leasttime prefers who answers sooner, and tries the slow one again as time goes by', async (t) => {
  const clock = new FakeClock()
  const balancer = kinds.leasttime.create({}, { clock })
  const pool = electable([{}, {}])
  const answer = (row: number, ms: number) => {
    balancer.connected!(row, 1)
    balancer.firstByte!(row, ms)
  }
  answer(0, 500)
  answer(1, 20)
  t.equal(balancer.elect(NO_KEY, pool), 1)
  pool.columns.slots[1] = 30
  t.equal(balancer.elect(NO_KEY, pool), 0, 'time times flows')
  pool.columns.slots[1] = 0
  answer(1, 5000)
  t.equal(balancer.elect(NO_KEY, pool), 0, 'a peak counts at once')
  for (let i = 0; i < 60; i++) {
    await clock.advance(1000)
    answer(0, 500)
  }
  t.equal(balancer.elect(NO_KEY, pool), 1, 'and is forgotten slowly')
  for (let i = 0; i < 12; i++) {
    await clock.advance(100_000)
    answer(0, 500)
    answer(1, 20)
  }
  t.equal(balancer.elect(NO_KEY, pool), 1, 'for as long as it runs')
})

t.test('leasttime gives an unknown backend one client, and a refusing one none', (t) => {
  const balancer = kinds.leasttime.create({}, context())
  const pool = electable([{}, {}, {}])
  balancer.connected!(0, 5)
  balancer.failed!(1, 0.1)
  t.equal(balancer.elect(NO_KEY, pool), 2)
  pool.columns.slots[2] = 1
  t.equal(balancer.elect(NO_KEY, pool), 0, 'one is enough until it has connected')
  balancer.connected!(2, 1)
  t.equal(balancer.elect(NO_KEY, pool), 2)
  balancer.forget!(1)
  t.equal(balancer.elect(NO_KEY, pool), 1, 'the row is another backend now')
  balancer.forget!(100_000)
  t.end()
})

/** The turns of a rotation, as texts of one letter. */
function turns(rotation: Rotation, pool: Electable, count: number): string {
  return many(count)
    .map(() => pool.columns.text[rotation.next(pool)])
    .join('')
}

const letters = (weights: Record<string, number>) =>
  electable(Object.entries(weights).map(([text, weight]) => ({ text, weight })))

t.test('wrr never gives the heavy one more turns in a row than nginx would', (t) => {
  const pool = letters({ a: 5, b: 1, c: 1, none: 0 })
  for (let chance = 0; chance < 1; chance += 0.01) {
    const sequence = turns(new Rotation(pool, chance), pool, 70)
    t.notMatch(sequence, /aaaaa/, 'nginx: aabacaa aabacaa')
    t.equal(sequence.replaceAll(/[bc]/g, '').length, 50)
  }
  t.end()
})

t.test('wrr gives every other backend its weight’s worth between two turns of one', (t) => {
  const weights = fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 2, maxLength: 12 })
  fc.assert(
    fc.property(weights, fc.integer({ min: 1, max: 10_000 }), (weights, n) => {
      // Irrational, for a chance such as 0 makes turns fall due at the same moment, where floats may err by one.
      const chance = (n * Math.SQRT2) % 1
      const pool = electable(weights.map((weight, i) => ({ text: String.fromCharCode(97 + i), weight })))
      const sequence = turns(new Rotation(pool, chance), pool, 400)
      const last = new Map<string, Map<string, number>>()
      const seen = new Map<string, number>()
      for (const turn of sequence) {
        for (const [other, before] of last.get(turn) ?? []) {
          const worth = weights[other.charCodeAt(0) - 97]! / weights[turn.charCodeAt(0) - 97]!
          const got = seen.get(other)! - before
          if (got < Math.floor(worth) - 1e-6 || got > Math.ceil(worth)) return false
        }
        seen.set(turn, (seen.get(turn) ?? 0) + 1)
        last.set(turn, new Map([...seen].filter(([other]) => other !== turn)))
      }
      return true
    }),
    { numRuns: 200, seed: 3 },
  )
  t.end()
})

t.test('wrr goes on where it was when the pool changes', (t) => {
  const pool = letters({ a: 1, b: 1, c: 1, d: 1 })
  const more = letters({ a: 1, b: 1, c: 1, d: 1, e: 1 })
  const rotation = new Rotation(pool, 0.2)
  const served = turns(rotation, pool, 2)
  const next = turns(new Rotation(more, 0.7, rotation), more, 5)
  const rest = [...'abcd'].filter((each) => !served.includes(each))
  t.ok(
    Math.max(...rest.map((each) => next.indexOf(each))) <
      Math.min(...[...served].map((each) => next.indexOf(each))),
  )
  t.equal(new Set(next).size, 5)
  t.end()
})

t.test('wrr keeps shares while the pool changes all the time', (t) => {
  const clock = new FakeClock()
  const balancer = kinds.wrr.create({}, { clock })
  const counts = new Map<string, number>()
  for (let i = 0; i < 3000; i++) {
    const pool = letters({ a: 1, b: 2, c: 3, ...(i % 2 ? { d: 1e-9 } : {}) })
    const text = pool.columns.text[balancer.elect(NO_KEY, pool)]!
    counts.set(text, (counts.get(text) ?? 0) + 1)
  }
  for (const [text, share] of [
    ['a', 500],
    ['b', 1000],
    ['c', 1500],
  ] as const) {
    t.ok(Math.abs(counts.get(text)! - share) < 100, `${counts.get(text)} of 3,000 for ${text}`)
  }
  t.end()
})

t.test('wrr lets a backend that was full take its share again, no more and no less', (t) => {
  const pool = electable(many(1000))
  const free = view(pool, (row) => row < 3)
  const rotation = new Rotation(pool, 0.5)
  for (let i = 0; i < 50_000; i++) rotation.next(free)
  const counts = new Map<number, number>()
  for (let i = 0; i < 20_000; i++) {
    const row = rotation.next(pool)
    counts.set(row, (counts.get(row) ?? 0) + 1)
  }
  t.equal(counts.size, 1000)
  for (const [row, count] of counts) t.ok(count >= 18 && count <= 22, `${count} of 20 for row ${row}`)
  t.end()
})

t.test('wrr stays exact through millions of turns and weights far apart', (t) => {
  const pool = letters({ a: 0.001, b: 0.003, c: 1e12 })
  const rotation = new Rotation(pool, 0)
  const few = view(pool, (row) => row < 2)
  for (let i = 0; i < 100_000; i++) rotation.next(few)
  const sequence = turns(rotation, few, 4000)
  t.ok(Math.abs(sequence.replaceAll('b', '').length - 1000) <= 1)
  t.match(turns(rotation, pool, 100), /^[ab]{0,2}c{98,}$/)
  t.end()
})

t.test('maglev keeps a backend within its share when asked to', (t) => {
  const pool = electable(many(10, (i) => ({ weight: i === 0 ? 2 : 1 })))
  const { slots } = pool.columns
  const balancer = kinds.maglev.create({ ...hashing, hash_balance_factor: 125 }, context())
  const key = client(1)
  for (let open = 1; open <= 550; open++) {
    const row = balancer.elect(key, pool)
    slots[row]!++
    if (slots[row]! > Math.ceil((1.25 * open * (row === 0 ? 2 : 1)) / 11))
      t.fail(`${slots[row]} flows of ${open} at row ${row}`)
  }
  t.ok(slots.filter((held) => held > 0).length >= 8, 'one client alone fills most of the pool')
  t.end()
})

t.test('maglev takes 0 or a percentage of 100 or more as hash_balance_factor', (t) => {
  const { hash_balance_factor } = kinds.maglev.settings
  t.same(
    [undefined, 0, 100, '150'].map((value) => hash_balance_factor.parse(value)),
    [0, 0, 100, 150],
  )
  for (const bad of [99, 1, -1, 'much']) t.notOk(hash_balance_factor.safeParse(bad).success)
  t.end()
})

t.test(
  'maglev lets the table before serve while that of many members is built, and instances converge',
  (t) => {
    const list = many(3000)
    const whole = electable(list)
    const less = electable(list.slice(1))
    const clients = many(2000).map((_, i) => client(i * 31))
    const one = kinds.maglev.create(hashing, context())
    const settled = (balancer: typeof one, pool: Electable) => {
      for (let i = 0; i < 100; i++) balancer.elect(client(i), pool)
      return clients.map((key) => pool.columns.text[balancer.elect(key, pool)]!)
    }
    const before = settled(one, whole)
    const first = clients.slice(0, 10).map((key) => less.columns.text[one.elect(key, less)]!)
    t.same(first, before.slice(0, 10), 'the table before serves at once')
    const after = settled(one, less)
    t.same(settled(kinds.maglev.create(hashing, context()), less), after, 'another instance, from nothing')
    const moved = before.filter((text, i) => text !== address(0) && text !== after[i]).length
    t.ok(moved < 60, `${moved} of 2,000 moved though their backend stayed, 3 % allowed`)
    t.end()
  },
)

t.test(
  'tables are built once a version, kept for those in use, and dropped when too many or too old',
  async (t) => {
    const clock = new FakeClock()
    let built = 0
    const tables = new Tables(clock, () => ++built)
    const [one, other, third] = many(3).map(() => electable(many(10)))
    t.same(
      [one, one, other, one, other].map((pool) => tables.of(pool!)),
      [1, 1, 2, 1, 2],
    )
    await clock.advance(60_000)
    t.equal(tables.of(other!), 2)
    t.equal(tables.of(third!), 3)
    t.equal(tables.of(one!), 4, 'unused for a minute')
    const large = many(3).map(() => electable(many(10_000)))
    large.forEach((pool) => tables.of(pool))
    t.equal(tables.of(large[1]!), 6)
    t.equal(tables.of(large[0]!), 8, 'two large ones are kept')
    t.end()
  },
)

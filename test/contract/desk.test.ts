// A server's desk before a plane that asks late and in batches, as threads would: slots and room are paid back
// exactly once, whatever happens in between.

import assert from 'node:assert/strict'
import t from 'tap'
import fc from 'fast-check'
import { compileAccess } from '../../src/access/rules.ts'
import { iphash, iphash1, maglev, roundrobin } from '../../src/balance/kinds.ts'
import type { Address } from '../../src/core/address.ts'
import { addressText, parseBackendAddress } from '../../src/core/address.ts'
import { found } from '../../src/core/backend.ts'
import type { Found } from '../../src/core/backend.ts'
import type { FlowEnd } from '../../src/plane/plane.ts'
import { Pool } from '../../src/pool/pool.ts'
import { Admission } from '../../src/server/admission.ts'
import type { AdmissionOptions } from '../../src/server/admission.ts'
import { describeNote } from '../../src/server/note.ts'
import { Outliers } from '../../src/server/outliers.ts'
import { QuicIds } from '../../src/server/quicids.ts'
import { Room } from '../../src/server/room.ts'
import { Totals } from '../../src/server/totals.ts'
import { FakeClock } from '../support/clock.ts'
import { FakePlane } from '../support/fakeplane.ts'
import { DATAGRAMS } from '../support/ledger.ts'
import { clientInitial, longHeader, serverInitial, shortHeader } from '../support/quic.ts'

const SILENT = { error() {}, warn() {}, info() {}, debug() {} }
const SPEC = {
  binds: [{ host: '127.0.0.1', port: 80 }],
  backlog: 1,
  clientIdleMs: 0,
  backendIdleMs: 0,
  halfCloseMs: 0,
  undecidedMs: 0,
  keepAliveMs: 0,
  report: false,
}

interface Options extends Partial<AdmissionOptions> {
  readonly most?: number
  readonly mostPerClient?: number
  readonly rate?: number
}

async function setUp(lines: (string | Found)[], options: Options = {}) {
  const clock = new FakeClock()
  const balancer = options.balancer ?? roundrobin.create({}, { clock })
  const ends: (FlowEnd & { text: string })[] = []
  const endpoints = new Map<string, Address[]>()
  const pool: Pool = new Pool(
    { balancer, weighted: false, random: () => 0, initiallyHealthy: true },
    {
      discovered: (backend) => pool.locate(backend, endpoints.get(backend.text) ?? [backend.found.address]),
      undiscovered: () => {},
      room: () => admission.serve(),
    },
  )
  const { most = 0, mostPerClient = 0, rate = 0 } = options
  const room = new Room({ maxConnections: most, maxPerClient: mostPerClient, ratePerClient: rate }, clock)
  const totals = new Totals()
  const admission = new Admission({
    pool,
    room,
    totals,
    balancer,
    access: undefined,
    hashKey: undefined,
    dialTimeoutMs: 5000,
    redispatch: 3,
    queueMs: 0,
    descriptorCeiling: 10_000,
    clock,
    log: SILENT,
    onEnd: (end, text) => ends.push({ ...end, text }),
    ...options,
  })
  const plane = new FakePlane()
  const datagrams = options.datagrams && { ...DATAGRAMS, glimpses: 4 }
  const listening = await plane.listen({ ...SPEC, ...(datagrams && { datagrams }) }, admission)
  admission.attach(listening)
  pool.traffic.readFrom(listening)
  const list = (each: (string | Found)[]) =>
    pool.update(each.map((one) => (typeof one === 'string' ? found(parseBackendAddress(one)!) : one)))
  await list(lines)
  const slots = () =>
    Object.fromEntries([...pool.backends].map(({ text, row }) => [text, pool.columns.slots[row]]))
  const dialled = () => plane.dials.map(({ address }) => addressText(address))
  const find = (text: string) => [...pool.backends].find((each) => each.text === text)!
  return {
    plane,
    pool,
    room,
    totals,
    clock,
    ends,
    list,
    slots,
    dialled,
    find,
    listening,
    admission,
    endpoints,
  }
}

const limited = (text: string, maxConnections: number) =>
  found(parseBackendAddress(text)!, { maxConnections })
const tick = () => new Promise(setImmediate)

t.test('slots are taken at election: a batch never overshoots a limit', async (t) => {
  const { plane, slots, totals } = await setUp([limited('a:1', 3)])
  for (let i = 0; i < 10; i++) plane.arrive('192.0.2.1')
  plane.flush()
  t.same(slots(), { 'a:1': 3 })
  t.equal(plane.dials.length, 3)
  t.equal(totals.refusals['all-full'], 7)
})

t.test('a client that has left before its answer came pays its slot and its room back', async (t) => {
  const { plane, slots, room, ends } = await setUp(['a:1'])
  const flow = plane.arrive('192.0.2.1')
  plane.leave(flow)
  plane.flush()
  plane.flush()
  t.same(slots(), { 'a:1': 0 })
  t.equal(room.size, 0)
  t.match(ends, [{ reason: 'client-closed', text: 'a:1' }])
})

t.test('a failed dial goes to another backend, which is not the one that failed', async (t) => {
  const { plane, dialled, slots, find, totals } = await setUp(['a:1', 'b:1'])
  const flow = plane.arrive('192.0.2.1')
  plane.flush()
  t.same(dialled(), ['a:1'])
  plane.dialResult(flow, 'refused')
  plane.flush()
  t.same(dialled(), ['b:1'])
  t.same(slots(), { 'a:1': 0, 'b:1': 1 })
  t.equal(find('a:1').refused, 1)
  t.equal(totals.redispatches, 1)
  t.equal(describeNote(plane.dials[0]!.note, 'roundrobin'), 'only-one;redispatch=1')
})

t.test('as many further backends are tried as redispatch says', async (t) => {
  for (const redispatch of [0, 1, 2]) {
    const { plane, ends, room } = await setUp(['a:1', 'b:1', 'c:1', 'd:1'], { redispatch })
    const flow = plane.arrive('192.0.2.1')
    plane.flush()
    let dials = 0
    for (; plane.dials.length > 0; dials++) {
      plane.dialResult(flow, dials === redispatch ? 'timeout' : 'refused')
      plane.flush()
    }
    plane.flush()
    t.equal(dials, redispatch + 1)
    t.match(ends, [{ reason: 'dial-timeout', backend: -1 }])
    t.not(ends[0]!.text, '', 'the log names the last one tried')
    t.equal(room.size, 0)
  }
})

t.test('the next address of a host name is tried before another backend', async (t) => {
  const { plane, dialled, endpoints, list, find } = await setUp([])
  endpoints.set(
    'a:1',
    ['10.0.0.1', '10.0.0.2', '10.0.0.3'].map((host) => ({ host, port: 1 })),
  )
  await list(['a:1', 'z:1'])
  const flow = plane.arrive('192.0.2.1')
  const tried: string[] = []
  for (let i = 0; i < 4; i++) {
    plane.flush()
    tried.push(...dialled())
    plane.dialResult(flow, 'refused')
  }
  t.same(tried, ['10.0.0.1:1', '10.0.0.2:1', '10.0.0.3:1', 'z:1'])
  t.equal(find('a:1').refused, 3)
})

t.test('the addresses of a host name take turns', async (t) => {
  const { plane, dialled, endpoints, list } = await setUp([])
  endpoints.set(
    'a:1',
    ['10.0.0.1', '10.0.0.2'].map((host) => ({ host, port: 1 })),
  )
  await list(['a:1'])
  for (let i = 0; i < 4; i++) plane.arrive('192.0.2.1')
  plane.flush()
  t.same(dialled(), ['10.0.0.1:1', '10.0.0.2:1', '10.0.0.1:1', '10.0.0.2:1'])
})

t.test('where the kind hashes, a client keeps the address of a host name it has', async (t) => {
  const { plane, dialled, endpoints, list } = await setUp([], { hashKey: (bytes) => bytes })
  endpoints.set(
    'a:1',
    ['10.0.0.1', '10.0.0.2', '10.0.0.3'].map((host) => ({ host, port: 1 })),
  )
  await list(['a:1'])
  for (const ip of ['192.0.2.1', '192.0.2.2', '192.0.2.3', '192.0.2.4', '192.0.2.1', '192.0.2.2'])
    plane.arrive(ip)
  plane.flush()
  const seen = dialled()
  t.equal(seen[4], seen[0])
  t.equal(seen[5], seen[1])
  t.ok(new Set(seen).size > 1, 'different clients get different ones')
})

t.test('our own shortage is not the fault of the backend', async (t) => {
  for (const why of ['descriptors', 'ports'] as const) {
    const { plane, ends, find, slots, totals } = await setUp(['a:1', 'b:1'])
    const flow = plane.arrive('192.0.2.1')
    plane.flush()
    plane.dialResult(flow, why)
    plane.flush()
    plane.flush()
    t.match(ends, [{ reason: why }])
    t.equal(totals.refusals[why], 1)
    t.equal(find('a:1').refused, 0)
    t.same(slots(), { 'a:1': 0, 'b:1': 0 })
  }
})

t.test(
  'what our own socket was asked in vain is no fault of the backend, and the next one is tried',
  async (t) => {
    const { plane, dialled, find } = await setUp(['a:1', 'b:1'])
    const flow = plane.arrive('192.0.2.1')
    plane.flush()
    const [first] = dialled()
    plane.dialResult(flow, 'unable')
    plane.flush()
    t.equal(dialled().length, 1)
    t.not(dialled()[0], first)
    t.same([find('a:1').refused, find('b:1').refused], [0, 0])
  },
)

t.test('an address of a family this machine lacks is passed over, and nobody is blamed', async (t) => {
  const { plane, dialled, endpoints, list, find } = await setUp([])
  endpoints.set(
    'a:1',
    ['::1', '127.0.0.1'].map((host) => ({ host, port: 1 })),
  )
  await list(['a:1'])
  const flow = plane.arrive('192.0.2.1')
  plane.flush()
  t.same(dialled(), ['[::1]:1'])
  plane.dialResult(flow, 'ports')
  plane.flush()
  t.same(dialled(), ['127.0.0.1:1'])
  t.equal(find('a:1').refused, 0)
})

t.test('a name with very many dead addresses does not hold a client for as many dials', async (t) => {
  const { plane, endpoints, list } = await setUp([], { redispatch: 0 })
  endpoints.set(
    'a:1',
    Array.from({ length: 200 }, (_, i) => ({ host: `10.0.0.${i}`, port: 1 })),
  )
  await list(['a:1'])
  const flow = plane.arrive('192.0.2.1')
  plane.flush()
  let dials = 0
  for (; plane.dials.length > 0; dials++) {
    plane.dialResult(flow, 'refused')
    plane.flush()
  }
  t.equal(dials, 4)
})

t.test('where the balancer hashes too, every address of every name is used', async (t) => {
  const { pool, plane, dialled, endpoints, list } = await setUp([], {
    hashKey: (bytes) => bytes,
    balancer: iphash.create({ hash_key: 'client' }, { clock: new FakeClock() }),
  })
  for (const name of ['a:1', 'b:1'])
    endpoints.set(
      name,
      [1, 2].map((last) => ({ host: `10.0.${name === 'a:1' ? 0 : 1}.${last}`, port: 1 })),
    )
  await list(['a:1', 'b:1'])
  t.equal(pool.size, 2)
  for (let i = 0; i < 200; i++) plane.arrive(`192.0.2.${i}`)
  plane.flush()
  t.equal(new Set(dialled()).size, 4)
})

t.test('a descriptor near the limit refuses early', async (t) => {
  const { plane, totals, room } = await setUp(['a:1'], { descriptorCeiling: 12 })
  plane.arrive('192.0.2.1')
  plane.arrive('192.0.2.1')
  plane.flush()
  t.equal(plane.dials.length, 1)
  t.equal(totals.refusals.descriptors, 1)
  t.equal(room.size, 1)
})

t.test('who may not come in is counted and takes no room', async (t) => {
  const access = compileAccess({ default: 'deny', rules: ['allow 192.0.2.0/24'] })
  const { plane, totals, room } = await setUp(['a:1'], { access })
  plane.arrive('192.0.2.1')
  plane.arrive('198.51.100.1')
  plane.arrive('')
  plane.flush()
  t.equal(totals.refusals.access, 1)
  t.equal(room.size, 2, 'a client of a unix listener has no address to judge')
})

t.test('a client refused by an election leaves its room', async (t) => {
  const { plane, totals, room, list } = await setUp([], { most: 1 })
  plane.arrive('192.0.2.1')
  plane.arrive('192.0.2.1')
  plane.flush()
  t.equal(totals.refusals['no-backends'], 2)
  t.equal(room.size, 0)
  await list(['a:1'])
  plane.arrive('192.0.2.1')
  plane.flush()
  t.equal(plane.dials.length, 1)
})

t.test('a backend written host:* is dialled on the port the client came to', async (t) => {
  const { plane, dialled } = await setUp(['10.0.0.1:*'])
  plane.arrive('192.0.2.1')
  plane.flush()
  t.same(dialled(), ['10.0.0.1:80'])
})

t.test('active connections are the established ones', async (t) => {
  const { plane, find, pool } = await setUp(['a:1'])
  const active = () => pool.traffic.connects(find('a:1').row) - find('a:1').closed
  const [one, two] = [plane.arrive('192.0.2.1'), plane.arrive('192.0.2.1')]
  plane.flush()
  t.equal(active(), 0)
  plane.dialResult(one, 'ok')
  t.equal(active(), 1)
  plane.finish(one, 'client-closed', { rx: 5, tx: 7 })
  plane.dialResult(two, 'refused')
  plane.flush()
  plane.flush()
  t.equal(active(), 0)
  t.equal(pool.traffic.connects(find('a:1').row), 1)
})

t.test('a removed backend is kept until its last flow has ended', async (t) => {
  const { plane, pool, list } = await setUp(['a:1'])
  const flow = plane.arrive('192.0.2.1')
  plane.flush()
  plane.dialResult(flow, 'ok')
  await list([])
  t.equal(pool.size, 1)
  plane.finish(flow, 'client-closed', { rx: 0, tx: 0 })
  plane.flush()
  t.equal(pool.size, 0)
})

t.test('the queue', async (t) => {
  t.test('serves who waits when a slot is given back, in the order they came', async (t) => {
    const { plane, admission, room } = await setUp([limited('a:1', 1)], { queueMs: 1000 })
    const [one, two, three] = [1, 2, 3].map((i) => plane.arrive(`192.0.2.${i}`))
    plane.flush()
    t.equal(admission.queued, 2)
    t.equal(room.size, 3, 'who waits is inside')
    plane.dialResult(one!, 'ok')
    plane.finish(one!, 'client-closed', { rx: 0, tx: 0 })
    plane.flush()
    await tick()
    plane.flush()
    t.same(
      plane.dials.map(({ flow }) => flow),
      [two],
    )
    t.equal(describeNote(plane.dials[0]!.note, 'roundrobin'), 'queued')
    plane.dialResult(two!, 'refused')
    plane.flush()
    await tick()
    plane.flush()
    t.same(
      plane.dials.map(({ flow }) => flow),
      [three],
    )
  })

  t.test('nobody overtakes those who wait', async (t) => {
    const { plane, pool, find, admission } = await setUp([limited('a:1', 1)], { queueMs: 1000 })
    pool.take(find('a:1').row)
    const first = plane.arrive('192.0.2.1')
    plane.flush()
    pool.release(find('a:1').row)
    plane.arrive('192.0.2.2')
    plane.flush()
    await tick()
    plane.flush()
    t.same(
      plane.dials.map(({ flow }) => flow),
      [first],
    )
    t.equal(admission.queued, 1)
  })

  t.test(
    'a client whose dials all failed is refused at once, it does not wait for a slot nobody lacks',
    async (t) => {
      const { plane, ends, admission } = await setUp(['a:1'], { queueMs: 1000 })
      const flow = plane.arrive('192.0.2.1')
      plane.flush()
      plane.dialResult(flow, 'refused')
      plane.flush()
      plane.flush()
      t.equal(admission.queued, 0)
      t.match(ends, [{ reason: 'dial-failed' }])
    },
  )

  t.test('one that can only have the full backend does not hold up those behind it', async (t) => {
    const { plane, list, dialled, admission, find, pool } = await setUp([limited('a:1', 1), 'b:1'], {
      queueMs: 1000,
    })
    pool.take(find('a:1').row)
    const first = plane.arrive('192.0.2.1')
    plane.flush()
    t.same(dialled(), ['b:1'])
    plane.dialResult(first, 'refused')
    plane.flush()
    await list([limited('a:1', 1), limited('b:1', 1)])
    t.equal(admission.queued, 1, 'it has tried b and waits for a')
    const second = plane.arrive('192.0.2.2')
    plane.flush()
    await list([limited('a:1', 1), limited('b:1', 2)])
    await tick()
    plane.flush()
    t.same(
      plane.dials.map(({ flow }) => flow),
      [second],
    )
    t.equal(admission.queued, 1)
  })

  t.test('one that waits for what it has not tried keeps nobody from what it has', async (t) => {
    const { plane, dialled, admission, find, pool } = await setUp([limited('a:1', 1), 'b:1'], {
      queueMs: 1000,
    })
    pool.take(find('a:1').row)
    const first = plane.arrive('192.0.2.1')
    plane.flush()
    plane.dialResult(first, 'refused')
    plane.flush()
    t.equal(admission.queued, 1)
    plane.arrive('192.0.2.2')
    plane.flush()
    await tick()
    plane.flush()
    t.same(dialled(), ['b:1'])
    t.equal(admission.queued, 1)
  })

  t.test('a client that has waited too long is refused', async (t) => {
    const { plane, clock, totals, room, ends, slots } = await setUp([limited('a:1', 1)], { queueMs: 1000 })
    plane.arrive('192.0.2.1')
    plane.arrive('192.0.2.2')
    plane.flush()
    await clock.advance(1000)
    plane.flush()
    plane.flush()
    t.match(ends, [{ reason: 'queue-timeout', backend: -1 }])
    t.equal(totals.refusals['queue-timeout'], 1)
    t.equal(room.size, 1)
    t.same(slots(), { 'a:1': 1 })
  })

  t.test('a backend that is discovered serves who waits', async (t) => {
    const { plane, list, dialled } = await setUp([limited('a:1', 1)], { queueMs: 1000 })
    plane.arrive('192.0.2.1')
    plane.arrive('192.0.2.2')
    plane.flush()
    await list([limited('a:1', 1), 'b:1'])
    await tick()
    plane.flush()
    t.same(dialled(), ['a:1', 'b:1'])
  })

  t.test('stopping ends those who wait, once', async (t) => {
    const { plane, listening, ends, room } = await setUp([limited('a:1', 1)], { queueMs: 1000 })
    plane.arrive('192.0.2.1')
    plane.arrive('192.0.2.2')
    plane.flush()
    const stopped = listening.stop('shutdown')
    plane.flush()
    await stopped
    t.same(
      ends.map(({ reason }) => reason),
      ['shutdown', 'shutdown'],
    )
    t.equal(room.size, 0)
  })
})

t.test('sessions of datagrams', async (t) => {
  const MOVE = { datagrams: { endLost: false, quic: undefined } }
  /** One session on the backend it was given. */
  const one = async (lines: (string | Found)[], options: Parameters<typeof setUp>[1] = MOVE) => {
    const all = await setUp(lines, options)
    const flow = all.plane.arrive('192.0.2.1')
    all.plane.flush()
    all.plane.dialResult(flow, 'ok')
    const lose = () => {
      all.plane.unreachable(flow)
      all.plane.flush()
    }
    const active = () =>
      Object.fromEntries(
        [...all.pool.backends].map(({ text, row, closed }) => [
          text,
          all.pool.traffic.connects(row) - closed,
        ]),
      )
    return { ...all, flow, lose, active }
  }

  t.test('one whose backend is unreachable moves to another', async (t) => {
    const { plane, flow, lose, active, slots, dialled, find, totals, ends } = await one(['a:1', 'b:1'])
    t.same(active(), { 'a:1': 1, 'b:1': 0 })
    lose()
    t.same(dialled(), ['b:1'])
    plane.dialResult(flow, 'ok')
    t.same(active(), { 'a:1': 0, 'b:1': 1 })
    t.same(slots(), { 'a:1': 0, 'b:1': 1 })
    t.equal(find('a:1').refused, 1)
    t.equal(totals.redispatches, 1)
    plane.finish(flow, 'client-idle')
    plane.flush()
    t.match(ends, [{ reason: 'client-idle', text: 'b:1' }])
    t.same(active(), { 'a:1': 0, 'b:1': 0 })
  })

  t.test('it ends where on_backend_loss is close', async (t) => {
    const { plane, lose, active, slots, room, ends } = await one(['a:1', 'b:1'], {
      datagrams: { endLost: true, quic: undefined },
    })
    lose()
    plane.flush()
    t.match(ends, [{ reason: 'backend-lost', backend: -1, text: 'a:1' }])
    t.same([active(), slots(), room.size], [{ 'a:1': 0, 'b:1': 0 }, { 'a:1': 0, 'b:1': 0 }, 0])
  })

  t.test('it ends when there is no other, or redispatch is spent', async (t) => {
    for (const redispatch of [1, 3]) {
      const { plane, flow, lose, ends, active } = await one(['a:1', 'b:1'], { ...MOVE, redispatch })
      lose()
      plane.dialResult(flow, 'ok')
      lose()
      plane.flush()
      t.match(ends, [{ reason: 'backend-lost', text: 'b:1' }])
      t.same(active(), { 'a:1': 0, 'b:1': 0 })
    }
  })

  t.test('one that fared well for a while may move back to where it was', async (t) => {
    const { plane, flow, lose, clock, dialled } = await one(['a:1', 'b:1'])
    lose()
    plane.dialResult(flow, 'ok')
    await clock.advance(10_001)
    lose()
    t.same(dialled(), ['a:1'])
  })

  t.test('a backend that is only ever unreachable is ejected, one that answers is not', async (t) => {
    const ejected: string[] = []
    const outliers = new Outliers(
      {
        consecutive_failures: 3,
        failures: ['refused'],
        ejection_time: 1000,
        max_ejection_time: undefined,
        max_ejected_percent: 100,
      },
      new FakeClock(),
      {
        counts: () => ({ discovered: 2, fit: 2 }),
        ejected: ({ text }) => ejected.push(text),
        recheck: () => false,
        returned: () => {},
      },
    )
    const { plane, admission, find } = await setUp(['a:1'], { ...MOVE, outliers, redispatch: 0 })
    const lose = (answers: boolean) => {
      const flow = plane.arrive('192.0.2.1')
      plane.flush()
      plane.dialResult(flow, 'ok')
      const client = { flow, ip: '', port: 1, localIp: '', localPort: 1, bind: 0, fd: -1 }
      admission.connected(client, find('a:1').row, 0)
      if (answers) admission.firstByte(client, find('a:1').row, 1)
      plane.unreachable(flow)
      plane.flush()
    }
    for (const answers of [false, false, true, false]) lose(answers)
    t.same(ejected, [])
    lose(false)
    t.same(ejected, ['a:1'])
  })
})

t.test('fire and forget', async (t) => {
  const ONCE = { datagrams: { fleeting: true, endLost: false, quic: undefined } }
  const arriveAll = ({ plane }: { plane: FakePlane }, count: number) => {
    for (let i = 0; i < count; i++) plane.arrive('192.0.2.1')
    plane.flush()
  }
  const finishAll = ({ plane }: { plane: FakePlane }) => {
    for (const { flow } of plane.dials) {
      plane.dialResult(flow, 'ok')
      plane.finish(flow, 'max-requests', { tx: 1, requests: 1 })
    }
    plane.flush()
  }

  t.test('limits of what is there at once refuse none of a batch', async (t) => {
    for (const options of [{ most: 10 }, { mostPerClient: 10 }, {}]) {
      const all = await setUp([limited('a:1', 1)], { ...ONCE, ...options })
      for (let round = 1; round <= 2; round++) {
        arriveAll(all, 200)
        t.same([all.plane.refusals, all.plane.dials.length], [[], 200])
        t.same([all.room.size, all.slots()], [0, { 'a:1': 0 }], 'decided, and gone')
        finishAll(all)
        t.same([all.room.size, all.slots()], [0, { 'a:1': 0 }], 'not twice')
        t.equal(all.totals.endings['max-requests'], 200 * round)
      }
      t.equal(all.pool.traffic.connects(0), all.find('a:1').closed)
    }
  })

  t.test('the rate of a client holds', async (t) => {
    const all = await setUp(['a:1'], { ...ONCE, rate: 5 })
    arriveAll(all, 20)
    t.equal(all.plane.dials.length, 5)
    t.equal(all.totals.refusals['rate'], 15)
    finishAll(all)
    t.equal(all.room.size, 0)
  })

  t.test('who is dialled again, and refused in the end, has left once', async (t) => {
    const { plane, room, slots, totals, ends } = await setUp(['a:1', 'b:1'], {
      ...ONCE,
      most: 2,
      mostPerClient: 2,
    })
    const flow = plane.arrive('192.0.2.1')
    plane.flush()
    for (let i = 0; i < 2; i++) {
      plane.dialResult(flow, 'refused')
      plane.flush()
    }
    plane.flush()
    t.match(ends, [{ reason: 'dial-failed', backend: -1 }])
    t.same([room.size, slots()], [0, { 'a:1': 0, 'b:1': 0 }])
    t.equal(totals.redispatches, 1)
    plane.arrive('192.0.2.1')
    plane.flush()
    t.equal(plane.dials.length, 1)
  })

  t.test('who waits to be decided is inside, and leaves when refused or when it ends', async (t) => {
    const quic = new QuicIds(10)
    const all = await setUp(['a:1'], { most: 2, datagrams: { fleeting: true, endLost: false, quic } })
    arriveAll(all, 3)
    t.equal(all.room.size, 2)
    t.equal(all.totals.refusals['server-full'], 1)
    await all.list([])
    for (const flow of [1, 2]) all.plane.send(flow, Buffer.from('hello'))
    while (all.plane.flush());
    t.equal(all.ends.length, 2)
    t.equal(all.room.size, 0)
  })

  t.test('a backend that is gone meanwhile keeps its row until the last has been told', async (t) => {
    const { plane, list, find, pool, ends } = await setUp(['a:1'], ONCE)
    const flow = plane.arrive('192.0.2.1')
    plane.flush()
    const gone = find('a:1')
    await list(['b:1'])
    t.not(find('b:1').row, gone.row)
    plane.dialResult(flow, 'ok')
    plane.finish(flow, 'max-requests', { tx: 1, requests: 1 })
    plane.flush()
    t.match(ends, [{ text: 'a:1' }])
    t.equal(gone.closed, 1)
    t.same(
      [...pool.backends].map(({ text }) => text),
      ['b:1'],
    )
  })
})

t.test('QUIC', async (t) => {
  const clock = new FakeClock()
  const KINDS = {
    iphash: iphash.create({ hash_key: 'quic-connection-id' }, { clock }),
    iphash1: iphash1.create({ hash_key: 'quic-connection-id' }, { clock }),
    maglev: maglev.create({ hash_key: 'quic-connection-id', hash_balance_factor: 0 }, { clock }),
  }
  const quic = async (lines: (string | Found)[], balancer = KINDS.iphash, most = 100) => {
    const ids = new QuicIds(most)
    const all = await setUp(lines, {
      balancer,
      hashKey: (bytes) => bytes,
      datagrams: { endLost: false, quic: ids },
    })
    /** A session that begins with these bytes; where it goes, and why. */
    const send = (ip: string, bytes: Uint8Array) => {
      const flow = all.plane.arrive(ip)
      all.plane.send(flow, bytes)
      while (all.plane.flush());
      const dial = all.plane.dials.find((each) => each.flow === flow)
      if (!dial) return { flow, to: '', why: '' }
      all.plane.dialResult(flow, 'ok')
      return { flow, to: addressText(dial.address), why: describeNote(dial.note, 'hash') }
    }
    const answer = (flow: number, bytes: Uint8Array) => {
      all.plane.glimpse(flow, bytes)
      all.plane.flush()
    }
    return { ...all, ids, send, answer }
  }
  const MANY = Array.from({ length: 16 }, (_, i) => `10.0.0.${i}:443`)
  const ISSUED = Buffer.from('f067a5502a4262b5', 'hex')

  t.test('a connection is found again by the id its backend has issued', async (t) => {
    for (const [name, balancer] of Object.entries(KINDS)) {
      const { send, answer } = await quic(MANY, balancer)
      const { flow, to, why } = send('192.0.2.1', clientInitial)
      t.equal(why, 'hash', name)
      answer(flow, serverInitial)
      for (let i = 2; i < 20; i++)
        t.match(send(`192.0.2.${i}`, shortHeader(ISSUED)), { to, why: 'connection-id' }, name)
    }
  })

  t.test('it is elected by the id, so other balancers elect alike', async (t) => {
    for (const balancer of Object.values(KINDS)) {
      const one = await quic(MANY, balancer)
      const other = await quic(MANY, balancer)
      t.equal(one.send('192.0.2.1', clientInitial).to, other.send('198.51.100.7', clientInitial).to)
    }
    const { send } = await quic(MANY, KINDS.maglev)
    const each = Array.from({ length: 50 }, (_, i) => send('192.0.2.1', longHeader(Buffer.alloc(8, i))).to)
    t.ok(new Set(each).size > 5, 'connections of one client are spread')
  })

  t.test('an id that a client has chosen is known at once, and follows it to another backend', async (t) => {
    const { send, plane } = await quic(MANY)
    const first = send('192.0.2.1', clientInitial)
    plane.unreachable(first.flow)
    while (plane.flush());
    const moved = addressText(plane.dials[0]!.address)
    plane.dialResult(first.flow, 'ok')
    t.not(moved, first.to)
    t.match(send('192.0.2.2', clientInitial), { to: moved, why: 'connection-id' })
  })

  t.test('one whose backend is down is elected anew, one whose backend drains is not', async (t) => {
    const { send, answer, pool, find, list } = await quic(MANY)
    const { flow, to } = send('192.0.2.1', clientInitial)
    answer(flow, serverInitial)
    pool.mark(find(to), false)
    const elsewhere = send('192.0.2.2', shortHeader(ISSUED))
    t.not(elsewhere.to, to)
    t.equal(elsewhere.why, 'hash')
    pool.mark(find(to), true)
    await list(MANY.map((text) => (text === to ? found(parseBackendAddress(text)!, { drain: true }) : text)))
    t.match(send('192.0.2.3', shortHeader(ISSUED)), { to, why: 'connection-id' })
    t.not(send('192.0.2.4', longHeader(Buffer.alloc(8, 1))).to, to)
  })

  t.test('one whose backend is full is refused: no other knows it', async (t) => {
    const { send, answer, totals } = await quic([limited('10.0.0.1:443', 1), limited('10.0.0.2:443', 99)])
    let at = send('192.0.2.1', clientInitial)
    for (let i = 0; at.to !== '10.0.0.1:443'; i++) at = send('192.0.2.1', longHeader(Buffer.alloc(8, i)))
    answer(at.flow, serverInitial)
    t.equal(send('192.0.2.9', shortHeader(ISSUED)).to, '')
    t.equal(totals.refusals['all-full'], 1)
  })

  t.test('a connection stays at its address among those of a host name', async (t) => {
    const { send, answer, endpoints, list } = await quic([])
    endpoints.set(
      'a:443',
      [1, 2, 3, 4].map((last) => ({ host: `10.0.0.${last}`, port: 443 })),
    )
    await list(['a:443'])
    const { flow, to } = send('192.0.2.1', clientInitial)
    answer(flow, serverInitial)
    for (let i = 2; i < 20; i++) t.match(send(`192.0.2.${i}`, shortHeader(ISSUED)), { to })
  })

  t.test('what is not QUIC goes by the address of its client', async (t) => {
    const { send, ids } = await quic(MANY)
    const plain = await setUp(MANY, { balancer: KINDS.iphash, hashKey: (bytes) => bytes })
    const dns = Buffer.from('9f2a0100000100000000000003777777076578616d706c6503636f6d0000010001', 'hex')
    for (const [i, bytes] of [dns, Buffer.alloc(0), Buffer.from('hello'), Buffer.alloc(1200)].entries()) {
      plain.plane.arrive(`192.0.2.${i}`)
      plain.plane.flush()
      t.same(send(`192.0.2.${i}`, bytes).to, plain.dialled()[i])
    }
    t.equal(ids.size, 0)
  })

  t.test('nothing a client sends throws or stays', async () => {
    const { plane, ids, room, send } = await quic(MANY, KINDS.iphash, 20)
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 64 }),
      fc.uint8Array({ minLength: 8, maxLength: 20 }).map((id) => longHeader(id, id)),
    )
    fc.assert(
      fc.property(bytes, bytes, (question, reply) => {
        const { flow, to } = send('192.0.2.1', question)
        assert.ok(to)
        plane.glimpse(flow, reply)
        plane.finish(flow, 'client-idle')
        while (plane.flush());
        assert.ok(ids.size <= 40)
        assert.equal(room.size, 0)
      }),
      { numRuns: 500 },
    )
    assert.equal(ids.size, 40)
  })
})

t.test('whatever the order of events, nothing is lost and nothing is paid twice', async () => {
  const step = fc.oneof(
    fc.constant('arrive' as const),
    fc.constant('flush' as const),
    fc.record({
      do: fc.constantFrom('leave', 'ok', 'refused', 'timeout', 'descriptors', 'finish', 'lost'),
      which: fc.nat(20),
    }),
    fc.constantFrom('shrink' as const, 'grow' as const, 'wait' as const),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.boolean(), async (steps, fleeting) => {
      const { plane, pool, room, ends, list, clock, totals, listening } = await setUp(
        [limited('a:1', 2), limited('b:1', 2)],
        { queueMs: 500, most: 12, datagrams: { fleeting, endLost: false, quic: undefined } },
      )
      const alive = new Set<number>()
      const connected = new Set<number>()
      for (const each of steps) {
        if (each === 'arrive') alive.add(plane.arrive('192.0.2.1'))
        else if (each === 'flush') plane.flush()
        else if (each === 'shrink') await list([limited('a:1', 2)])
        else if (each === 'grow') await list([limited('a:1', 2), limited('b:1', 2), limited('c:1', 1)])
        else if (each === 'wait') await clock.advance(200)
        else {
          for (const { client } of ends) connected.delete(client.flow)
          const dialling = plane.dials[each.which % (plane.dials.length || 1)]
          const going = [...connected][each.which % (connected.size || 1)]
          if (each.do === 'finish') {
            if (going !== undefined) plane.finish(going, 'client-closed', { rx: 1, tx: 1 })
            if (going !== undefined) connected.delete(going)
          } else if (each.do === 'lost') {
            if (going !== undefined) plane.unreachable(going)
            if (going !== undefined) connected.delete(going)
          } else if (each.do === 'leave') {
            for (const { flow } of plane.refusals) alive.delete(flow)
            for (const { client } of ends) alive.delete(client.flow)
            const leaving = [...alive][each.which % (alive.size || 1)]
            if (leaving !== undefined) plane.leave(leaving)
            if (leaving !== undefined) alive.delete(leaving)
            if (leaving !== undefined) connected.delete(leaving)
          } else if (dialling) {
            plane.dialResult(dialling.flow, each.do)
            if (each.do === 'ok') connected.add(dialling.flow)
          }
        }
        await tick()
      }
      const stopped = listening.stop('shutdown')
      for (let i = 0; i < 5; i++) {
        plane.flush()
        await tick()
      }
      await stopped
      assert.equal(room.size, 0, 'room')
      for (const backend of pool.backends) {
        assert.equal(pool.columns.slots[backend.row], 0, `slots of ${backend.text}`)
        assert.equal(backend.held, 0, `holds of ${backend.text}`)
        assert.equal(pool.traffic.connects(backend.row), backend.closed, `connected to ${backend.text}`)
      }
      const flows = ends.map(({ client }) => client.flow)
      assert.equal(new Set(flows).size, flows.length, 'a flow ends once')
      const refused = plane.refusals.filter(({ flow }) => !flows.includes(flow)).length
      assert.equal(flows.length + refused, totals.arrived, 'everybody is accounted for')
    }),
    { numRuns: 150 },
  )
})

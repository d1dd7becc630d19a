// Health that acts: backends that return little by little, that traffic itself puts out, that say what they want.

import { rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { once } from 'node:events'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import type { Manager } from '../../src/manager/manager.ts'
import type { Backend as PoolBackend } from '../../src/pool/backend.ts'
import type { Server } from '../../src/server/server.ts'
import { FakeClock } from '../support/clock.ts'
import { backend, client, met } from '../support/ends.ts'
import type { Backend } from '../support/ends.ts'
import { FakePlane } from '../support/fakeplane.ts'
import { folder } from '../support/folder.ts'
import { logged, serving, statsOf, statsUntil } from '../support/observed.ts'
import { onEveryPlane } from '../support/planes.ts'
import { portOf, running } from '../support/running.ts'
import { script } from '../support/scripts.ts'
import { until } from '../support/until.ts'

const PING = { kind: 'ping', interval: '50ms', timeout: '2s' }

const web = (manager: Manager): Server => manager.servers.get('web')!

function pooled(manager: Manager, { address }: { address: string }): PoolBackend {
  return [...web(manager).pool.backends].find(({ text }) => text === address)!
}

/** Whom `count` clients meet, one after the other. */
async function visitors(t: Test, manager: Manager, count: number): Promise<string[]> {
  const seen = []
  for (let i = 0; i < count; i++) seen.push(await met(t, portOf(manager, 'web')))
  return seen
}

/** A server on a plane and a clock that move when told to; `visit` lets a client in, and the dial go as it says. */
async function onPaper(t: Test, list: readonly string[], settings: object) {
  const clock = new FakeClock()
  const plane = new FakePlane()
  const manager = await running(t, { servers: { web: serving(list, settings) } }, { clock, plane })
  const flush = () => {
    while (plane.flush());
  }
  /** Dials until one succeeds; the texts of those that were dialled. */
  const visit = (refusing: readonly string[] = []): string[] => {
    const dialled: string[] = []
    const flow = plane.arrive('192.0.2.1')
    flush()
    for (;;) {
      const dial = plane.dials.find((each) => each.flow === flow)
      if (!dial) return dialled
      const { text } = web(manager).pool.at(dial.backend)
      dialled.push(text)
      const refused = refusing.includes(text)
      plane.dialResult(flow, refused ? 'refused' : 'ok')
      flush()
      if (refused) continue
      plane.finish(flow, 'client-closed', { rx: 1, tx: 1 })
      flush()
      return dialled
    }
  }
  const find = (text: string) => [...web(manager).pool.backends].find((each) => each.text === text)!
  return { clock, plane, manager, visit, find, server: web(manager) }
}

/** Backends that are healthy as long as there is a file of their port's name. */
async function byFile(t: Test, count: number) {
  const place = folder(t)
  const backends: Backend[] = []
  for (let i = 0; i < count; i++) backends.push(await backend(t, { name: String(i) }))
  const set = ({ port }: Backend, up: boolean) =>
    up ? writeFileSync(join(place, String(port)), '') : rmSync(join(place, String(port)), { force: true })
  for (const each of backends) set(each, true)
  const command = script(place, 'check', 'test -e $dir/$2 && echo 1 || echo 0')
  const healthcheck = {
    kind: 'exec',
    interval: '100ms',
    timeout: '5s',
    exec_command: command,
    exec_expected_positive_output: '1',
    exec_expected_negative_output: '0',
  }
  return { backends, set, healthcheck }
}

onEveryPlane((t, running) => {
  t.test('a backend that resets before it answers is out, although its checks pass', async (t) => {
    const good = await backend(t, { name: 'good' })
    const rude = createServer((socket) => {
      socket.on('error', () => {})
      // Pings connect and leave; clients stay.
      setTimeout(() => socket.destroyed || socket.resetAndDestroy(), 20)
    }).listen(0, '127.0.0.1')
    await once(rude, 'listening')
    t.teardown(() => rude.close())
    const address = `127.0.0.1:${(rude.address() as AddressInfo).port}`
    const outlier = { consecutive_failures: 3, ejection_time: '300ms', max_ejection_time: '10s' }
    const section = serving([good.address, address], { balance: 'roundrobin', healthcheck: PING, outlier })
    const log = logged(t)
    const manager = await running(t, { servers: { web: section } })
    log()
    const seen = await visitors(t, manager, 12)
    t.equal(seen.filter((name) => name === '').length, 3, 'three were reset, then no more')
    const { backends } = await statsOf(manager)
    t.match(
      backends.find(({ port }) => address.endsWith(`:${port}`)),
      { stats: { live: false }, ejected: true, last_check: { status: 'healthy' } },
    )
    t.notMatch(
      backends.find(({ port }) => good.address.endsWith(`:${port}`)),
      { ejected: true },
    )
    await until(() => !pooled(manager, { address }).ejected, 'its return')
    await visitors(t, manager, 8)
    await until(() => pooled(manager, { address }).ejected, 'the second ejection')
    t.equal(web(manager).outliers!.ejections.reset, 2)
    const text = await log()
    t.match(text, /is ejected: out for 300ms, it reset too many flows in a row before a byte of its own/)
    t.match(text, /is no longer ejected/)
    t.match(text, /is ejected: out for 600ms/)
  })

  t.test('after its time a backend returns with the check that passes, not before', async (t) => {
    const [a, b] = [await backend(t, { name: 'a' }), await backend(t, { name: 'b' })]
    // So rare a check that it can only be the one that was asked for, and then those of a backend in doubt.
    const healthcheck = { kind: 'ping', interval: '1h', interval_down: '100ms', fails: 1000 }
    const outlier = { consecutive_failures: 2, ejection_time: '200ms' }
    const section = serving([a, b], { balance: 'roundrobin', healthcheck, outlier })
    const manager = await running(t, { servers: { web: section } })
    await a.stop()
    await visitors(t, manager, 6)
    const out = pooled(manager, a)
    t.equal(out.ejected, true)
    await until(() => web(manager).lastCheck(out)?.status === 'unhealthy', 'the check after its time')
    const { at } = web(manager).lastCheck(out)!
    await until(() => web(manager).lastCheck(out)!.at > at + 300, 'some more of them')
    t.equal(out.ejected, true)
    t.same([...new Set(await visitors(t, manager, 4))], ['b'])
    await a.start()
    await until(() => !out.ejected, 'its return')
    t.same(new Set(await visitors(t, manager, 4)), new Set(['a', 'b']))
  })

  t.test('a backend that closes without a word is out where that counts', async (t) => {
    const good = await backend(t, { echo: true })
    const mute = createServer((socket) => socket.on('error', () => {}).on('data', () => socket.end()))
    mute.listen(0, '127.0.0.1')
    await once(mute, 'listening')
    t.teardown(() => mute.close())
    const address = `127.0.0.1:${(mute.address() as AddressInfo).port}`
    const section = (failures?: string[]) =>
      serving([good.address, address], { balance: 'roundrobin', outlier: { ...(failures && { failures }) } })
    const manager = await running(t, { servers: { web: section(['empty']), usual: section() } })
    for (const name of ['web', 'usual'])
      for (let i = 0; i < 16; i++) {
        // Half of the clients say nothing at all.
        const end = client(t, portOf(manager, name))
        await until(() => end.local !== '', 'the connection')
        if (i % 4 < 2) end.say('?')
        await until(() => end.over || end.bytes > 0 || i % 4 >= 2, 'an answer or the end')
        await end.leave()
      }
    await until(() => web(manager).totals.endings['client-closed']! > 0)
    t.same(web(manager).outliers!.ejections, { empty: 0 }, 'four in a row is not five')
    for (let i = 0; i < 12; i++) {
      const end = client(t, portOf(manager, 'web')).say('?')
      await until(() => end.over || end.bytes > 0)
      await end.leave()
    }
    await until(() => web(manager).outliers!.ejections.empty === 1, 'the ejection')
    t.same(manager.servers.get('usual')!.outliers!.ejections, { refused: 0, timeout: 0, reset: 0 })
  })

  t.test('when too few are healthy all are elected, which is said loudly', async (t) => {
    const { backends, set, healthcheck } = await byFile(t, 3)
    const section = serving(backends, { balance: 'roundrobin', healthcheck, panic_threshold: 50 })
    const log = logged(t)
    const manager = await running(t, { servers: { web: section } })
    await log()
    set(backends[0]!, false)
    await until(() => !pooled(manager, backends[0]!).healthy, 'one to be down')
    t.same(new Set(await visitors(t, manager, 4)), new Set(['1', '2']))
    t.notMatch(await statsOf(manager), { panic: true })
    set(backends[1]!, false)
    await statsUntil(manager, 'panic', (stats) => (stats as { panic?: boolean }).panic === true)
    t.same(new Set(await visitors(t, manager, 6)), new Set(['0', '1', '2']))
    set(backends[1]!, true)
    await until(() => !web(manager).pool.panic, 'its end')
    t.same(new Set(await visitors(t, manager, 4)), new Set(['1', '2']))
    const text = await log()
    t.match(text, /panic: only 1 of 3 backends are healthy, fewer than 50%; all are elected, healthy or not/)
    t.match(text, /panic is over: 2 of 3 backends are healthy/)
  })

  t.test('an agent says how much its backend wants', async (t) => {
    const [a, b] = [await backend(t, { name: 'a' }), await backend(t, { name: 'b' })]
    let says = 'up 100%\n'
    const agent = createServer((socket) => socket.on('error', () => {}).end(says)).listen(0, '127.0.0.1')
    await once(agent, 'listening')
    t.teardown(() => agent.close())
    const { port } = agent.address() as AddressInfo
    const healthcheck = { kind: 'agent', interval: '50ms', timeout: '5s', agent_port: port }
    const list = [`${a.address} weight=100 max_connections=40`, b.address]
    const manager = await running(t, { servers: { web: serving(list, { healthcheck }) } })
    const { columns } = web(manager).pool
    const { row } = pooled(manager, a)
    says = 'up 75% maxconn:30\n'
    await until(() => columns.weight[row] === 75 && columns.limit[row] === 30, 'three quarters')
    says = 'drain\n'
    await until(
      () => pooled(manager, a).standing === 'none' && pooled(manager, b).standing === 'none',
      'drain',
    )
    t.equal(await met(t, portOf(manager, 'web')), '')
    t.equal(web(manager).totals.refusals.draining, 1)
    t.match((await statsOf(manager)).backends, [{ drain: true }, { drain: true }])
    says = 'ready\n'
    await until(() => pooled(manager, a).standing === 'in', 'it to be ready')
    t.equal(columns.weight[row], 75, 'what it no longer speaks of holds')
    says = 'down\n'
    await until(() => !pooled(manager, a).healthy, 'it to be down')
  })

  t.test('check_port is where a check goes, the backend is where clients go', async (t) => {
    const [a, side] = [await backend(t, { name: 'a' }), await backend(t)]
    const healthcheck = { ...PING, check_port: side.port }
    const manager = await running(t, { servers: { web: serving([a], { healthcheck }) } })
    await until(() => web(manager).lastCheck(pooled(manager, a))?.status === 'healthy')
    t.equal(await met(t, portOf(manager, 'web')), 'a')
    t.ok(side.taken.length > 0)
    await side.stop()
    await until(() => !pooled(manager, a).healthy, 'it to be down')
  })
})

t.test('a backend whose dials fail is out after the fifth, and every client is served', async (t) => {
  const list = ['192.0.2.1:1', '192.0.2.2:1', '192.0.2.3:1'] as const
  const [a] = list
  const { clock, visit, find, server } = await onPaper(t, list, { balance: 'roundrobin', outlier: {} })
  let failed = 0
  for (let i = 0; i < 60; i++) {
    const dialled = visit([a])
    t.not(dialled.at(-1), a)
    if (dialled[0] === a) failed++
  }
  t.equal(failed, 5)
  t.equal(find(a).ejected, true)
  t.equal(server.outliers!.ejections.refused, 1)

  await clock.advance(30_000)
  t.equal(find(a).ejected, false)
  const after = Array.from({ length: 9 }, () => visit()[0])
  for (const each of list) t.equal(after.filter((text) => text === each).length, 3, `${each} has a third`)
})

t.test('a dial that succeeds breaks a row of those that failed', async (t) => {
  const list = ['192.0.2.1:1', '192.0.2.2:1'] as const
  const { visit, find } = await onPaper(t, list, { balance: 'roundrobin', outlier: {} })
  for (let round = 0; round < 3; round++) {
    // Every other one goes there first: four fail, then one does not.
    for (let i = 0; i < 8; i++) visit([list[0]])
    for (let i = 0; i < 2; i++) visit()
  }
  t.equal(find(list[0]).ejected, false)
})

t.test('a list that shrinks lets those in that are too many', async (t) => {
  const list = ['192.0.2.1:1', '192.0.2.2:1', '192.0.2.3:1', '192.0.2.4:1']
  const path = join(folder(t), 'backends')
  const write = (lines: readonly string[]) => writeFileSync(path, lines.join('\n') + '\n')
  write(list)
  const discovery = { kind: 'exec', exec_command: ['cat', path], interval: '100ms' }
  const outlier = { consecutive_failures: 1, max_ejected_percent: 50 }
  const section = { bind: '127.0.0.1:0', balance: 'roundrobin', discovery, outlier }
  const plane = new FakePlane()
  const manager = await running(t, { servers: { web: section } }, { plane })
  await until(() => web(manager).pool.size === 4, 'the list')
  const flow = plane.arrive('192.0.2.9')
  while (plane.flush());
  for (let failed = 0; failed < 2; failed++) {
    plane.dialResult(flow, 'refused')
    while (plane.flush());
  }
  const out = () => [...web(manager).pool.backends].filter(({ ejected }) => ejected)
  t.equal(out().length, 2)
  write(out().map(({ text }) => text))
  await until(() => web(manager).pool.discovered === 2, 'the shorter list')
  await until(() => out().length === 1, 'one to return')
})

t.test('a shortage of our own puts nobody out', async (t) => {
  const list = ['192.0.2.1:1', '192.0.2.2:1']
  const { plane, server } = await onPaper(t, list, { outlier: { consecutive_failures: 1 } })
  for (const why of ['ports', 'descriptors'] as const) {
    const flow = plane.arrive('192.0.2.9')
    plane.flush()
    plane.dialResult(flow, why)
    while (plane.flush());
  }
  t.same(server.outliers!.ejections, { refused: 0, timeout: 0, reset: 0 })
})

t.test('who returns from an ejection takes little at first', async (t) => {
  const list = ['192.0.2.1:1', '192.0.2.2:1']
  const settings = { balance: 'roundrobin', outlier: {}, slow_start: '100s' }
  const { clock, visit, find, server } = await onPaper(t, list, settings)
  for (let i = 0; i < 20; i++) visit([list[0]!])
  t.equal(find(list[0]!).ejected, true)
  await clock.advance(30_000)
  const shareOfFirst = () => {
    let first = 0
    for (let i = 0; i < 400; i++) if (visit()[0] === list[0]) first++
    return first / 400
  }
  t.ok(shareOfFirst() < 0.06)
  await clock.advance(50_000)
  t.ok(Math.abs(shareOfFirst() - 0.25) < 0.06, 'half of its half')
  await clock.advance(50_000)
  t.equal(shareOfFirst(), 0.5)
  t.equal(server.pool.columns.chance[find(list[0]!).row], 1)
})

t.test('a server that stops while backends are out and ramp leaves no timer', async (t) => {
  const list = ['192.0.2.1:1', '192.0.2.2:1', '192.0.2.3:1', '192.0.2.4:1']
  const outlier = { max_ejected_percent: 50, consecutive_failures: 1 }
  const { clock, visit, find, manager } = await onPaper(t, list, { outlier, slow_start: '100s' })
  while (!find(list[0]!).ejected) visit([list[0]!])
  await clock.advance(30_000)
  while (!find(list[1]!).ejected) visit([list[1]!])
  t.ok(clock.pending > 0)
  await manager.stop(0, 'killed')
  t.equal(clock.pending, 0)
})

t.test(
  'a backend that is back after it was down takes little at first, one that is new takes all',
  async (t) => {
    const [a, b] = [await backend(t, { name: 'a' }), await backend(t, { name: 'b' })]
    const section = serving([a, b], { balance: 'leastconn', healthcheck: PING, slow_start: '1500ms' })
    const manager = await running(t, { servers: { web: section } })
    const ramp = () => web(manager).pool.columns.ramp[pooled(manager, a).row]!
    await until(() => web(manager).lastCheck(pooled(manager, a)) !== undefined, 'the first check')
    t.equal(ramp(), 1)
    await a.stop()
    await until(() => !pooled(manager, a).healthy, 'it to be down')
    await a.start()
    await until(() => pooled(manager, a).healthy, 'it to be up')
    const shares: number[] = []
    await until(() => shares.push(ramp()) > 0 && ramp() === 1, 'the whole share')
    t.ok(shares[0]! < 0.5)
    t.ok(new Set(shares).size >= 5, 'in many small steps')
    t.same(
      shares,
      shares.toSorted((x, y) => x - y),
    )
  },
)

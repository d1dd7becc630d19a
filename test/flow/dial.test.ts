// Connecting a client to a backend: names and addresses, second tries, and the true reason when nobody is there.

import { join } from 'node:path'
import type { Test } from 'tap'
import { realClock } from '../../src/core/clock.ts'
import { Names } from '../../src/dns/names.ts'
import { NO_IPV6 } from '../support/ipv6.ts'
import { Backend, backend, client, deafBackend, met, visit } from '../support/ends.ts'
import { backendStats, logged, serving, statsOf, statsUntil } from '../support/observed.ts'
import { onEveryPlane } from '../support/planes.ts'
import { portOf } from '../support/running.ts'
import { folder } from '../support/folder.ts'
import { until } from '../support/until.ts'

/** The address of a backend that is not there. */
async function nobody(t: Test, host = '127.0.0.1'): Promise<string> {
  const gone = await backend(t, { host })
  await gone.refuse()
  return gone.address
}

const RR = { balance: 'roundrobin' }

/** Backends on the same port of several loopback addresses, and a resolver that gives a name all of them. */
async function behindOneName(t: Test, addresses: readonly string[]) {
  const first = await backend(t, { name: addresses[0]!, host: addresses[0]! })
  const backends = [first]
  for (const host of addresses.slice(1))
    backends.push(await backend(t, { name: host, host, port: first.port }))
  let failing = false
  let asked = 0
  let now = addresses
  const resolve = async () => {
    asked++
    if (failing) throw Object.assign(new Error('queryA ESERVFAIL'), { code: 'ESERVFAIL' })
    return now.map((address) => ({ address, ttl: 1 }))
  }
  const names = new Names(realClock, {
    hosts: async () => undefined,
    resolve4: resolve,
    resolve6: async () => [],
    lookup: async () => {
      throw Object.assign(new Error('getaddrinfo EAI_AGAIN'), { code: 'EAI_AGAIN' })
    },
  })
  const fail = () => void (failing = true)
  const change = (...to: string[]) => void (now = to)
  return { backends, port: first.port, names, fail, change, asked: () => asked }
}

const THREE = ['127.0.0.11', '127.0.0.12', '127.0.0.13']

onEveryPlane((t, running) => {
  t.test('a client whose backend refuses is given to another one, and never knows', async (t) => {
    const dead = await nobody(t)
    const alive = await backend(t, { name: 'alive' })
    const manager = await running(t, { servers: { web: serving([dead, alive.address], RR) } })
    for (let i = 0; i < 10; i++) t.equal(await met(t, portOf(manager, 'web')), 'alive')
    const stats = await statsUntil(manager, '10 ends', (stats) => stats.active_connections === 0)
    t.equal(stats.endings['client-closed'], 10)
    t.equal(stats.endings['dial-failed'], 0)
    const refused = await backendStats(manager, dead)
    t.ok(refused!.stats.refused_connections >= 5, 'at least every second client was sent there first')
    t.match(refused!.stats, { total_connections: 0, active_connections: 0 })
    t.match((await backendStats(manager, alive.address))!.stats, {
      total_connections: 10,
      refused_connections: 0,
    })
  })

  t.test('what the client said meanwhile is not lost', async (t) => {
    const echo = await backend(t, { echo: true })
    const lines = [await nobody(t), await nobody(t), `${echo.address} priority=2`]
    const manager = await running(t, { servers: { web: serving(lines) } })
    const front = client(t, portOf(manager, 'web')).say('early words')
    front.socket.end()
    await until(() => front.ended, 'the echo')
    t.equal(front.text, 'early words')
  })

  t.test('a path that is not there and an address nobody may dial are passed over likewise', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const missing = `unix:${join(folder(t), 'missing.sock')}`
    const lines = [missing, '255.255.255.255:9 priority=2', `${alive.address} priority=3`]
    const manager = await running(t, { servers: { web: serving(lines) } })
    t.equal(await met(t, portOf(manager, 'web')), 'alive')
    const { backends, endings } = await statsOf(manager)
    t.same(
      backends.map(({ stats }) => stats.refused_connections),
      [1, 1, 0],
    )
    t.equal(endings['dial-failed'], 0)
  })

  t.test('at most `redispatch` further backends are tried, none of them twice', async (t) => {
    const lines = await Promise.all(Array.from({ length: 6 }, () => nobody(t)))
    const manager = await running(t, {
      servers: { three: serving(lines, RR), one: serving(lines, { ...RR, redispatch: 1 }) },
    })
    for (const [name, tries] of [
      ['three', 4],
      ['one', 2],
    ] as const) {
      t.equal(await met(t, portOf(manager, name)), '')
      await until(async () => (await statsOf(manager, name)).endings['dial-failed'] === 1, 'the end')
      const { backends } = await statsOf(manager, name)
      const counts = backends.map(({ stats }) => stats.refused_connections).sort()
      t.same(counts, [...Array<number>(6 - tries).fill(0), ...Array<number>(tries).fill(1)], name)
    }
  })

  t.test('`redispatch: 0` tries no other backend', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const lines = [await nobody(t), `${alive.address} priority=2`]
    const manager = await running(t, { servers: { web: serving(lines, { redispatch: 0 }) } })
    t.equal(await met(t, portOf(manager, 'web')), '')
    const stats = await statsUntil(manager, 'the end', ({ endings }) => endings['dial-failed'] === 1)
    t.equal(stats.active_connections, 0)
    t.equal(alive.taken.length, 0)
  })

  t.test('a failed dial is logged with its backend and cause, not as a full or empty pool', async (t) => {
    const dead = await nobody(t)
    const manager = await running(t)
    const log = logged(t)
    await manager.create('web', serving([dead]))
    t.equal(await met(t, portOf(manager, 'web')), '')
    await statsUntil(manager, 'the end', ({ endings }) => endings['dial-failed'] === 1)
    const lines = (await log())
      .split('\n')
      .filter((line) => /\[(ERROR|WARNI)/.test(line))
      .join('\n')
    t.match(lines, dead)
    t.match(lines, /refused/i)
    t.notMatch(lines, /max connections|unhealthy|no backends/)
  })

  t.test('a dial nobody answers gives way to another backend after backend_connection_timeout', async (t) => {
    const deaf = await deafBackend(t)
    const alive = await backend(t, { name: 'alive' })
    const lines = [deaf.address, `${alive.address} priority=2`]
    const manager = await running(t, {
      servers: {
        web: serving(lines, { backend_connection_timeout: '300ms' }),
        alone: serving([deaf], { backend_connection_timeout: '300ms' }),
      },
    })
    const start = performance.now()
    t.equal(await met(t, portOf(manager, 'web')), 'alive')
    t.ok(performance.now() - start >= 295, 'not before')
    t.match((await backendStats(manager, deaf.address))!.stats, {
      refused_connections: 1,
      total_connections: 0,
    })

    t.equal(await met(t, portOf(manager, 'alone')), '')
    await until(async () => (await statsOf(manager, 'alone')).endings['dial-timeout'] === 1, 'a dial-timeout')
  })

  t.test(
    'a client that sends megabytes while its backend is dialled is held back, and loses none',
    async (t) => {
      const deaf = await deafBackend(t)
      const listener = await backend(t)
      const lines = [deaf.address, `${listener.address} priority=2`]
      const settings = { backend_connection_timeout: '700ms' }
      const manager = await running(t, { servers: { web: serving(lines, settings) } })
      const front = client(t, portOf(manager, 'web'))
      const before = process.memoryUsage().arrayBuffers
      const poured = front.pour(24_000_000).then(() => front.socket.end())
      await statsUntil(manager, 'the dial', ({ active_connections }) => active_connections === 1)
      const start = performance.now()
      await until(() => performance.now() - start > 400 || listener.taken.length > 0, 'the dial to last')
      const grown = process.memoryUsage().arrayBuffers - before
      t.ok(grown < 16_000_000, `${grown} bytes of buffers more than before`)
      const back = await listener.connection()
      await poured
      await until(() => back.ended, 'all of it')
      t.equal(back.bytes, 24_000_000)
    },
  )

  t.test('a client that leaves while its backend is dialled gives its places back', async (t) => {
    const deaf = await deafBackend(t)
    const settings = { backend_connection_timeout: '300ms', max_connections: 1 }
    const manager = await running(t, {
      servers: { web: serving([`${deaf.address} max_connections=1`], settings) },
    })
    for (let i = 1; i <= 2; i++) {
      const front = client(t, portOf(manager, 'web'))
      await statsUntil(manager, 'one in', ({ active_connections }) => active_connections === 1)
      front.socket.resetAndDestroy()
      const { endings } = await statsUntil(manager, 'none in', (stats) => stats.active_connections === 0)
      t.equal(
        Object.values(endings).reduce((a, b) => a + b, 0),
        i,
        'one end a flow',
      )
    }
    t.match(await statsOf(manager), { refusals: { 'all-full': 0, 'server-full': 0 } })
  })

  t.test('without a backend clients are closed, and the true reason is counted', async (t) => {
    const dead = await nobody(t)
    const alive = await backend(t, { name: 'alive' })
    const down = { kind: 'ping', interval: '1h', initial_status: 'unhealthy' }
    const manager = await running(t)
    const log = logged(t)
    await manager.create('empty', serving([]))
    await manager.create('down', serving([dead], { healthcheck: down }))
    await manager.create('full', serving([`${alive.address} max_connections=1`]))
    await visit(t, portOf(manager, 'full'))
    for (const [name, reason, said] of [
      ['empty', 'no-backends', 'no backends discovered'],
      ['down', 'all-unhealthy', 'all backends are unhealthy'],
      ['full', 'all-full', 'all backends have reached their max connections limit'],
    ] as const) {
      t.equal(await met(t, portOf(manager, name)), '')
      await until(async () => (await statsOf(manager, name)).refusals[reason] === 1, `${reason} of ${name}`)
      const { refusals, endings } = await statsOf(manager, name)
      t.equal(
        Object.values(refusals).reduce((a, b) => a + b, 0),
        1,
        'and no other',
      )
      t.equal(
        Object.values(endings).reduce((a, b) => a + b, 0),
        0,
      )
      const line = (await log()).split('\n').find((each) => each.includes('ERROR') && each.includes(name))
      t.match(line, `refused a client: ${said}`)
    }
  })

  t.test('`localhost` and an address in brackets name backends', { skip: NO_IPV6 }, async (t) => {
    const four = await backend(t, { name: 'four' })
    const six = await backend(t, { name: 'six', host: '::1' })
    const unix = await backend(t, { name: 'unix', path: join(folder(t), 'backend.sock') })
    const manager = await running(t, {
      servers: { by: serving([`localhost:${four.port}`]), six: serving([six]), unix: serving([unix]) },
    })
    t.equal(await met(t, portOf(manager, 'by')), 'four')
    t.equal(await met(t, portOf(manager, 'six')), 'six')
    t.equal(await met(t, portOf(manager, 'unix')), 'unix')
  })

  t.test('a name with three addresses spreads over three, and they are one backend', async (t) => {
    const { port, names } = await behindOneName(t, THREE)
    const manager = await running(t, { servers: { web: serving([`farm.test:${port}`]) } }, { names })
    const seen: string[] = []
    for (let i = 0; i < 9; i++) seen.push(await met(t, portOf(manager, 'web')))
    t.same(
      seen.sort(),
      THREE.flatMap((each) => [each, each, each]),
    )
    const { backends } = await statsOf(manager)
    t.equal(backends.length, 1)
    t.match(backends[0], { host: 'farm.test', stats: { total_connections: 9 } })
  })

  t.test('a name that gets other addresses sends new clients there and keeps the flows it has', async (t) => {
    const { port, names, change } = await behindOneName(t, THREE)
    change(THREE[0]!)
    const manager = await running(t, { servers: { web: serving([`farm.test:${port}`]) } }, { names })
    const { name, end } = await visit(t, portOf(manager, 'web'))
    t.equal(name, THREE[0])
    change(THREE[1]!)
    await until(async () => (await met(t, portOf(manager, 'web'))) === THREE[1], 'the new address')
    t.equal(await met(t, portOf(manager, 'web')), THREE[1])
    t.notOk(end.over)
  })

  t.test('a hash keeps a client on its address behind a name', async (t) => {
    const { port, names } = await behindOneName(t, THREE)
    const web = serving([`farm.test:${port}`], { balance: 'iphash1' })
    const manager = await running(t, { servers: { web } }, { names })
    const from = (i: number) => met(t, { port: portOf(manager, 'web'), localAddress: `127.0.7.${i}` })
    const seen = new Set<string>()
    for (let i = 1; i <= 15; i++) {
      const first = await from(i)
      seen.add(first)
      t.equal(await from(i), first, `127.0.7.${i}`)
    }
    t.ok(seen.size > 1, 'not all clients have the same one')
  })

  t.test('a name is healthy while one of its addresses is', async (t) => {
    const { backends, port, names } = await behindOneName(t, THREE)
    const healthcheck = { kind: 'ping', interval: '50ms' }
    const web = serving([`farm.test:${port}`], { healthcheck })
    const manager = await running(t, { servers: { web } }, { names })
    const view = async () => (await statsOf(manager)).backends[0]!
    const checked = async () => (await view()).last_check?.at ?? ''
    for (const each of backends.slice(0, 2)) await each.refuse()
    let before = await checked()
    for (let i = 0; i < 3; i++) {
      await until(async () => (await checked()) !== before, 'a check')
      before = await checked()
      t.ok((await view()).stats.live)
    }
    t.equal(await met(t, portOf(manager, 'web')), THREE[2])
    await backends[2]!.refuse()
    await until(async () => !(await view()).stats.live, 'it to be unhealthy')
  })

  t.test('when one address of a name refuses, the next one is tried', async (t) => {
    const { backends, port, names } = await behindOneName(t, THREE)
    const manager = await running(t, { servers: { web: serving([`farm.test:${port}`]) } }, { names })
    await (backends[1] as Backend).refuse()
    for (let i = 0; i < 6; i++) t.match(await met(t, portOf(manager, 'web')), /^127\.0\.0\.1[13]$/)
  })

  t.test('the last good addresses stay while DNS fails', async (t) => {
    const { port, names, fail, asked } = await behindOneName(t, THREE)
    const manager = await running(t, { servers: { web: serving([`farm.test:${port}`]) } }, { names })
    t.not(await met(t, portOf(manager, 'web')), '')
    fail()
    const before = asked()
    await until(() => asked() > before, 'a refresh that fails')
    for (let i = 0; i < 3; i++) t.not(await met(t, portOf(manager, 'web')), '')
  })

  t.test('a name nobody knows fails its dial and leaves the client to others', async (t) => {
    const none = async () => Promise.reject(Object.assign(new Error('ENOTFOUND'), { code: 'ENOTFOUND' }))
    const services = { hosts: async () => undefined, resolve4: none, resolve6: none, lookup: none }
    const alive = await backend(t, { name: 'alive' })
    const lines = ['nowhere.test:80', `${alive.address} priority=2`]
    const names = new Names(realClock, services)
    const manager = await running(t, { servers: { web: serving(lines) } }, { names })
    for (let i = 0; i < 3; i++) t.equal(await met(t, portOf(manager, 'web')), 'alive')
  })
})

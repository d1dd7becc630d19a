// Who may come in, and how many: access rules, limits of servers, backends and clients, and the queue.

import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { NO_IPV6 } from '../support/ipv6.ts'
import { backend, client, met, visit } from '../support/ends.ts'
import { serving, statsOf, statsUntil } from '../support/observed.ts'
import { onEveryPlane } from '../support/planes.ts'
import { portOf } from '../support/running.ts'
import { folder } from '../support/folder.ts'
import { until } from '../support/until.ts'

async function opened(port: number, localAddress: string): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', localAddress }).on('error', () => {})
  await Promise.race([once(socket, 'connect'), once(socket, 'close')])
  return socket.resume()
}

/** The port of the first address that has one. */
function portOf2(addresses: readonly string[]): number {
  return Number(
    addresses
      .find((each) => !each.startsWith('unix:'))!
      .split(':')
      .at(-1),
  )
}

onEveryPlane((t, running) => {
  t.test(
    'a server takes max_connections clients; who comes in excess is closed as server-full',
    async (t) => {
      const alive = await backend(t, { name: 'alive' })
      const manager = await running(t, { servers: { web: serving([alive], { max_connections: '2' }) } })
      const port = portOf(manager, 'web')
      const first = await visit(t, port)
      t.equal((await visit(t, port)).name, 'alive')
      t.equal(await met(t, port), '')
      t.equal(await met(t, port), '')
      const stats = await statsOf(manager)
      t.match(stats, { active_connections: 2, refusals: { 'server-full': 2 } })
      await first.end.leave()
      await statsUntil(manager, 'a place', ({ active_connections }) => active_connections === 1)
      t.equal((await visit(t, port)).name, 'alive')
    },
  )

  t.test('who has left makes room for the next at once, at the server and at the backend', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const manager = await running(t, {
      servers: {
        web: serving([alive], { max_connections: 1, max_connections_per_client: 1 }),
        one: serving([`${alive.address} max_connections=1`]),
      },
    })
    for (const name of ['web', 'one']) {
      const served = []
      for (let i = 0; i < 50; i++) served.push(await met(t, portOf(manager, name)))
      t.same(served, Array(50).fill('alive'), name)
    }
  })

  t.test('a burst never overshoots the max_connections of backends', async (t) => {
    const backends = await Promise.all(['a', 'b'].map((name) => backend(t, { name })))
    const lines = backends.map(({ address }) => `${address} max_connections=3`)
    const manager = await running(t, { servers: { web: serving(lines, { balance: 'leastconn' }) } })
    const clients = Array.from({ length: 60 }, () => client(t, portOf(manager, 'web')))
    await until(() => clients.every((each) => each.over || each.bytes > 0), 'everybody to know')
    t.equal(clients.filter((each) => !each.over).length, 6)
    t.same(
      backends.map(({ taken }) => taken.length),
      [3, 3],
    )
    t.match(await statsOf(manager), { active_connections: 6, refusals: { 'all-full': 54 } })
  })

  t.test('churn at the limit never overshoots it either', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const settings = { queue_timeout: '20s' }
    const manager = await running(t, {
      servers: { web: serving([`${alive.address} max_connections=4`], settings) },
    })
    const served = await Promise.all(Array.from({ length: 80 }, () => met(t, portOf(manager, 'web'))))
    t.ok(
      served.every((name) => name === 'alive'),
      'all are served in their turn',
    )
    // What the backend sees may lag behind by an end that is on its way.
    t.ok(alive.most <= 5, `${alive.most} at once`)
    t.match((await statsOf(manager)).refusals, { 'all-full': 0, 'queue-timeout': 0 })
  })

  t.test('with queue_timeout clients wait, and the first to come is the first served', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const settings = { queue_timeout: '30s' }
    const manager = await running(t, {
      servers: { web: serving([`${alive.address} max_connections=1`], settings) },
    })
    const port = portOf(manager, 'web')
    let { end: inside } = await visit(t, port)
    const waiting = []
    for (let i = 1; i <= 3; i++) {
      waiting.push(client(t, port).say(`number ${i}`))
      await statsUntil(manager, `${i} in the queue`, ({ queued }) => queued === i)
    }
    for (const [i, next] of waiting.entries()) {
      t.ok(
        waiting.slice(i).every((each) => each.bytes === 0 && !each.over),
        'the others wait',
      )
      await inside.leave()
      await next.hears('alive')
      await (await alive.connection(i + 1)).hears(`number ${i + 1}`)
      inside = next
    }
    t.match(await statsOf(manager), { queued: 0, refusals: { 'queue-timeout': 0 } })
  })

  t.test('who waited for queue_timeout in vain is closed as queue-timeout', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const settings = { queue_timeout: '300ms' }
    const manager = await running(t, {
      servers: { web: serving([`${alive.address} max_connections=1`], settings) },
    })
    await visit(t, portOf(manager, 'web'))
    const start = performance.now()
    t.equal(await met(t, portOf(manager, 'web')), '')
    t.ok(performance.now() - start >= 295, 'not before')
    const stats = await statsUntil(manager, 'the count', ({ refusals }) => refusals['queue-timeout'] === 1)
    t.match(stats, { queued: 0, active_connections: 1 })
  })

  t.test('a client that leaves the queue does not keep the place of the next one', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const settings = { queue_timeout: '30s' }
    const manager = await running(t, {
      servers: { web: serving([`${alive.address} max_connections=1`], settings) },
    })
    const port = portOf(manager, 'web')
    const inside = await visit(t, port)
    const impatient = client(t, port)
    await statsUntil(manager, 'one in the queue', ({ queued }) => queued === 1)
    const patient = client(t, port)
    await statsUntil(manager, 'two in the queue', ({ queued }) => queued === 2)
    impatient.socket.resetAndDestroy()
    await inside.end.leave()
    await patient.hears('alive')
  })

  t.test('what a client in the queue has said, its end included, reaches its backend', async (t) => {
    const echo = await backend(t, { echo: true })
    const settings = { queue_timeout: '30s' }
    const manager = await running(t, {
      servers: { web: serving([`${echo.address} max_connections=1`], settings) },
    })
    const inside = client(t, portOf(manager, 'web'))
    await inside.say('hi').hears('hi')
    const waits = client(t, portOf(manager, 'web')).say('x'.repeat(10_000))
    waits.socket.end()
    await statsUntil(manager, 'one in the queue', ({ queued }) => queued === 1)
    t.equal(echo.taken.length, 1)
    await inside.leave()
    await until(() => waits.over, 'the echo')
    t.equal(waits.bytes, 10_000)
  })

  t.test('clients in the queue hold places of the server', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const settings = { queue_timeout: '30s', max_connections: 2 }
    const manager = await running(t, {
      servers: { web: serving([`${alive.address} max_connections=1`], settings) },
    })
    await visit(t, portOf(manager, 'web'))
    client(t, portOf(manager, 'web'))
    await statsUntil(manager, 'one in the queue', ({ queued }) => queued === 1)
    t.equal(await met(t, portOf(manager, 'web')), '')
    t.match(await statsOf(manager), { active_connections: 2, refusals: { 'server-full': 1 } })
  })

  t.test('clients that vanish at any moment leave no place, slot or descriptor taken', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const dead = await backend(t)
    await dead.refuse()
    const lines = [dead.address, `${alive.address} max_connections=5`]
    const settings = {
      queue_timeout: '30s',
      max_connections: 30,
      max_connections_per_client: 20,
      balance: 'roundrobin',
    }
    const manager = await running(t, { servers: { web: serving(lines, settings) } })
    const port = portOf(manager, 'web')
    t.equal(await met(t, port), 'alive')
    await statsUntil(manager, 'nobody', ({ active_connections }) => active_connections === 0)
    const descriptors = () => readdirSync('/proc/self/fd').length
    const before = descriptors()
    for (let round = 0; round < 8; round++) {
      const clients = Array.from({ length: 40 }, (_, i) =>
        client(t, { port, localAddress: `127.0.6.${1 + (i % 4)}` }).say('x'.repeat(i * 100)),
      )
      await Promise.all(
        clients.map(async (each, i) => {
          if (i % 5 === 0) return void each.socket.destroy()
          await until(() => each.over || each.local !== '', 'an outcome')
          if (i % 5 === 1) each.socket.resetAndDestroy()
          else if (i % 5 === 2) each.socket.destroy()
          else if (i % 5 === 3) each.socket.end()
          await until(() => each.over || each.bytes > 0, 'an outcome')
          each.socket.destroy()
        }),
      )
    }
    await statsUntil(
      manager,
      'nobody',
      ({ active_connections, queued }) => active_connections === 0 && queued === 0,
    )
    t.ok(alive.most <= 7, `${alive.most} at once`)
    const inside = []
    for (let i = 0; i < 5; i++) inside.push(await visit(t, port))
    t.ok(inside.every(({ name }) => name === 'alive'))
    const sixth = client(t, port)
    await statsUntil(manager, 'the sixth to wait', ({ queued }) => queued === 1)
    await manager.remove('web')
    for (const { socket } of [...inside.map(({ end }) => end), sixth, ...alive.taken]) socket.destroy()
    await until(() => descriptors() <= before, 'the descriptors to be closed')
  })

  t.test('a new backend serves who waits in the queue', async (t) => {
    const [full, fresh] = [await backend(t, { name: 'full' }), await backend(t, { name: 'fresh' })]
    await fresh.refuse()
    const lines = [`${full.address} max_connections=1`, `${fresh.address} priority=2`]
    const healthcheck = { kind: 'ping', interval: '50ms' }
    const settings = { queue_timeout: '30s', healthcheck }
    const manager = await running(t, { servers: { web: serving(lines, settings) } })
    await statsUntil(manager, 'one down', ({ backends }) => backends.some(({ stats }) => !stats.live))
    t.equal((await visit(t, portOf(manager, 'web'))).name, 'full')
    const waits = client(t, portOf(manager, 'web'))
    await statsUntil(manager, 'one in the queue', ({ queued }) => queued === 1)
    await fresh.start()
    await waits.hears('fresh')
  })

  t.test('one client address has max_connections_per_client flows, others have their own', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const manager = await running(t, {
      servers: { web: serving([alive], { max_connections_per_client: 2 }) },
    })
    const port = portOf(manager, 'web')
    const first = await visit(t, port)
    await visit(t, port)
    t.equal(await met(t, port), '')
    t.equal((await visit(t, { port, localAddress: '127.0.0.2' })).name, 'alive')
    t.equal((await statsOf(manager)).refusals.rate, 1)
    await first.end.leave()
    await statsUntil(manager, 'a place', ({ active_connections }) => active_connections === 2)
    t.equal((await visit(t, port)).name, 'alive')
  })

  t.test(
    'one client address comes client_connection_rate times a second, others have their own',
    async (t) => {
      const alive = await backend(t, { name: 'alive' })
      const manager = await running(t, { servers: { web: serving([alive], { client_connection_rate: 3 }) } })
      const port = portOf(manager, 'web')
      const start = performance.now()
      const names = await Promise.all(Array.from({ length: 30 }, () => met(t, port)))
      const served = names.filter((name) => name === 'alive').length
      const seconds = (performance.now() - start) / 1000
      t.ok(served >= 1 && served <= 3 + Math.ceil(3 * seconds), `${served} of 30 in ${seconds} s`)
      t.equal((await statsOf(manager)).refusals.rate, 30 - served)
      t.equal(await met(t, { port, localAddress: '127.0.0.2' }), 'alive')
      await until(async () => (await met(t, port)) === 'alive', 'the first one to be let in again')
    },
  )

  t.test('a rate below one a second still lets the first one in', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const manager = await running(t, { servers: { web: serving([alive], { client_connection_rate: 0.2 }) } })
    t.equal(await met(t, portOf(manager, 'web')), 'alive')
    t.equal(await met(t, portOf(manager, 'web')), '')
  })

  t.test('the first access rule that matches decides, and the default the rest', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const access = {
      default: 'deny',
      rules: ['deny 127.0.0.3', '  allow   127.0.0.0/24 ', 'deny 127.0.0.4', 'allow 127.1.2.3'],
    }
    const allowing = { default: 'allow', rules: ['allow 127.0.0.3', 'deny 127.0.0.0/24'] }
    const manager = await running(t, {
      servers: { web: serving([alive], { access }), open: serving([alive], { access: allowing }) },
    })
    const from = (localAddress: string, name = 'web') => met(t, { port: portOf(manager, name), localAddress })
    t.equal(await from('127.0.0.3'), '', 'denied before its network is allowed')
    t.equal(await from('127.0.0.4'), 'alive', 'allowed before it is denied')
    t.equal(await from('127.1.2.3'), 'alive')
    t.equal(await from('127.1.2.4'), '', 'no rule: denied')
    t.match(await statsOf(manager), { refusals: { access: 2 } })
    t.equal(await from('127.0.0.3', 'open'), 'alive')
    t.equal(await from('127.0.0.4', 'open'), '')
    t.equal(await from('127.1.2.4', 'open'), 'alive', 'no rule: allowed')
    t.equal(alive.taken.length, 4, 'no denied client was heard of by the backend')
  })

  t.test(
    'access rules know IPv6, and IPv4 clients of an IPv6 socket as IPv4',
    { skip: NO_IPV6 },
    async (t) => {
      const alive = await backend(t, { name: 'alive' })
      const six = { default: 'allow', rules: ['deny ::1/128'] }
      const mapped = { default: 'deny', rules: ['deny 127.0.0.5', 'allow 127.0.0.0/8', 'allow ::1'] }
      const manager = await running(t, {
        servers: {
          six: serving([alive], { bind: '[::1]:0', access: six }),
          both: serving([alive], { bind: '[::]:0', access: mapped }),
        },
      })
      t.equal(await met(t, { host: '::1', port: portOf(manager, 'six') }), '')
      const port = portOf(manager, 'both')
      t.equal(await met(t, { port, localAddress: '127.0.0.5' }), '')
      t.equal(await met(t, { port, localAddress: '127.0.0.6' }), 'alive')
      t.equal(await met(t, { port, host: '::1' }), 'alive')
    },
  )

  t.test('a rule about an IPv4-mapped address is one about the IPv4 address', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const access = { default: 'allow', rules: ['deny ::ffff:127.0.0.5'] }
    const manager = await running(t, { servers: { web: serving([alive], { access }) } })
    t.equal(await met(t, { port: portOf(manager, 'web'), localAddress: '127.0.0.5' }), '')
    t.equal(await met(t, { port: portOf(manager, 'web'), localAddress: '127.0.0.6' }), 'alive')
  })

  t.test('access rules do not apply to unix listeners', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const path = join(folder(t), 'front.sock')
    const settings = { bind: [`unix:${path}`, '127.0.0.1:0'], access: { default: 'deny', rules: [] } }
    const manager = await running(t, { servers: { web: serving([alive], settings) } })
    t.equal(await met(t, { path }), 'alive')
    t.equal(await met(t, portOf2(manager.servers.get('web')!.addresses)), '')
  })

  t.test('200 clients that are turned away at once cost no place for good', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const access = { default: 'allow', rules: ['deny 127.0.0.7'] }
    const manager = await running(t, { servers: { web: serving([alive], { access, max_connections: 5 }) } })
    const port = portOf(manager, 'web')
    const denied = await Promise.all(Array.from({ length: 200 }, () => opened(port, '127.0.0.7')))
    await until(() => denied.every((socket) => socket.destroyed), 'all to be closed')
    t.match(await statsOf(manager), { active_connections: 0, refusals: { access: 200, 'server-full': 0 } })
    t.equal(await met(t, port), 'alive')
  })
})

// Where a server listens: every way to write it, what a taken port does, and when it is free again.

import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { Manager } from '../../src/manager/manager.ts'
import { NO_IPV6 } from '../support/ipv6.ts'
import { backend, client, met, visit } from '../support/ends.ts'
import { logged, serving, statsOf } from '../support/observed.ts'
import { onEveryPlane } from '../support/planes.ts'
import { portOf } from '../support/running.ts'
import { folder } from '../support/folder.ts'
import { freePorts } from '../support/spawned.ts'
import { until } from '../support/until.ts'

onEveryPlane((t, running) => {
  /** Which of the two loopback addresses reach a server bound to `bind`. */
  async function reach(t: Test, bind: string): Promise<string> {
    const alive = await backend(t, { name: 'alive' })
    const manager = await running(t, { servers: { web: serving([alive], { bind }) } })
    const port = portOf(manager, 'web')
    const four = await met(t, { host: '127.0.0.1', port })
    const six = await met(t, { host: '::1', port })
    await manager.remove('web')
    return [four && '127.0.0.1', six && '::1'].filter(Boolean).join(' ')
  }

  t.test('a bind says which addresses reach a server', { skip: NO_IPV6 }, async (t) => {
    t.equal(await reach(t, ':0'), '127.0.0.1 ::1')
    t.equal(await reach(t, '[::]:0'), '127.0.0.1 ::1')
    t.equal(await reach(t, '0.0.0.0:0'), '127.0.0.1')
    t.equal(await reach(t, '127.0.0.1:0'), '127.0.0.1')
    t.equal(await reach(t, '[::1]:0'), '::1')
    t.match(await reach(t, 'localhost:0'), '127.0.0.1')
  })

  t.test('port 0 is the port that was given, in what the server says and logs', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const manager = await running(t)
    const log = logged(t)
    await manager.create('web', serving([alive], { bind: '127.0.0.9:0' }))
    const [address] = manager.servers.get('web')!.addresses
    t.match(address, /^127\.0\.0\.9:[1-9]\d*$/)
    t.match(await log(), `listening on ${address}`)
    t.equal(await met(t, { host: '127.0.0.9', port: portOf(manager, 'web') }), 'alive')
  })

  t.test('the kernel is asked for the longest accept queue it allows, and probes silent peers', async (t) => {
    const silent = await backend(t)
    const manager = await running(t, { servers: { web: serving([silent]) } })
    const port = portOf(manager, 'web')
    const ss = (...args: string[]) => spawnSync('ss', args, { encoding: 'utf8' })
    if (ss('-V').status !== 0) return t.pass('not looked at: no ss here')
    const [, listening = ''] = ss('-ltn', `sport = :${port}`).stdout.split('\n')
    const somaxconn = Number(readFileSync('/proc/sys/net/core/somaxconn', 'utf8'))
    t.equal(Number(listening.split(/\s+/)[2]), somaxconn)
    client(t, port)
    await silent.connection()
    for (const side of [`sport = :${port}`, `dport = :${silent.port}`]) {
      const keepalive = () => ss('-tno', 'state', 'established', side).stdout
      await until(() => /keepalive/.test(keepalive()), `a keep-alive timer: ${keepalive()}`)
    }
  })

  t.test('a list of binds and a unix path are doors of one server', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const path = join(folder(t), 'front.sock')
    const bind = ['127.0.0.1:0', `unix:${path}`, '127.0.0.2:0']
    const manager = await running(t, { servers: { web: serving([alive], { bind }) } })
    const { addresses } = manager.servers.get('web')!
    t.equal(addresses[1], `unix:${path}`)
    for (const address of [addresses[0]!, addresses[2]!]) {
      const [host, port] = address.split(':')
      t.equal(await met(t, { host: host!, port: Number(port) }), 'alive')
    }
    t.equal(await met(t, { path }), 'alive')
    t.equal((await statsOf(manager)).backends[0]!.stats.total_connections, 3)
    await manager.remove('web')
    t.notOk(existsSync(path), 'the socket file goes with the server')
  })

  t.test('a unix path of 107 bytes is the longest', async (t) => {
    const longest = (dir: string, more = 0) => join(dir, 'x'.repeat(107 + more - dir.length - 1))
    const [front, back] = [longest(folder(t)), longest(folder(t))]
    const alive = await backend(t, { name: 'alive', path: back })
    const manager = await running(t, { servers: { web: serving([alive], { bind: `unix:${front}` }) } })
    t.equal(await met(t, { path: front }), 'alive')

    const said = 'expected a path of at most 107 bytes, not 108'
    const bind = [':0', `unix:${front}y`]
    await t.rejects(manager.create('far', serving([alive], { bind })), {
      message: new RegExp(`bind.1.*${said}`),
    })
    await t.rejects(running(t, { api: { enabled: true, bind: `unix:${front}y` } }), {
      message: new RegExp(said),
    })
    const log = logged(t)
    await manager.create('none', serving([`unix:${back}y`]))
    t.match(await log(), said)
    t.same((await statsOf(manager, 'none')).backends, [])
  })

  t.test('half-close works through a unix listener and a unix backend', async (t) => {
    const dir = folder(t)
    const echo = await backend(t, { echo: true, path: join(dir, 'back.sock') })
    const bind = `unix:${join(dir, 'front.sock')}`
    await running(t, { servers: { web: serving([echo], { bind }) } })
    const front = client(t, { path: join(dir, 'front.sock') }).say('over the files')
    front.socket.end()
    await until(() => front.ended, 'the echo')
    t.equal(front.text, 'over the files')
  })

  t.test('a port range keeps its port at a backend written `host:*`', async (t) => {
    const ports = await freePorts(4)
    for (const port of ports) await backend(t, { name: `room ${port}`, host: '127.0.0.44', port })
    const bind = `127.0.0.1:${ports[0]}-${ports[3]}`
    const manager = await running(t, { servers: { web: serving(['127.0.0.44:*'], { bind }) } })
    t.equal(manager.servers.get('web')!.addresses.length, 4)
    for (const port of ports) t.equal(await met(t, port), `room ${port}`)
    t.equal((await statsOf(manager)).backends.length, 1, 'it is one backend')
  })

  t.test(
    'a taken port is a BindError that names server and address, and leaves nothing behind',
    async (t) => {
      const alive = await backend(t, { name: 'alive' })
      const taken = await backend(t)
      const [free] = await freePorts(1)
      const manager = await running(t, { servers: { other: serving([alive]) } })
      const path = join(folder(t), 'front.sock')
      const bind = [`127.0.0.1:${free}`, `unix:${path}`, taken.address]
      await t.rejects(manager.create('web', serving([alive], { bind })), {
        name: 'BindError',
        code: 'BIND_FAILED',
        message: `server web cannot listen on ${taken.address}: the address is already in use (EADDRINUSE)`,
      })
      t.notOk(manager.servers.has('web'))
      t.notOk(existsSync(path), 'no socket file')
      t.equal(await met(t, free!), '', 'nobody listens on the bind that was free')
      t.equal(await met(t, portOf(manager, 'other')), 'alive', 'other servers run on')
      await manager.create('web', serving([alive], { bind: `127.0.0.1:${free}` }))
      t.equal(await met(t, free!), 'alive', 'name and port can be used at once')
    },
  )

  t.test('a port of a server of this process is taken too, for one address and for all', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const manager = await running(t, { servers: { web: serving([alive], { bind: '0.0.0.0:0' }) } })
    const port = portOf(manager, 'web')
    for (const bind of [`0.0.0.0:${port}`, `127.0.0.1:${port}`, `:${port}`])
      await t.rejects(manager.create('second', serving([alive], { bind })), { code: 'BIND_FAILED' }, bind)
    t.same([...manager.servers.keys()], ['web'])
  })

  t.test('an address this machine does not have is a BindError that says so', async (t) => {
    const manager = await running(t)
    const bind = '203.0.113.77:0'
    await t.rejects(manager.create('web', serving([], { bind })), {
      code: 'BIND_FAILED',
      message: /server web cannot listen on 203\.0\.113\.77:.*no interface/,
    })
  })

  t.test('a removed server frees its port for the very next one, flows and all', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const manager = await running(t, { servers: { web: serving([alive]) } })
    const port = portOf(manager, 'web')
    for (let i = 0; i < 10; i++) {
      const { end } = await visit(t, port)
      t.equal(await manager.remove('web'), true)
      await manager.create('web', serving([alive], { bind: `127.0.0.1:${port}` }))
      await end.isOver()
      t.equal((await statsOf(manager)).backends[0]!.stats.total_connections, 0, 'statistics start again')
    }
    t.equal(await met(t, port), 'alive')
    t.equal(await manager.remove('nobody'), false)
  })

  t.test('a removed server ends every flow, also those nobody has answered yet', async (t) => {
    const silent = await backend(t)
    const settings = { queue_timeout: '1m' }
    const manager = await running(t, {
      servers: { web: serving([`${silent.address} max_connections=1`], settings) },
    })
    const served = client(t, portOf(manager, 'web'))
    const atBackend = await silent.connection()
    const waiting = client(t, portOf(manager, 'web'))
    await until(async () => (await statsOf(manager)).queued === 1, 'one to wait')
    t.equal(await manager.remove('web'), true)
    await Promise.all([served.isOver(), waiting.isOver(), atBackend.isOver()])
  })

  t.test('a removed server does not wait for clients that read nothing', async (t) => {
    const source = await backend(t)
    const manager = await running(t, { servers: { web: serving([source]) } })
    const front = client(t, portOf(manager, 'web'))
    front.socket.pause()
    const poured = t.rejects((await source.connection()).pour(64 * 1024 * 1024))
    await until(async () => (await statsOf(manager)).rx_total > 1_000_000, 'bytes to be under way')
    t.equal(await manager.remove('web'), true)
    await poured
  })

  t.test('a create that fails leaves running servers and their flows as they are', async (t) => {
    const echo = await backend(t, { echo: true })
    const manager = await running(t, { servers: { web: serving([echo]) } })
    const front = client(t, portOf(manager, 'web'))
    await front.say('before').hears('before')
    const refused: [string, unknown, { code: string }][] = [
      ['web', serving([echo]), { code: 'SERVER_EXISTS' }],
      ['new', { discovery: { kind: 'static', static_list: [] } }, { code: 'CONFIG_INVALID' }],
      ['new', serving([echo], { balance: 'best', max_connections: -1 }), { code: 'CONFIG_INVALID' }],
      ['new', serving([echo], { bind: `127.0.0.1:${portOf(manager, 'web')}` }), { code: 'BIND_FAILED' }],
      ['new', { bind: ':0', discovery: { kind: 'docker' } }, { code: 'CONFIG_INVALID' }],
      ['new', null, { code: 'CONFIG_INVALID' }],
    ]
    for (const [name, input, error] of refused) await t.rejects(manager.create(name, input), error)
    t.same([...manager.servers.keys()], ['web'])
    await front.say('after').hears('after')
    t.match(await statsOf(manager), { active_connections: 1 })
  })

  t.test('of two creates of one name at once, one wins and the other is told', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const manager: Manager = await running(t)
    const outcomes = await Promise.allSettled([1, 2].map(() => manager.create('web', serving([alive]))))
    t.same(outcomes.map(({ status }) => status).sort(), ['fulfilled', 'rejected'])
    t.equal(await met(t, portOf(manager, 'web')), 'alive')
  })
})

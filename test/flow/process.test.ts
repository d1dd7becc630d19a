// The process an operator runs: how it starts, drains, ends, logs, and lives with few descriptors.

import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { backend, client, met, visit } from '../support/ends.ts'
import { launch, launchReady } from '../support/launched.ts'
import { serving } from '../support/observed.ts'
import type { StatsView } from '../support/observed.ts'
import { folder } from '../support/folder.ts'
import { onEveryPlane, PLANES } from '../support/planes.ts'
import { freePort } from '../support/spawned.ts'
import { until } from '../support/until.ts'

const read = (path: string) => (existsSync(path) ? readFileSync(path, 'utf8') : '')

onEveryPlane((t, _running, plane) => {
  t.test('SIGTERM drains: no new client, open flows finish, then it exits with 0', async (t) => {
    const echo = await backend(t, { echo: true })
    const pidfile = join(folder(t), 'pid')
    const fairlead = await launchReady(t, {
      args: ['-c', 'CONFIG', '-p', pidfile],
      config: { plane, servers: { web: serving([echo]) } },
    })
    t.equal(read(pidfile).trim(), String(fairlead.child.pid))
    const port = fairlead.port('web')
    const front = client(t, port)
    await front.say('before').hears('before')
    fairlead.signal('SIGTERM')
    await until(async () => {
      const late = client(t, port)
      await until(() => late.over || late.socket.readyState === 'open', 'an outcome')
      late.socket.destroy()
      return late.fault === 'ECONNREFUSED'
    }, 'new clients to be refused')
    t.equal(fairlead.ended, undefined, 'it waits for the flow')
    await front.say('after').hears('after')
    front.socket.end()
    await until(() => front.ended, 'the answer to the end')
    t.equal(await fairlead.exit(), 0, fairlead.output)
    t.match(fairlead.output, `${plane} plane: `)
  })

  t.test(
    'SIGINT drains too; what is left after shutdown_timeout is closed, and it exits with 0',
    async (t) => {
      const echo = await backend(t, { echo: true })
      const access = join(folder(t), 'access')
      const fairlead = await launchReady(t, {
        config: { plane, shutdown_timeout: '400ms', logging: { access }, servers: { web: serving([echo]) } },
      })
      const front = client(t, fairlead.port('web'))
      await front.say('hi').hears('hi')
      const start = performance.now()
      fairlead.signal('SIGINT')
      t.equal(await fairlead.exit(), 0, fairlead.output)
      t.ok(performance.now() - start >= 395, 'not before')
      await front.isOver()
      await echo.taken[0]!.isOver()
      t.match(read(access), /rx=2 tx=2 .*\bshutdown( |$)/m)
    },
  )

  t.test('a second signal ends it at once', async (t) => {
    const echo = await backend(t, { echo: true })
    const fairlead = await launchReady(t, {
      config: { plane, shutdown_timeout: '5m', servers: { web: serving([echo]) } },
    })
    const front = client(t, fairlead.port('web'))
    await front.say('hi').hears('hi')
    fairlead.signal('SIGTERM')
    await fairlead.says('SIGTERM')
    fairlead.signal('SIGINT')
    await fairlead.exit()
    await front.isOver()
  })

  t.test('SIGUSR1 opens log and access log again under their names, and no debugger', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const [output, access] = [join(folder(t), 'log'), join(folder(t), 'access')]
    const fairlead = launch(t, {
      config: { plane, logging: { output, access }, servers: { web: serving([alive]) } },
    })
    await until(() => /listening on .*:(\d+)\n[^]*Initialized/.test(read(output)), 'it to start')
    const port = Number(/listening on .*:(\d+)\n/.exec(read(output))![1])
    const lines = (path: string) => read(path).split('\n').length - 1
    t.equal(await met(t, port), 'alive')
    await until(() => lines(access) === 1, 'the first line')
    renameSync(output, `${output}.1`)
    renameSync(access, `${access}.1`)
    fairlead.signal('SIGUSR1')
    await until(() => existsSync(output) && existsSync(access), 'new files')
    t.equal(await met(t, port), 'alive')
    await until(() => lines(access) === 1, 'the second line, in the new file')
    t.equal(lines(`${access}.1`), 1)
    fairlead.signal('SIGTERM')
    t.equal(await fairlead.exit(), 0)
    t.match(read(output), 'SIGTERM')
    t.notMatch(read(`${output}.1`), 'SIGTERM')
    t.notMatch(fairlead.output, /debugger/i)
  })

  t.test('the access log has a line a flow, as JSON and as text, exact to the byte', async (t) => {
    const [echo, alive] = [await backend(t, { echo: true }), await backend(t, { name: 'alive' })]
    const dead = await backend(t)
    await dead.refuse()
    const dir = folder(t)
    const servers = {
      web: serving([echo]),
      two: serving([dead.address, `${alive.address} priority=2`], { bind: ':0' }),
      none: serving([dead]),
    }
    const config = (format: string) => ({ plane, logging: { access: join(dir, format), format }, servers })
    const [json, text] = await Promise.all(
      ['json', 'text'].map((each) => launchReady(t, { config: config(each) })),
    )
    const clients: string[] = []
    for (const fairlead of [json!, text!]) {
      const front = client(t, fairlead.port('web'))
      front.socket.end('x'.repeat(70_001))
      await until(() => front.ended, 'the echo')
      clients.push(front.local)
      t.equal(await met(t, fairlead.port('two')), 'alive')
      t.equal(await met(t, fairlead.port('none')), '')
      fairlead.signal('SIGTERM')
      t.equal(await fairlead.exit(), 0)
    }
    const records = read(join(dir, 'json'))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
    t.equal(records.length, 3)
    t.match(records[0], {
      time: /^\d{4}-\d\d-\d\dT.*Z$/,
      server: 'web',
      client: clients[0]!,
      local: `127.0.0.1:${json!.port('web')}`,
      backend: echo.address,
      why: /./,
      rx: 70_001,
      tx: 70_001,
      waited_ms: Number,
      connect_ms: Number,
      first_byte_ms: Number,
      duration_ms: Number,
      reason: 'client-closed',
    })
    t.match(records[1], { server: 'two', backend: alive.address, rx: 6, tx: 0, why: /redispatch|retry|dial/ })
    t.match(records[1]!.client, /^127\.0\.0\.1:\d+$/, 'IPv4, though the socket is IPv6')
    t.match(records[2], { server: 'none', backend: dead.address, rx: 0, tx: 0, reason: 'dial-failed' })

    const lines = read(join(dir, 'text')).trim().split('\n')
    t.equal(lines.length, 3)
    for (const part of [clients[1]!, echo.address, 'rx=70001', 'tx=70001', 'client-closed', ' web '])
      t.ok(lines[0]!.includes(part), `${part} in ${lines[0]}`)
    t.match(lines[2], new RegExp(`none .*${dead.address}.*rx=0 tx=0 .*dial-failed( |$)`))
  })

  t.test('a port in use exits with 1 and names the server and the address', async (t) => {
    const taken = await backend(t)
    const fairlead = launch(t, {
      config: { plane, servers: { fine: serving([taken]), web: serving([taken], { bind: taken.address }) } },
    })
    t.equal(await fairlead.exit(), 1)
    t.match(fairlead.output, `server web cannot listen on ${taken.address}`)
    t.notMatch(fairlead.output, /\n\s+at /, 'no stack trace')
  })

  t.test(
    'out of descriptors it refuses early, counts every client, says so once, and serves on',
    async (t) => {
      const alive = await backend(t, { name: 'alive' })
      const fairlead = await launchReady(t, {
        descriptors: 128,
        config: { plane, api: { enabled: true, bind: '127.0.0.1:0' }, servers: { web: serving([alive]) } },
      })
      await fairlead.says('API on')
      const stats = async () => {
        const url = `http://127.0.0.1:${fairlead.port('API on')}/servers/web/stats`
        const response = await fetch(url, { headers: { connection: 'close' } })
        return (await response.json()) as StatsView
      }
      const port = fairlead.port('web')
      let servedInAll = 0
      for (let round = 1; round <= 2; round++) {
        const clients = Array.from({ length: 150 }, () => client(t, port))
        await until(() => clients.every((each) => each.over || each.bytes > 0), 'everybody to know')
        const served = clients.filter((each) => !each.over)
        t.ok(served.length > 0 && served.length < 60, `${served.length} are served at once`)
        const { refusals, active_connections, backends } = await stats()
        t.equal(active_connections, served.length)
        servedInAll += served.length
        t.equal(refusals.descriptors! + servedInAll, 150 * round, 'every other one is counted')
        t.equal(backends[0]!.stats.refused_connections, 0, 'the backend is not blamed')
        for (const each of served) await each.leave()
        // While the last descriptors are given back, the API may have none for us.
        const gone = async () => (await stats().catch(() => undefined))?.active_connections === 0
        await until(gone, 'all to be gone')
        t.equal(await met(t, port), 'alive', 'it serves on')
      }
      const said = fairlead.output
        .split('\n')
        .filter((line) => /descriptors/.test(line) && /WARN|ERROR/.test(line))
      t.equal(said.length, 1, said.join('\n'))
      t.equal(fairlead.ended, undefined)
    },
  )

  t.test('clients are closed, not left hanging, while others hold the last descriptors', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const fairlead = await launchReady(t, {
      descriptors: 128,
      config: { plane, api: { enabled: true, bind: '127.0.0.1:0' }, servers: { web: serving([alive]) } },
    })
    await fairlead.says('API on')
    const hogs = Array.from({ length: 140 }, () => client(t, fairlead.port('API on')))
    await until(() => hogs.some((each) => each.over), 'the API to be crowded')
    const clients = Array.from({ length: 20 }, () => client(t, fairlead.port('web')))
    await until(() => clients.every((each) => each.over || each.bytes > 0), 'everybody to know')
    for (const each of [...hogs, ...clients]) each.socket.destroy()
    let came = clients.length
    const serves = async () => {
      came++
      return (await met(t, fairlead.port('web'))) === 'alive'
    }
    await until(serves, 'it to serve again')
    t.equal(fairlead.ended, undefined)
    const url = `http://127.0.0.1:${fairlead.port('API on')}/servers/web/stats`
    const { backends, refusals } = (await (await fetch(url)).json()) as StatsView
    t.equal(backends[0]!.stats.refused_connections, 0, 'the backend is not blamed')
    t.equal(refusals.descriptors! + backends[0]!.stats.total_connections, came, 'every client is counted')
  })

  t.test('a socket file that a crash left is taken over, one that somebody listens on is not', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const path = join(folder(t), 'front.sock')
    const config = { plane, servers: { web: serving([alive], { bind: `unix:${path}` }) } }
    const first = await launchReady(t, { config })
    first.signal('SIGKILL')
    await first.exit()
    t.ok(existsSync(path))
    const second = await launchReady(t, { config })
    t.equal(await met(t, { path }), 'alive')
    const third = launch(t, { config })
    t.equal(await third.exit(), 1)
    t.match(third.output, `server web cannot listen on unix:${path}`)
    t.equal(await met(t, { path }), 'alive')
    second.signal('SIGTERM')
    t.equal(await second.exit(), 0)
    t.notOk(existsSync(path))
  })

  t.test('a client that waits in the queue when it is told to end is not forgotten', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const web = serving([`${alive.address} max_connections=1`], { queue_timeout: '1m' })
    const fairlead = await launchReady(t, { config: { plane, servers: { web } } })
    const { end } = await visit(t, fairlead.port('web'))
    const waits = client(t, fairlead.port('web'))
    await until(() => waits.local !== '', 'it to be connected')
    fairlead.signal('SIGTERM')
    await fairlead.says('SIGTERM')
    await end.leave()
    await until(() => waits.over || waits.bytes > 0, 'an outcome')
    if (!waits.over) await waits.leave()
    t.equal(await fairlead.exit(), 0)
  })

  t.test('clients that come while it starts to drain are served or closed, and do not keep it', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const fairlead = await launchReady(t, { config: { plane, servers: { web: serving([alive]) } } })
    const port = fairlead.port('web')
    const kept = await visit(t, port)
    const clients = Array.from({ length: 50 }, () => client(t, port))
    for (const each of clients) each.socket.on('data', () => each.socket.end())
    fairlead.signal('SIGTERM')
    await fairlead.says('SIGTERM')
    t.equal(fairlead.ended, undefined, 'it waits for who was there before')
    await kept.end.leave()
    t.equal(await fairlead.exit(), 0)
    // One whose handshake met the closing of the listener may not have been told: the kernel forgot it.
    t.ok(clients.filter((each) => !each.over).length <= 2)
  })

  t.test(
    'a log that cannot be written does not keep it from ending',
    { skip: !existsSync('/dev/full') },
    async (t) => {
      const alive = await backend(t, { name: 'alive' })
      const logging = { output: '/dev/full', access: '/dev/full' }
      const port = await freePort()
      const web = serving([alive], { bind: `127.0.0.1:${port}` })
      const fairlead = launch(t, { config: { plane, logging, servers: { web } } })
      // It cannot say that it has started.
      await until(async () => (await met(t, port)) === 'alive', 'it to serve')
      fairlead.signal('SIGTERM')
      t.equal(await fairlead.exit(), 0)
    },
  )

  t.test('a flow that ends while everything stops is in the access log', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const access = join(folder(t), 'access.log')
    const fairlead = await launchReady(t, {
      config: { plane, logging: { access, format: 'json' }, servers: { web: serving([alive]) } },
    })
    const open = client(t, fairlead.port('web'))
    await until(() => open.bytes > 0, 'the greeting')
    fairlead.signal('SIGTERM')
    await fairlead.says('waiting at most')
    open.socket.end()
    t.equal(await fairlead.exit(), 0)
    t.match(JSON.parse(readFileSync(access, 'utf8')), { server: 'web', reason: 'client-closed' })
  })
})

t.test('without a word in the config it is the native plane where that loads', async (t) => {
  const alive = await backend(t, { name: 'alive' })
  const fairlead = await launchReady(t, { config: { servers: { web: serving([alive]) } } })
  const native = PLANES.some(({ name, skip }) => name === 'native' && !skip)
  t.match(fairlead.output, native ? 'native plane: ' : 'portable plane: the native one cannot be used')
  t.equal(await met(t, fairlead.port('web')), 'alive')
})

t.test('a wrong config exits with 2 and lists every problem; nothing is started', async (t) => {
  const alive = await backend(t, { name: 'alive' })
  const servers = {
    good: serving([alive]),
    bad: serving([alive], { balance: 'best', client_idle_timeout: '5 sec', access: { rules: ['allow me'] } }),
    worse: { bind: 'nowhere', discovery: { kind: 'magic' }, healthcheck: { kind: 'ping' } },
  }
  const fairlead = launch(t, { config: { servers } })
  t.equal(await fairlead.exit(), 2)
  for (const path of [
    'servers.bad.balance',
    'servers.bad.client_idle_timeout',
    'servers.bad.access.rules',
    'servers.worse.bind',
    'servers.worse.discovery.kind',
    'servers.worse.healthcheck.interval',
  ])
    t.match(fairlead.output, path)
  t.match(fairlead.output, /expected .*, got/)
  t.notMatch(fairlead.output, 'listening on')
})

t.test('arguments may come in FAIRLEAD or GOBETWEEN, values from the environment', async (t) => {
  const alive = await backend(t, { name: 'alive' })
  const config = `
    [logging]
    level = "\${LEVEL:-info}"
    [servers.web]
    bind = "\${HOST:-127.0.0.1}:0"
    max_connections = \${UNSET_NUMBER:-7}
    discovery = { kind = "static", static_list = ["\${BACKEND}"] }`
  const runs = ['FAIRLEAD', 'GOBETWEEN'].map((name) =>
    launchReady(t, {
      args: [],
      config,
      env: { [name]: '["-e", "from-file", "CONFIG"]', BACKEND: alive.address, HOST: '127.0.0.3' },
    }),
  )
  for (const fairlead of await Promise.all(runs))
    t.equal(await met(t, { host: '127.0.0.3', port: fairlead.port('web') }), 'alive')

  const both = launch(t, { args: ['-v'], env: { FAIRLEAD: '["-v"]' } })
  const garbage = launch(t, { args: [], env: { FAIRLEAD: '-c file' } })
  t.equal(await both.exit(), 2)
  t.match(both.output, 'FAIRLEAD')
  t.equal(await garbage.exit(), 2)
  t.match(garbage.output, 'FAIRLEAD')
})

t.test('idle connections to API and metrics do not delay the end', async (t) => {
  const listener = { enabled: true, bind: '127.0.0.1:0' }
  const fairlead = await launchReady(t, {
    config: { shutdown_timeout: '5m', api: listener, metrics: listener },
  })
  await fairlead.says('API on')
  const api = client(t, fairlead.port('API on'))
  await api.say('GET /ping HTTP/1.1\r\nHost: x\r\n\r\n').hears('200 OK')
  client(t, fairlead.port('API on')).say('GET /ser')
  fairlead.signal('SIGTERM')
  t.equal(await fairlead.exit(), 0)
})

t.test('a pid file of a running process stops the start', async (t) => {
  const pidfile = join(folder(t), 'pid')
  writeFileSync(pidfile, String(process.pid))
  const config = { servers: {} }
  const fairlead = launch(t, { config, args: ['-c', 'CONFIG', '-p', pidfile] })
  t.equal(await fairlead.exit(), 1)
  t.match(
    fairlead.output,
    `Unable to write pidfile ${pidfile}: process with pid ${process.pid} is still running`,
  )
  t.equal(read(pidfile), String(process.pid))
})

t.test('an empty pid file, as a crash leaves it, stops nobody', async (t) => {
  const pidfile = join(folder(t), 'pid')
  writeFileSync(pidfile, '')
  const fairlead = launch(t, { config: { servers: {} }, args: ['-c', 'CONFIG', '-p', pidfile] })
  await fairlead.says('Initialized')
  fairlead.signal('SIGTERM')
  t.equal(await fairlead.exit(), 0)
  t.notOk(existsSync(pidfile))
})

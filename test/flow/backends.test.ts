// Backends that come, go, fail and return under the eyes of clients; and who is chosen among them.

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Names } from '../../src/dns/names.ts'
import type { Test } from 'tap'
import type { Manager } from '../../src/manager/manager.ts'
import { backend, deafBackend, met, visit } from '../support/ends.ts'
import type { Backend } from '../support/ends.ts'
import { backendStats, logged, serving, statsOf, statsUntil } from '../support/observed.ts'
import { place } from '../support/place.ts'
import { onEveryPlane } from '../support/planes.ts'
import { portOf, running } from '../support/running.ts'
import { hasEnded, script } from '../support/scripts.ts'
import { folder } from '../support/folder.ts'
import { until } from '../support/until.ts'

const KINDS =
  'weight wrr roundrobin leastconn wleastconn sed nq p2c leasttime leastbandwidth iphash iphash1 maglev'.split(
    ' ',
  )
const PING = { kind: 'ping', interval: '50ms', timeout: '2s' }

/** Backends whose names are in the order of their `host:port` texts. */
async function named(t: Test, ...names: string[]): Promise<Backend[]> {
  const made = await Promise.all(names.map((name) => backend(t, { name })))
  made.sort((a, b) => (a.address < b.address ? -1 : 1))
  for (const [i, each] of made.entries()) each.name = names[i]
  return made
}

const live = (manager: Manager, address: string, expected: boolean) =>
  until(
    async () => (await backendStats(manager, address))?.stats.live === expected,
    `${address} live ${expected}`,
  )

/** Whom `count` clients meet, one after the other. */
async function visitors(t: Test, manager: Manager, count: number, localAddress?: string): Promise<string[]> {
  const seen = []
  const where = { port: portOf(manager, 'web'), ...(localAddress && { localAddress }) }
  for (let i = 0; i < count; i++) seen.push(await met(t, where))
  return seen
}

/** A list of backend lines in a file, discovered by a program every 50 ms. */
function listed(t: Test, lines: readonly string[]) {
  const path = join(folder(t), 'backends')
  const write = (now: readonly string[]) => place(path, now.join('\n') + '\n')
  write(lines)
  return { write, discovery: { kind: 'exec', exec_command: ['cat', path], interval: '50ms' } }
}

/** FNV-1a, 32 bits, as gobetween hashes a client. */
function fnv1a(bytes: readonly number[]): number {
  return bytes.reduce((hash, byte) => Math.imul(hash ^ byte, 16777619) >>> 0, 2166136261)
}

onEveryPlane((t, running) => {
  t.test('roundrobin takes backends in turn, in the order of their addresses', async (t) => {
    const [a, b, c] = await named(t, 'a', 'b', 'c')
    const manager = await running(t, { servers: { web: serving([c!, a!, b!], { balance: 'roundrobin' }) } })
    t.same(await visitors(t, manager, 7), ['a', 'b', 'c', 'a', 'b', 'c', 'a'])
  })

  t.test('iphash sends a client where gobetween would, on specific and wildcard binds', async (t) => {
    const [a, b, c] = await named(t, 'a', 'b', 'c')
    const MAPPED = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255]
    for (const [bind, prefix] of [
      ['127.0.0.1:0', []],
      ['0.0.0.0:0', MAPPED],
      [':0', MAPPED],
    ] as const) {
      const manager = await running(t, {
        servers: { web: serving([a!, b!, c!], { balance: 'iphash', bind }) },
      })
      for (let last = 1; last <= 12; last++) {
        const name = ['a', 'b', 'c'][fnv1a([...prefix, 127, 0, 3, last]) % 3]!
        t.same(await visitors(t, manager, 2, `127.0.3.${last}`), [name, name], `127.0.3.${last} on ${bind}`)
      }
      await manager.remove('web')
    }
  })

  t.test('iphash1 moves only the clients of a backend that goes, and brings them back', async (t) => {
    const backends = await named(t, 'a', 'b', 'c')
    const settings = { balance: 'iphash1', healthcheck: PING }
    const manager = await running(t, { servers: { web: serving(backends, settings) } })
    const clients = Array.from({ length: 15 }, (_, i) => `127.0.5.${i + 1}`)
    const all = async () => {
      const seen: string[] = []
      for (const each of clients) seen.push(...(await visitors(t, manager, 1, each)))
      return seen
    }
    const before = await all()
    const gone = backends.find(({ name }) => name === before[0])!
    await gone.refuse()
    await live(manager, gone.address, false)
    const meanwhile = await all()
    for (const [i, name] of meanwhile.entries())
      if (before[i] === gone.name) t.not(name, gone.name)
      else t.equal(name, before[i])
    await gone.start()
    await live(manager, gone.address, true)
    t.same(await all(), before)
  })

  t.test('weight 0 and a worse priority take nothing beside a better backend, in every kind', async (t) => {
    const [idle, busy, spare] = await named(t, 'idle', 'busy', 'spare')
    const lines = [
      `${idle!.address} weight=0`,
      `${busy!.address} weight=5`,
      `${spare!.address} priority=2 weight=100`,
    ]
    const servers = Object.fromEntries(KINDS.map((balance) => [balance, serving(lines, { balance })]))
    const manager = await running(t, { servers })
    for (const kind of KINDS) {
      const seen = []
      for (let i = 1; i <= 5; i++)
        seen.push(await met(t, { port: portOf(manager, kind), localAddress: `127.0.0.${i * 20}` }))
      t.same(seen, Array(5).fill('busy'), kind)
    }
  })

  t.test('backends that all have weight 0 count as 1', async (t) => {
    const [a, b] = await named(t, 'a', 'b')
    const lines = [a!, b!].map(({ address }) => `${address} weight=0`)
    const manager = await running(t, { servers: { web: serving(lines, { balance: 'wrr' }) } })
    t.same((await visitors(t, manager, 4)).sort(), ['a', 'a', 'b', 'b'])
  })

  t.test('every kind serves clients without an address: those of a unix listener', async (t) => {
    const [a, b] = await named(t, 'a', 'b')
    const dir = folder(t)
    const servers = KINDS.map((balance) => [
      balance,
      serving([a!, b!], { balance, bind: `unix:${join(dir, balance)}` }),
    ])
    await running(t, { servers: Object.fromEntries(servers) as object })
    for (const kind of KINDS) t.match(await met(t, { path: join(dir, kind) }), /^[ab]$/, kind)
  })

  t.test('leastconn sends the next client where the fewest are', async (t) => {
    const backends = await named(t, 'a', 'b', 'c')
    const manager = await running(t, { servers: { web: serving(backends, { balance: 'leastconn' }) } })
    const flows = []
    for (let i = 0; i < 6; i++) flows.push(await visit(t, portOf(manager, 'web')))
    t.same(flows.map(({ name }) => name).sort(), ['a', 'a', 'b', 'b', 'c', 'c'])
    for (const { name, end } of flows) if (name === 'b') await end.leave()
    await statsUntil(manager, 'two to have left', (stats) => stats.active_connections === 4)
    t.equal((await visit(t, portOf(manager, 'web'))).name, 'b')
    t.equal((await visit(t, portOf(manager, 'web'))).name, 'b')
  })

  t.test('leasttime prefers the backend that answers sooner', async (t) => {
    const [quick, slow] = await named(t, 'quick', 'slow')
    const settings = { balance: 'leasttime' }
    slow!.delayMs = 150
    const manager = await running(t, { servers: { web: serving([quick!, slow!], settings) } })
    const seen = await visitors(t, manager, 24)
    t.ok(seen.slice(4).filter((name) => name === 'quick').length >= 17, seen.join(' '))
  })

  t.test('initial_status unhealthy keeps a backend out until its first check passes', async (t) => {
    const [a] = await named(t, 'a')
    await a!.refuse()
    const healthcheck = { ...PING, initial_status: 'unhealthy', passes: 2 }
    const manager = await running(t, { servers: { web: serving([a!], { healthcheck }) } })
    t.equal(await met(t, portOf(manager, 'web')), '')
    t.match(await statsOf(manager), { refusals: { 'all-unhealthy': 1 } })
    await a!.start()
    await live(manager, a!.address, true)
    t.equal(await met(t, portOf(manager, 'web')), 'a')
  })

  t.test('a full priority group spills into the next', async (t) => {
    const [first, second] = await named(t, 'first', 'second')
    const lines = [`${first!.address} max_connections=1`, `${second!.address} priority=2`]
    const manager = await running(t, { servers: { web: serving(lines) } })
    const inside = await visit(t, portOf(manager, 'web'))
    t.equal(inside.name, 'first')
    t.same(await visitors(t, manager, 2), ['second', 'second'])
    await inside.end.leave()
    await until(
      async () => (await met(t, portOf(manager, 'web'))) === 'first',
      'the first to take clients again',
    )
  })

  t.test(
    'when the better priority is down the worse one serves, and hands back when it returns',
    async (t) => {
      const [main, spare] = await named(t, 'main', 'spare')
      const lines = [main!.address, `${spare!.address} priority=2`]
      const manager = await running(t, { servers: { web: serving(lines, { healthcheck: PING }) } })
      t.same(await visitors(t, manager, 2), ['main', 'main'])
      await main!.refuse()
      await live(manager, main!.address, false)
      t.same(await visitors(t, manager, 2), ['spare', 'spare'])
      await main!.start()
      await live(manager, main!.address, true)
      t.same(await visitors(t, manager, 2), ['main', 'main'])
    },
  )

  t.test('ping checks flip a backend; log and statistics say why', async (t) => {
    const [a] = await named(t, 'a')
    const manager = await running(t)
    const log = logged(t)
    await manager.create('web', serving([a!], { healthcheck: PING }))
    const last = async () => (await backendStats(manager, a!.address))!.last_check
    await until(async () => (await last())?.status === 'healthy', 'the first check')
    await a!.refuse()
    await live(manager, a!.address, false)
    t.match(await last(), { at: /^\d{4}-\d\d-\d\dT/, status: 'unhealthy', reason: /refused/i, ms: Number })
    t.equal(await met(t, portOf(manager, 'web')), '')
    t.equal((await statsOf(manager)).refusals['all-unhealthy'], 1)
    await a!.start()
    await live(manager, a!.address, true)
    t.match(await last(), { status: 'healthy' })
    const flips = (await log())
      .split('\n')
      .filter((line) => line.includes(a!.address) && /healthy/.test(line))
    t.match(flips.join('\n'), /unhealthy.*refused[^]*healthy/i)
  })

  t.test('a backend that is removed takes no new clients and keeps those it has', async (t) => {
    const [a, b] = await named(t, 'a', 'b')
    const list = listed(t, [a!.address])
    const manager = await running(t, { servers: { web: serving([], list) } })
    await statsUntil(manager, 'the first list', ({ backends }) => backends.length === 1)
    const { name, end } = await visit(t, portOf(manager, 'web'))
    t.equal(name, 'a')
    list.write([b!.address])
    await until(
      async () => (await backendStats(manager, a!.address))?.stats.discovered === false,
      'its removal',
    )
    t.same(await visitors(t, manager, 3), ['b', 'b', 'b'])
    const kept = await a!.connection()
    kept.say('still here')
    await end.hears('still here')
    end.say('so am I')
    await kept.hears('so am I')

    // It returns while its client is still there: the same backend, with its numbers.
    list.write([a!.address, `${b!.address} priority=2`])
    await until(
      async () => (await backendStats(manager, a!.address))?.stats.discovered === true,
      'its return',
    )
    t.match((await backendStats(manager, a!.address))!.stats, { total_connections: 1, active_connections: 1 })
    t.equal(await met(t, portOf(manager, 'web')), 'a')

    list.write([b!.address])
    await until(
      async () => (await backendStats(manager, a!.address))?.stats.discovered === false,
      'its removal',
    )
    await end.leave()
    await until(async () => (await backendStats(manager, a!.address)) === undefined, 'it to be forgotten')
  })

  t.test('server totals keep the bytes of backends that have gone', async (t) => {
    const [a, b] = await named(t, 'a', 'b')
    const list = listed(t, [a!.address])
    const manager = await running(t, { servers: { web: serving([], list) } })
    await statsUntil(manager, 'the first list', ({ backends }) => backends.length === 1)
    t.equal(await met(t, portOf(manager, 'web')), 'a')
    list.write([b!.address])
    await until(async () => (await backendStats(manager, a!.address)) === undefined, 'it to be forgotten')
    t.match(await statsOf(manager), { rx_total: 2, tx_total: 0 })
    list.write([a!.address])
    await until(async () => (await backendStats(manager, a!.address)) !== undefined, 'its return')
    t.match((await backendStats(manager, a!.address))!.stats, { rx: 0, total_connections: 0 })
  })

  t.test('on_backend_loss = "close" ends the flows of a backend that turns unhealthy', async (t) => {
    const [a, b] = await named(t, 'a', 'b')
    const settings = { healthcheck: PING, on_backend_loss: 'close', balance: 'roundrobin' }
    const manager = await running(t, {
      servers: { web: serving([a!, b!], settings), keeps: serving([a!], { healthcheck: PING }) },
    })
    const flows = [await visit(t, portOf(manager, 'web')), await visit(t, portOf(manager, 'web'))]
    const kept = (await visit(t, portOf(manager, 'keeps'))).end
    const [lost, stays] = flows[0]!.name === 'a' ? flows : [...flows].reverse()
    await a!.refuse()
    await lost!.end.isOver()
    const stats = await statsUntil(manager, 'the end', ({ endings }) => endings['backend-lost'] === 1)
    t.equal(stats.active_connections, 1)
    t.notOk(stays!.end.over, 'the flow of the other backend stays')
    await until(async () => !(await statsOf(manager, 'keeps')).backends[0]!.stats.live, 'unhealthy there too')
    t.notOk(kept.over, 'the default keeps flows')
  })

  t.test('on_backend_loss = "close" ends the flows of a backend that is removed', async (t) => {
    const [a, b] = await named(t, 'a', 'b')
    const list = listed(t, [a!.address])
    const manager = await running(t, { servers: { web: serving([], { ...list, on_backend_loss: 'close' }) } })
    await statsUntil(manager, 'the first list', ({ backends }) => backends.length === 1)
    const { end } = await visit(t, portOf(manager, 'web'))
    list.write([b!.address])
    await end.isOver()
    const stats = await statsUntil(manager, 'the end', ({ endings }) => endings['backend-lost'] === 1)
    t.equal(stats.active_connections, 0)
    t.equal(await met(t, portOf(manager, 'web')), 'b')
  })

  t.test('bad lines of a script are named one by one, and the good ones serve', async (t) => {
    const [a] = await named(t, 'a')
    const dir = folder(t)
    writeFileSync(
      join(dir, 'out'),
      `<html>502\n${a!.address} max_connections=5   weight=3\n\nlocalhost:99999\n`,
    )
    const exec_command = [script(dir, 'backends', 'cat $dir/out')]
    const manager = await running(t)
    const log = logged(t)
    await manager.create('web', serving([], { discovery: { kind: 'exec', exec_command, interval: '50ms' } }))
    await statsUntil(manager, 'the good line', ({ backends }) => backends.length === 1)
    t.equal(await met(t, portOf(manager, 'web')), 'a')
    t.match((await statsOf(manager)).backends[0], { weight: 3, max_connections: 5 })
    const lines = (await log()).split('\n')
    for (const [number, text] of [
      [1, '<html>502'],
      [4, 'localhost:99999'],
    ] as const)
      t.ok(
        lines.some((line) => line.includes(`line ${number}`) && line.includes(text)),
        `line ${number} is named in:\n${lines.join('\n')}`,
      )
  })

  t.test('a bad line of a static list is named and skipped', async (t) => {
    const [a] = await named(t, 'a')
    const manager = await running(t)
    const log = logged(t)
    await manager.create('web', serving(['oops', a!.address]))
    t.equal(await met(t, portOf(manager, 'web')), 'a')
    t.match(await log(), /WARNI.*static_list\[0\].*got "oops"/)
  })

  for (const [failpolicy, expected] of [
    ['keeplast', 'a'],
    ['setempty', ''],
  ] as const)
    t.test(
      `while a script fails, failpolicy ${failpolicy} decides who serves; once it works again it does`,
      async (t) => {
        const [a, b] = await named(t, 'a', 'b')
        const dir = folder(t)
        place(join(dir, 'out'), `${a!.address}\n`)
        const body = 'if [ -e $dir/fail ]; then touch $dir/failed; echo broken >&2; exit 3; fi; cat $dir/out'
        const exec_command = [script(dir, 'backends', body)]
        const discovery = { kind: 'exec', exec_command, interval: '50ms', failpolicy }
        const manager = await running(t)
        const log = logged(t)
        await manager.create('web', serving([], { discovery }))
        await statsUntil(manager, 'the first list', ({ backends }) => backends.length === 1)
        place(join(dir, 'out'), `${b!.address}\n`)
        await until(async () => (await met(t, portOf(manager, 'web'))) === 'b', 'the second list')
        place(join(dir, 'out'), `${a!.address}\n`)
        await until(async () => (await met(t, portOf(manager, 'web'))) === 'a', 'the third list')
        writeFileSync(join(dir, 'fail'), '')
        await until(async () => /broken/.test(await log()), 'the failure in the log')
        if (expected === '')
          await statsUntil(manager, 'an empty list', ({ backends }) => backends.length === 0)
        t.equal(await met(t, portOf(manager, 'web')), expected)
        t.match(await log(), /exited with status 3/)
      },
    )

  t.test('a name that loses its addresses and has them again starts anew with its checks', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const port = Number(alive.address.split(':')[1])
    let tell: (ips: readonly string[]) => void = () => {}
    const names = {
      watch(_host: string, onAddresses: typeof tell) {
        tell = onAddresses
        tell(['127.0.0.2'])
        return () => {}
      },
    } as unknown as Names
    const config = serving([`moving.test:${port}`], {
      healthcheck: { kind: 'ping', interval: '50ms', timeout: '1s' },
    })
    const manager = await running(t, { servers: { web: config } }, { names })
    const live = async () => (await statsOf(manager)).backends[0]!.stats.live
    await until(async () => !(await live()), 'nobody answers on the first address')
    tell([])
    t.equal(await live(), false)
    tell(['127.0.0.1'])
    await until(live, 'the backend to be healthy again')
    t.equal(await met(t, portOf(manager, 'web')), 'alive')
  })

  t.test('nobody is created while everybody is stopped', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const manager = await running(t, { servers: { web: serving([alive]) } })
    const pending = manager.create('pending', serving([alive])).catch(() => {})
    await manager.stop(0, 'shutdown')
    await pending
    await t.rejects(manager.create('late', serving([alive])), { message: /fairlead is ending/ })
    t.equal(manager.servers.size, 0)
  })
})

t.test('an address that is listed twice is one backend, and the later line counts', async (t) => {
  const [a] = await named(t, 'a')
  const manager = await running(t, {
    servers: { web: serving([`${a!.address} weight=2 max_connections=9`, `${a!.address} weight=4`]) },
  })
  const { backends } = await statsOf(manager)
  t.equal(backends.length, 1)
  t.match(backends[0], { weight: 4 })
  t.notOk('max_connections' in backends[0]!)
})

t.test('priorities under a kind that ignored them in gobetween are pointed out at start', async (t) => {
  const [a, b] = await named(t, 'a', 'b')
  const lines = [a!.address, `${b!.address} priority=2`]
  const manager = await running(t)
  const log = logged(t)
  const said = async (balance: string) => {
    const warnings = await manager.create(balance, serving(lines, { balance }))
    return (await log()) + JSON.stringify(warnings)
  }
  t.notMatch(await said('weight'), /priorit/)
  t.match(await said('roundrobin'), /priorit/)
})

t.test('passes and fails are consecutive', async (t) => {
  const [a] = await named(t, 'a')
  const dir = folder(t)
  // Checks fail twice, pass once, fail twice, and so on: never three times in a row.
  const check = script(
    dir,
    'check',
    'echo x >> $dir/n; [ $(($(wc -l < $dir/n) % 3)) -eq 0 ] && echo 1 || echo 0',
  )
  const healthcheck = {
    kind: 'exec',
    exec_command: check,
    exec_expected_positive_output: '1',
    exec_expected_negative_output: '0',
    interval: '30ms',
    timeout: '5s',
    fails: 3,
  }
  const manager = await running(t, { servers: { web: serving([a!], { healthcheck }) } })
  const results = new Set<string>()
  let checks = 0
  let before = ''
  await until(async () => {
    const view = (await backendStats(manager, a!.address))!
    t.ok(view.stats.live)
    const { at = '', status = '' } = view.last_check ?? {}
    if (at !== before) checks++
    before = at
    results.add(status)
    return checks > 12
  }, 'a dozen checks')
  t.ok(results.has('healthy') && results.has('unhealthy'), [...results].join())
})

t.test('a backend that answers no check in time is unhealthy, and says why', async (t) => {
  const deaf = await deafBackend(t)
  const healthcheck = { kind: 'ping', interval: '100ms', timeout: '200ms' }
  const manager = await running(t, { servers: { web: serving([deaf], { healthcheck }) } })
  await live(manager, deaf.address, false)
  const { last_check } = (await backendStats(manager, deaf.address))!
  t.match(last_check, { status: 'unhealthy', reason: /time/i })
})

t.test('servers with the same script share its runs, and it ends with the last of them', async (t) => {
  const dir = folder(t)
  const discovery = {
    kind: 'exec',
    exec_command: [script(dir, 'backends', 'echo x >> $dir/runs; echo $$ > $dir/pid; exec sleep 1000')],
    timeout: '1h',
  }
  const manager = await running(t, {
    servers: { one: serving([], { discovery }), two: serving([], { discovery }) },
  })
  await until(() => existsSync(join(dir, 'pid')), 'the script to run')
  await manager.remove('one')
  t.notOk(hasEnded(join(dir, 'pid')), 'the other server still waits for it')
  t.equal(readFileSync(join(dir, 'runs'), 'utf8'), 'x\n')
  await manager.remove('two')
  await until(() => hasEnded(join(dir, 'pid')), 'the script to be ended')
})

t.test('a check that runs when its server is removed is ended', async (t) => {
  const [a] = await named(t, 'a')
  const dir = folder(t)
  const healthcheck = {
    kind: 'exec',
    exec_command: script(dir, 'check', 'echo $$ > $dir/pid; exec sleep 1000'),
    exec_expected_positive_output: '1',
    exec_expected_negative_output: '0',
    interval: '50ms',
    timeout: '1h',
  }
  const manager = await running(t, { servers: { web: serving([a!], { healthcheck }) } })
  await until(() => existsSync(join(dir, 'pid')), 'the check to run')
  await manager.remove('web')
  await until(() => hasEnded(join(dir, 'pid')), 'the check to be ended')
})

t.test('updates of discovery are logged with what they added, changed and removed', async (t) => {
  const [a, b] = await named(t, 'a', 'b')
  const list = listed(t, [a!.address])
  const manager = await running(t)
  const log = logged(t)
  await manager.create('web', serving([], list))
  const says = (text: string) => until(async () => (await log()).includes(text), `${text} in the log`)
  await says(`added ${a!.address}`)
  list.write([`${a!.address} weight=7`, b!.address])
  await says(`changed ${a!.address}`)
  await says(`added ${b!.address}`)
  list.write([b!.address])
  await says(`removed ${a!.address}`)
  t.equal((await log()).match(/added/g)!.length, 2, 'a list that says the same again is not logged')
})

// What `[servers.NAME.tcp]` asks of sockets, seen at the other end of them or in the kernel's own list.

import { spawn, spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { backend, client, met, visit } from '../support/ends.ts'
import type { Backend } from '../support/ends.ts'
import { folder } from '../support/folder.ts'
import { NO_IPV6 } from '../support/ipv6.ts'
import { logged, serving, statsUntil } from '../support/observed.ts'
import { Launched } from '../support/launched.ts'
import { onEveryPlane } from '../support/planes.ts'
import { portOf, running } from '../support/running.ts'
import { until } from '../support/until.ts'

const NATIVE_ONLY = {
  transparent: true,
  mark: 7,
  user_timeout: '1s',
  defer_accept: '1s',
  fast_open: 16,
  freebind: true,
}

const ss = (...args: string[]) => spawnSync('ss', args, { encoding: 'utf8' })
const NO_SS = ss('-V').status === 0 ? false : 'no ss here'

/** SO_MARK and IP_TRANSPARENT take CAP_NET_ADMIN: bit 12 of what /proc tells. */
const NO_ADMIN = isAdmin() ? false : 'this takes CAP_NET_ADMIN'

/** What takes the right from a process, unless nobody here has it. */
const UNPRIVILEGED = NO_ADMIN ? [] : ['setpriv', '--bounding-set=-net_admin,-net_raw']
const NO_SETPRIV =
  NO_ADMIN || spawnSync('setpriv', ['--version']).status === 0 ? false : 'setpriv is not installed'
const COMMAND = fileURLToPath(new URL('../../bin/fairlead', import.meta.url))

/** A server with these options in front of a backend. */
const options = (to: Backend, tcp: object): object => ({ web: serving([to], { tcp }) })

t.test('the portable plane refuses what it cannot set, by server and key', async (t) => {
  const manager = await running(t)
  for (const [key, value] of Object.entries(NATIVE_ONLY))
    await t.rejects(
      manager.create('web', serving(['127.0.0.1:1'], { tcp: { [key]: value } })),
      {
        name: 'UnsupportedError',
        message: `server web needs the native plane for tcp.${key}, and has the portable one`,
      },
      key,
    )
  t.same([...manager.servers.keys()], [])
  await manager.create('web', serving(['127.0.0.1:1'], { tcp: { keep_alive: '0', source: '127.0.0.7' } }))
})

onEveryPlane((t, running, plane) => {
  t.test('dials come from the source, those of the other family from anywhere', async (t) => {
    const four = await backend(t, { name: 'four' })
    const tcp = { source: '127.0.0.7' }
    const manager = await running(t, { servers: options(four, tcp) })
    t.equal((await visit(t, portOf(manager, 'web'))).name, 'four')
    t.equal((await four.connection()).socket.remoteAddress, '127.0.0.7')
    if (NO_IPV6) return
    const six = await backend(t, { name: 'six', host: '::1' })
    await manager.create('six', serving([six], { tcp }))
    t.equal((await visit(t, portOf(manager, 'six'))).name, 'six')
    t.equal((await six.connection()).socket.remoteAddress, '::1')
  })

  t.test('a source that is not ours is told by its key, and no backend is blamed', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const manager = await running(t)
    const log = logged(t)
    await manager.create('web', serving([alive], { tcp: { source: '192.0.2.9' } }))
    for (let i = 0; i < 5; i++) t.equal(await met(t, portOf(manager, 'web')), '')
    const said = 'no interface of this machine has the address that source names (EADDRNOTAVAIL)'
    t.equal((await log()).split(said).length - 1, 1, 'once for all of them')
    const { endings, refusals, backends } = await statsUntil(
      manager,
      'five ends',
      ({ endings }) => endings['dial-failed'] === 5,
    )
    t.notOk(endings.ports || refusals.ports, 'there are ports')
    t.equal(backends[0]!.stats.refused_connections, 0)
  })

  t.test('a backend and a bind with a zone are reached', { skip: NO_IPV6 }, async (t) => {
    const alive = await backend(t, { name: 'alive', host: '::1' })
    const manager = await running(t, {
      servers: { web: serving([`[::1%lo]:${alive.port}`], { bind: '[::1%lo]:0' }) },
    })
    t.equal(await met(t, { host: '::1', port: portOf(manager, 'web') }), 'alive')
  })

  t.test('a silent peer is probed after keep_alive, and never with "0"', { skip: NO_SS }, async (t) => {
    const never = await backend(t)
    const later = await backend(t)
    const soon = await backend(t)
    const manager = await running(t, {
      servers: {
        never: serving([never], { tcp: { keep_alive: '0' } }),
        later: serving([later], { tcp: { keep_alive: '300s' } }),
        soon: serving([soon], { tcp: { keep_alive: '3s' } }),
      },
    })
    // The one without a timer is the oldest: had it been given one, it would be there when the others have theirs.
    for (const [name, to] of Object.entries({ never, later, soon })) {
      client(t, portOf(manager, name))
      await to.connection()
    }
    const sides = (name: string, { port }: Backend) => [
      timer(`sport = :${portOf(manager, name)}`),
      timer(`dport = :${port}`),
    ]
    await until(() => !sides('soon', soon).includes('') && !sides('later', later).includes(''), 'timers')
    for (const text of sides('soon', soon)) t.match(text, /^keepalive,(3sec|[12]sec|[012]\.\d+ms|\d{1,3}ms),/)
    for (const text of sides('later', later)) t.match(text, /^keepalive,[45]min/)
    t.same(sides('never', never), ['', ''])
  })

  if (plane === 'portable') return

  t.test('with defer_accept a client is told of when it has sent something', async (t) => {
    const alive = await backend(t, { echo: true })
    const manager = await running(t, { servers: options(alive, { defer_accept: '60s' }) })
    const port = portOf(manager, 'web')
    const silent = Array.from({ length: 8 }, () => client(t, port))
    await until(() => silent.every(({ local }) => local !== ''), 'the handshakes')
    for (let i = 0; i < 8; i++) await client(t, port).say('here').hears('here')
    t.equal(alive.taken.length, 8, 'only those who spoke have a backend')
    await silent[3]!.say('late').hears('late')
    t.equal(alive.taken.length, 9)
  })

  t.test('user_timeout ends a flow whose peer takes nothing, on either side', async (t) => {
    const greedy = await backend(t)
    const manager = await running(t, { servers: options(greedy, { user_timeout: '500ms' }) })
    const port = portOf(manager, 'web')
    const pouring = client(t, port)
    const deaf = await greedy.connection()
    deaf.socket.pause()
    pouring.pour(64 * 2 ** 20).catch(() => {}) // It ends in the middle of it.
    const over = (reason: string) => statsUntil(manager, reason, ({ endings }) => endings[reason] === 1)
    t.ok(await over('backend-reset'), 'a backend that takes nothing')

    const asking = client(t, port)
    const generous = await greedy.connection(1)
    asking.socket.pause()
    generous.pour(64 * 2 ** 20).catch(() => {})
    t.ok(await over('client-reset'), 'a client that takes nothing')
  })

  t.test('freebind listens on an address that is not ours', async (t) => {
    const alive = await backend(t)
    const manager = await running(t)
    const bind = '192.0.2.1:0'
    await t.rejects(manager.create('web', serving([alive], { bind })), { code: 'BIND_FAILED' })
    await manager.create('web', serving([alive], { bind, tcp: { freebind: true } }))
    t.match(manager.servers.get('web')!.addresses[0], /^192\.0\.2\.1:[1-9]\d*$/)
  })

  t.test('what goes to backends has the mark', { skip: NO_SS || NO_ADMIN }, async (t) => {
    const alive = await backend(t)
    const manager = await running(t, { servers: options(alive, { mark: 7 }) })
    client(t, portOf(manager, 'web'))
    await alive.connection()
    t.match(ss('-tneH', 'state', 'established', `dport = :${alive.port}`).stdout, /fwmark:0x7\b/)
  })

  t.test('a server whose mark or transparent would fail does not start', { skip: NO_SETPRIV }, async (t) => {
    const tcp = { mark: 7, transparent: true }
    for (const [key, value] of Object.entries(tcp)) {
      const config = join(folder(t), 'config.json')
      const servers = { web: serving(['127.0.0.1:1'], { tcp: { [key]: value } }) }
      writeFileSync(config, JSON.stringify({ plane: 'native', servers }))
      const argv = [...UNPRIVILEGED, '/usr/bin/env', '-u', 'NODE_OPTIONS', COMMAND, '-c', config]
      const launched = new Launched(spawn(argv[0]!, argv.slice(1)))
      t.equal(await launched.exit(), 1)
      const said = `server web cannot start: tcp.${key} takes CAP_NET_ADMIN, which this process does not have`
      t.match(launched.output, said)
    }
  })

  t.test('transparent dials from where the client is', { skip: NO_ADMIN }, async (t) => {
    const four = await backend(t, { name: 'four' })
    const manager = await running(t, { servers: options(four, { transparent: true }) })
    const port = portOf(manager, 'web')
    t.equal((await visit(t, { port, localAddress: '127.0.0.23' })).name, 'four')
    t.equal((await four.connection()).socket.remoteAddress, '127.0.0.23')
    if (NO_IPV6) return
    const six = await backend(t, { name: 'six', host: '::1' })
    await manager.create('six', serving([six], { tcp: { transparent: true } }))
    t.equal(
      await met(t, portOf(manager, 'six')),
      '',
      'never from an address of ours: the other family is not dialled',
    )
  })

  t.test('a listener with fast_open serves whoever does without', async (t) => {
    const alive = await backend(t, { name: 'alive' })
    const manager = await running(t, { servers: options(alive, { fast_open: 16 }) })
    t.equal(await met(t, portOf(manager, 'web')), 'alive')
  })
})

function isAdmin(): boolean {
  if (!existsSync('/proc/self/status')) return false
  const [, effective = '0'] = /^CapEff:\s*(\w+)/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? []
  return (BigInt(`0x${effective}`) & (1n << 12n)) !== 0n
}

/** The timer of the one connection that `filter` finds; empty without one. */
function timer(filter: string): string {
  const { stdout } = ss('-tnoH', 'state', 'established', filter)
  return /timer:\((.*)\)/.exec(stdout)?.[1] ?? ''
}

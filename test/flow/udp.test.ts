// Whole servers of datagrams: who is elected, who moves when a backend goes, what is refused, counted and logged.

import { join } from 'node:path'
import { readFileSync } from 'node:fs'
import { decode, encode } from 'dns-packet'
import t from 'tap'
import type { Test } from 'tap'
import { parseText } from '../../src/config/parse.ts'
import { addressText } from '../../src/core/address.ts'
import { BindError } from '../../src/core/errors.ts'
import type { Manager } from '../../src/manager/manager.ts'
import { openAccessLog } from '../../src/server/accesslog.ts'
import { SessionBudget } from '../../src/server/sessionbudget.ts'
import { answering, deadEnd, named, talker, talkers } from '../support/datagrams.ts'
import type { Talker } from '../support/datagrams.ts'
import { backend, client } from '../support/ends.ts'
import { folder } from '../support/folder.ts'
import { launchReady } from '../support/launched.ts'
import { a, nameserver } from '../support/nameserver.ts'
import { backendStats, serving, statsOf, statsUntil } from '../support/observed.ts'
import type { StatsView } from '../support/observed.ts'
import { place } from '../support/place.ts'
import { onEveryPlane } from '../support/planes.ts'
import { portOf, running } from '../support/running.ts'
import { until } from '../support/until.ts'

const PROBE = {
  kind: 'probe',
  probe_protocol: 'udp',
  probe_send: 'PROBE',
  probe_recv: 'fit',
  interval: '50ms',
  timeout: '2s',
}

const lineOf = (backend: Talker | string) =>
  typeof backend === 'string' ? backend : addressText(backend.address)

/** A server of datagrams with a static list of `backends`. */
function sessions(backends: readonly (Talker | string)[], more: object = {}): object {
  return serving(backends.map(lineOf), { protocol: 'udp', ...more })
}

const alphabet = (t: Test, names: string) => Promise.all([...names].map((name) => named(t, name)))

const ended = (manager: Manager, reason: string, times = 1) =>
  statsUntil(manager, `${times} ends by ${reason}`, ({ endings }) => endings[reason] === times)

/** The sum of all that is counted, by reason or in a row. */
const sum = (counts: Readonly<Record<string, number>> | readonly number[]) =>
  Object.values(counts).reduce((all, each) => all + each, 0)

/** A list of backends in a file, discovered by a program every 50 ms. */
function listed(t: Test, ...backends: readonly Talker[]) {
  const path = join(folder(t), 'backends')
  const write = (...now: readonly (Talker | string)[]) =>
    place(path, now.map((each) => `${lineOf(each)}\n`).join(''))
  write(...backends)
  return { write, discovery: { kind: 'exec', exec_command: ['cat', path], interval: '50ms' } }
}

/** A backend that answers with its name, and the probe as long as it is fit. */
async function patient(t: Test, name: string) {
  const state = { fit: true }
  const backend = await answering(t, ({ bytes }) => {
    const text = bytes.toString()
    if (text !== 'PROBE') return [`${name}:${text}`]
    return state.fit ? ['fit'] : ['faint']
  })
  return { backend, state }
}

const isLive = async (manager: Manager, backend: Talker) =>
  (await backendStats(manager, lineOf(backend)))?.stats.live

t.test('the portable plane refuses to be transparent, by server and key', async (t) => {
  const manager = await running(t)
  await t.rejects(manager.create('dns', sessions(['127.0.0.1:53'], { udp: { transparent: true } })), {
    name: 'UnsupportedError',
    message: 'server dns needs the native plane for udp.transparent, and has the portable one',
  })
  t.same([...manager.servers.keys()], [])
})

onEveryPlane((t, running, plane) => {
  t.test('a resolver in front of resolvers, as its file has it', async (t) => {
    const told = () => ({ answers: [a('example.test', '192.0.2.7')] })
    const resolvers = [await nameserver(t, told), await nameserver(t, told)]
    const file = `
      [servers.dns]
      bind = "127.0.0.1:0"
      protocol = "udp"
      balance = "roundrobin"
      client_idle_timeout = "30s"

        [servers.dns.udp]
        max_responses = 1

        [servers.dns.discovery]
        kind = "static"
        static_list = [${resolvers.map(({ address }) => `"${address}"`).join(', ')}]

        [servers.dns.healthcheck]
        kind = "dns"
        dns_name = "health.test"
        interval = "50ms"
        timeout = "2s"`
    const manager = await running(t, parseText(file, 'toml', 'the test') as object)
    const checked = () =>
      resolvers.every(({ asked }) => asked.some(({ name, protocol }) => name === 'health.test' && protocol))
    await until(checked, 'a check of each')
    const client = await talker(t)
    for (let id = 1; id <= 10; id++) {
      const question = encode({ type: 'query', id, questions: [{ type: 'A', name: 'example.test' }] })
      const heard = client.heard.length
      await client.say(portOf(manager, 'dns'), question)
      await client.hears(heard + 1)
      t.match(decode(client.heard[heard]!.bytes), { id, answers: [{ data: '192.0.2.7' }] })
    }
    const asked = resolvers.map(({ asked }) => asked.filter(({ name }) => name === 'example.test').length)
    t.same(asked, [5, 5], 'in turn, as each question is a session')
    const over = async () => (await statsOf(manager, 'dns')).endings['max-responses'] === 10
    await until(over, 'ten ends')
    t.equal((await statsOf(manager, 'dns')).active_connections, 0)
  })

  t.test('clients are spread in turn, and each stays where it is', async (t) => {
    const backends = await alphabet(t, 'abc')
    const manager = await running(t, { servers: { web: sessions(backends, { balance: 'roundrobin' }) } })
    const clients = await talkers(t, 9)
    const port = portOf(manager, 'web')
    const first = []
    for (const each of clients) first.push(await each.asks(port, 'hi'))
    t.equal(new Set(first.slice(0, 3)).size, 3)
    t.same(first.slice(3), first.slice(0, 6), 'again and again in the same turn')
    for (let round = 0; round < 3; round++)
      t.same(await Promise.all(clients.map((each) => each.asks(port, 'hi'))), first)
    t.match(await statsOf(manager), { active_connections: 9, requests_total: 36, responses_total: 36 })
  })

  t.test('iphash sends all ports of an address to one backend', async (t) => {
    const backends = await alphabet(t, 'abcd')
    const manager = await running(t, { servers: { web: sessions(backends, { balance: 'iphash' }) } })
    const place = { host: '127.0.0.1', port: portOf(manager, 'web') }
    const met = new Set<string>()
    for (const host of ['127.0.0.1', '127.0.0.2', '127.0.0.3', '127.0.0.4', '127.0.0.5', '127.0.0.6']) {
      const answers = new Set<string>()
      for (const each of await talkers(t, 5, { host })) answers.add(await each.asks(place, 'hi'))
      t.equal(answers.size, 1, host)
      for (const answer of answers) met.add(answer)
    }
    t.ok(met.size > 1, 'and different addresses to different ones')
  })

  t.test('leastconn counts sessions, and forgets those that are over', async (t) => {
    const backends = await alphabet(t, 'ab')
    const settings = { balance: 'leastconn', client_idle_timeout: '200ms' }
    const manager = await running(t, { servers: { web: sessions(backends, settings) } })
    const port = portOf(manager, 'web')
    for (const each of await talkers(t, 6)) await each.asks(port, 'hi')
    t.same(
      backends.map(({ callers }) => callers.length),
      [3, 3],
    )
    await ended(manager, 'client-idle', 6)
    const { backends: views, active_connections } = await statsOf(manager)
    t.equal(active_connections, 0)
    t.same(
      views.map(({ stats }) => [stats.active_connections, stats.total_connections]),
      [
        [0, 3],
        [0, 3],
      ],
    )
  })

  t.test('sessions of a backend that is removed move, and no others do', async (t) => {
    const [one, two] = (await alphabet(t, 'ab')) as [Talker, Talker]
    const { write, discovery } = listed(t, one, two)
    const manager = await running(t, { servers: { web: sessions([], { balance: 'roundrobin', discovery }) } })
    await statsUntil(manager, 'both backends', ({ backends }) => backends.length === 2)
    const port = portOf(manager, 'web')
    const clients = await talkers(t, 6)
    for (const each of clients) await each.asks(port, 'hi')
    t.equal(one.callers.length, 3)
    write(two)
    await ended(manager, 'moved', 3)
    for (const each of clients) t.equal(await each.asks(port, 'again'), 'b:again')
    t.equal(two.callers.length, 6)
    const { endings, active_connections } = await statsOf(manager)
    t.same([sum(endings), active_connections], [3, 6])
  })

  t.test('a backend that drains keeps its sessions, and is given no new ones', async (t) => {
    const [one, two] = (await alphabet(t, 'ab')) as [Talker, Talker]
    const { write, discovery } = listed(t, one)
    const manager = await running(t, { servers: { web: sessions([], { discovery }) } })
    await statsUntil(manager, 'a backend', ({ backends }) => backends.length === 1)
    const port = portOf(manager, 'web')
    const [old, ...young] = await talkers(t, 6)
    t.equal(await old!.asks(port, 'hi'), 'a:hi')
    write(`${lineOf(one)} drain=true`, two)
    const drains = ({ backends }: StatsView) =>
      backends.some(({ port, drain }) => drain === true && port === `${one.port}`)
    await statsUntil(manager, 'it to drain', drains)
    for (const each of young) t.equal(await each.asks(port, 'new'), 'b:new')
    t.equal(await old!.asks(port, 'still'), 'a:still')
    t.equal(sum((await statsOf(manager)).endings), 0)
  })

  t.test('with on_backend_loss they stay, or end as backend-lost', async (t) => {
    const [one, two] = (await alphabet(t, 'ab')) as [Talker, Talker]
    const { write, discovery } = listed(t, one)
    const settings = (on_backend_loss: string) => sessions([], { discovery, on_backend_loss })
    const manager = await running(t, { servers: { web: settings('keep'), closing: settings('close') } })
    for (const name of ['web', 'closing'])
      await until(async () => (await statsOf(manager, name)).backends.length === 1)
    const [keeping, closing] = (await talkers(t, 2)) as [Talker, Talker]
    t.equal(await keeping.asks(portOf(manager, 'web'), 'hi'), 'a:hi')
    t.equal(await closing.asks(portOf(manager, 'closing'), 'hi'), 'a:hi')
    write(two)
    await until(
      async () => (await statsOf(manager, 'closing')).endings['backend-lost'] === 1,
      'the end of the session',
    )
    await statsUntil(manager, 'the removal', ({ backends }) =>
      backends.some(({ port, stats }) => port === `${one.port}` && !stats.discovered),
    )
    t.equal(await keeping.asks(portOf(manager, 'web'), 'still?'), 'a:still?')
    t.equal(await closing.asks(portOf(manager, 'closing'), 'and now?'), 'b:and now?')
    t.equal(sum((await statsOf(manager)).endings), 0)
  })

  t.test('sessions leave a backend that fails its checks, and it is elected again when fit', async (t) => {
    const [one, two] = [await patient(t, 'a'), await patient(t, 'b')]
    const manager = await running(t, {
      servers: { web: sessions([one.backend, two.backend], { healthcheck: PROBE, balance: 'roundrobin' }) },
    })
    const port = portOf(manager, 'web')
    const clients = await talkers(t, 4)
    for (const each of clients) await each.asks(port, 'hi')
    one.state.fit = false
    await ended(manager, 'moved', 2)
    for (const each of clients) t.equal(await each.asks(port, 'again'), 'b:again')
    t.equal(await isLive(manager, one.backend), false)
    one.state.fit = true
    await until(async () => (await isLive(manager, one.backend)) === true, 'it to be fit')
    const answers = []
    for (const each of await talkers(t, 4)) answers.push(await each.asks(port, 'new'))
    t.same(answers.sort(), ['a:new', 'a:new', 'b:new', 'b:new'])
    for (const each of clients) t.equal(await each.asks(port, 'stay'), 'b:stay')
  })

  t.test('a first datagram finds whoever listens', async (t) => {
    const dead = [addressText(await deadEnd()), addressText(await deadEnd())]
    const alive = await named(t, 'alive')
    const manager = await running(t, {
      servers: { web: sessions([...dead, alive], { balance: 'roundrobin' }) },
    })
    for (const each of await talkers(t, 6)) t.equal(await each.asks(portOf(manager, 'web'), 'hi'), 'alive:hi')
    t.equal(alive.heard.length, 6, 'each question once')
    const stats = await statsOf(manager)
    t.equal(sum(stats.endings) + sum(stats.refusals), 0)
    const refused = (line: string) =>
      stats.backends.find(({ port }) => line.endsWith(`:${port}`))!.stats.refused_connections
    t.ok(refused(dead[0]!) + refused(dead[1]!) > 0)
    t.equal(refused(lineOf(alive)), 0)
  })

  t.test('a session whose backend has gone goes on with another', async (t) => {
    const backends = await alphabet(t, 'ab')
    const manager = await running(t, { servers: { web: sessions(backends, { balance: 'roundrobin' }) } })
    const port = portOf(manager, 'web')
    const client = await talker(t)
    const first = await client.asks(port, 'hi')
    const [lost, left] = first === 'a:hi' ? [0, 'b'] : [1, 'a']
    const gone = backends[lost]!
    await gone.close()
    t.equal(await client.insists(port, 'again'), `${left}:again`)
    const stats = await statsOf(manager)
    t.equal(stats.active_connections, 1)
    t.equal(sum(stats.endings), 0, 'the same session')
    const view = (await backendStats(manager, lineOf(gone)))!
    t.match(view.stats, { active_connections: 0, rx: 4, responses: 1 })
    t.ok(view.stats.refused_connections >= 1)
  })

  t.test('a session that is told nobody listens ends with close, and stays with keep', async (t) => {
    const server = (to: Talker, on_backend_loss: string) => sessions([to], { on_backend_loss })
    const [one, two] = (await alphabet(t, 'ab')) as [Talker, Talker]
    const manager = await running(t, { servers: { web: server(one, 'close'), keep: server(two, 'keep') } })
    const [closing, keeping] = (await talkers(t, 2)) as [Talker, Talker]
    await closing.asks(portOf(manager, 'web'), 'hi')
    await keeping.asks(portOf(manager, 'keep'), 'hi')
    await Promise.all([one.close(), two.close()])
    await closing.say(portOf(manager, 'web'), 'gone?')
    await ended(manager, 'backend-lost')
    await keeping.say(portOf(manager, 'keep'), 'gone?', 'gone?', 'gone?')
    await until(async () => (await statsOf(manager, 'keep')).requests_total === 4)
    const back = await named(t, 'back', two.address)
    t.equal(await keeping.insists(portOf(manager, 'keep'), 'you?'), 'back:you?')
    t.equal(back.callers[0], two.callers[0], 'its socket is the one of before')
    t.equal(sum((await statsOf(manager, 'keep')).endings), 0)
  })

  t.test('a session for which nobody is left ends, and the next datagram tries again', async (t) => {
    const place = await deadEnd()
    const manager = await running(t, { servers: { web: sessions([addressText(place)]) } })
    const client = await talker(t)
    await client.say(portOf(manager, 'web'), 'anybody?')
    await ended(manager, 'backend-lost')
    await named(t, 'late', place)
    t.equal(await client.insists(portOf(manager, 'web'), 'anybody now?'), 'late:anybody now?')
    t.match(await statsOf(manager), { active_connections: 1 })
  })

  t.test('a server without backends refuses until it has one', async (t) => {
    const { write, discovery } = listed(t)
    const manager = await running(t, { servers: { web: sessions([], { discovery }) } })
    const client = await talker(t)
    for (const each of await talkers(t, 3)) await each.say(portOf(manager, 'web'), 'anybody?')
    await statsUntil(manager, 'three refusals', ({ refusals }) => refusals['no-backends'] === 3)
    write(await named(t, 'first'))
    t.equal(await client.insists(portOf(manager, 'web'), 'now?'), 'first:now?')
    const { active_connections, endings } = await statsOf(manager)
    t.same([active_connections, sum(endings)], [1, 0])
  })

  t.test('max_connections bounds sessions, and those there are go on', async (t) => {
    const alive = await named(t, 'a')
    const settings = { max_connections: 2, client_idle_timeout: '300ms' }
    const manager = await running(t, { servers: { web: sessions([alive], settings) } })
    const port = portOf(manager, 'web')
    const [one, two, three] = (await talkers(t, 3)) as [Talker, Talker, Talker]
    const keepUp = setInterval(() => void one.say(port, 'here').catch(() => {}), 20)
    t.teardown(() => clearInterval(keepUp))
    await one.asks(port, 'hi')
    await two.asks(port, 'hi')
    await three.say(port, 'full?')
    await statsUntil(manager, 'the refusal', ({ refusals }) => refusals['server-full'] === 1)
    t.same(three.texts, [])
    await ended(manager, 'client-idle', 1)
    t.equal(await three.insists(port, 'and now?'), 'a:and now?')
    t.ok(one.heard.length > 1)
  })

  t.test('a client address may have max_connections_per_client sessions', async (t) => {
    const alive = await named(t, 'a')
    const manager = await running(t, {
      servers: { web: sessions([alive], { max_connections_per_client: 2 }) },
    })
    const place = { host: '127.0.0.1', port: portOf(manager, 'web') }
    const [one, two, three] = (await talkers(t, 3)) as [Talker, Talker, Talker]
    await one.asks(place, 'hi')
    await two.asks(place, 'hi')
    await three.say(place, 'me too')
    await statsUntil(manager, 'the refusal', ({ refusals }) => sum(refusals) === 1)
    const other = await talker(t, { host: '127.0.0.2' })
    t.equal(await other.asks(place, 'another'), 'a:another')
    t.equal(await one.asks(place, 'still'), 'a:still')
    t.same(three.texts, [])
  })

  t.test('a full backend is passed over, and when all are full clients wait in order', async (t) => {
    const backends = (await alphabet(t, 'ab')) as [Talker, Talker]
    const lines = backends.map((each) => `${lineOf(each)} max_connections=1`)
    const settings = { balance: 'roundrobin', client_idle_timeout: '500ms' }
    const manager = await running(t, {
      servers: {
        web: sessions(lines, settings),
        patient: sessions(lines, { ...settings, queue_timeout: '30s' }),
      },
    })
    const port = portOf(manager, 'web')
    const [one, two, three] = (await talkers(t, 3)) as [Talker, Talker, Talker]
    const met = [await one.asks(port, 'hi'), await two.asks(port, 'hi')]
    t.same(met.sort(), ['a:hi', 'b:hi'])
    await three.say(port, 'full?')
    await statsUntil(manager, 'the refusal', ({ refusals }) => refusals['all-full'] === 1)

    const queue = portOf(manager, 'patient')
    const [four, five, six] = (await talkers(t, 3)) as [Talker, Talker, Talker]
    await four.asks(queue, 'hi')
    await five.asks(queue, 'hi')
    await six.say(queue, 'one', 'two', 'three')
    await until(async () => (await statsOf(manager, 'patient')).queued === 1, 'one in the queue')
    await six.hears(3)
    const [name] = six.texts[0]!
    t.same(
      six.texts,
      ['one', 'two', 'three'].map((text) => `${name}:${text}`),
    )
    t.equal((await statsOf(manager, 'patient')).refusals['all-full'], 0)
  })

  t.test('who is denied is dropped, and counted as that', async (t) => {
    const alive = await named(t, 'a')
    const access = { default: 'allow', rules: ['deny 127.0.0.2', 'deny 127.0.3.0/24'] }
    const manager = await running(t, { servers: { web: sessions([alive], { access }) } })
    const place = { host: '127.0.0.1', port: portOf(manager, 'web') }
    const denied = [await talker(t, { host: '127.0.0.2' }), await talker(t, { host: '127.0.3.9' })]
    for (const each of denied) await each.say(place, 'let', 'me', 'in')
    await statsUntil(manager, 'six dropped', ({ dropped }) => dropped!.access === 6)
    t.equal(await (await talker(t)).asks(place, 'me?'), 'a:me?')
    t.equal(alive.heard.length, 1)
    t.match(await statsOf(manager), { active_connections: 1, requests_total: 1 })
  })

  t.test('max_requests = 1 elects for every datagram and relays no answer', async (t) => {
    const backends = await alphabet(t, 'abc')
    const settings = { balance: 'roundrobin', udp: { max_requests: 1 } }
    const manager = await running(t, { servers: { web: sessions(backends, settings) } })
    const client = await talker(t)
    for (let i = 0; i < 30; i++) {
      await client.say(portOf(manager, 'web'), `line ${i}`)
      await until(() => sum(backends.map(({ heard }) => heard.length)) > i)
    }
    t.same(
      backends.map(({ heard }) => heard.length),
      [10, 10, 10],
    )
    const stats = await ended(manager, 'max-requests', 30)
    t.match(stats, { active_connections: 0, requests_total: 30, responses_total: 0 })
    t.same(
      stats.backends.map(({ stats }) => [stats.requests, stats.total_connections, stats.active_connections]),
      Array(3).fill([10, 10, 0]),
    )
    t.same(client.texts, [])
  })

  t.test(
    'max_requests = 1: limits of sessions at once hold back none of many datagrams at once',
    async (t) => {
      const many = Array.from({ length: 200 }, (_, i) => `line ${i}`)
      for (const limits of [{ max_connections: 10 }, { max_connections_per_client: 10 }, {}]) {
        const backend = await talker(t, { buffer: 4 << 20 })
        const line = `${lineOf(backend)} max_connections=1`
        const server = sessions([line], { udp: { max_requests: 1 }, ...limits })
        const manager = await running(t, { servers: { web: server } })
        await (await talker(t)).say(portOf(manager, 'web'), ...many)
        const stats = await ended(manager, 'max-requests', 200)
        t.same(sum(stats.refusals), 0)
        await backend.hears(200)
        t.same([...backend.texts].sort(), [...many].sort())
        t.match(stats, { active_connections: 0, requests_total: 200 })
        t.match(stats.backends[0]!.stats, { total_connections: 200, active_connections: 0 })
      }
    },
  )

  t.test('max_requests elects anew, and the old session still answers', async (t) => {
    const backends = await alphabet(t, 'ab')
    const settings = { balance: 'roundrobin', backend_idle_timeout: '300ms', udp: { max_requests: 2 } }
    const manager = await running(t, { servers: { web: sessions(backends, settings) } })
    const client = await talker(t)
    const port = portOf(manager, 'web')
    const answers = []
    for (const text of ['1', '2', '3', '4']) answers.push(await client.asks(port, text))
    const names = answers.map((answer) => answer.slice(0, 1)).join('')
    t.match(names, /^(aabb|bbaa)$/)
    const old = backends[names.startsWith('a') ? 0 : 1]!
    await old.say(old.callers[0]!, 'a late word')
    await client.hears(5)
    t.equal(client.texts[4], 'a late word')
    await ended(manager, 'max-requests', 2)
  })

  t.test('session_key = "ip" keeps a client that changes its port', async (t) => {
    const backends = await alphabet(t, 'abc')
    const settings = { balance: 'roundrobin', udp: { session_key: 'ip' } }
    const manager = await running(t, { servers: { web: sessions(backends, settings) } })
    const answers = new Set<string>()
    for (const each of await talkers(t, 10)) answers.add(await each.asks(portOf(manager, 'web'), 'hi'))
    t.equal(answers.size, 1)
    t.match(await statsOf(manager), { active_connections: 1, requests_total: 10 })
  })

  t.test('max_sessions evicts those nobody answers, and who is answered stays', async (t) => {
    const backend = await answering(t, ({ bytes }) => (bytes.toString() === 'real' ? ['yes'] : []))
    const manager = await running(t, { servers: { web: sessions([backend], { udp: { max_sessions: 8 } }) } })
    const port = portOf(manager, 'web')
    const real = await talker(t)
    t.equal(await real.asks(port, 'real'), 'yes')
    for (const each of await talkers(t, 60)) await each.say(port, 'forged')
    await statsUntil(
      manager,
      'evictions',
      ({ active_connections: active, endings, dropped }) =>
        active <= 8 && active + endings['evicted']! + dropped!['undecided']! === 61,
    )
    t.equal(await real.asks(port, 'real'), 'yes')
    const asked = backend.heard.filter(({ bytes }) => bytes.toString() === 'real')
    t.equal(new Set(asked.map(({ from }) => from.port)).size, 1, 'by the session it had')
  })

  t.test('several servers share what descriptors there are for sessions', async (t) => {
    const alive = await named(t, 'a')
    const budget = new SessionBudget(64)
    const manager = await running(t, { servers: { web: sessions([alive]) } }, { sessions: budget })
    const come = async () => {
      for (const each of await talkers(t, 80)) await each.asks(portOf(manager, 'web'), 'hi')
    }
    const holds = (count: number) =>
      statsUntil(manager, `${count} sessions`, ({ active_connections }) => active_connections === count)
    await come()
    await holds(32)
    await manager.create('other', sessions([alive]))
    await come()
    await holds(18)
    await manager.remove('other')
    await come()
    await holds(32)
  })

  t.test('statistics count sessions, datagrams and bytes', async (t) => {
    const backends = (await alphabet(t, 'ab')) as [Talker, Talker]
    const manager = await running(t, { servers: { web: sessions(backends, { balance: 'roundrobin' }) } })
    const port = portOf(manager, 'web')
    for (const each of await talkers(t, 4)) for (let i = 0; i < 5; i++) await each.asks(port, 'four')
    const stats = await statsUntil(manager, 'twenty', ({ responses_total }) => responses_total === 20)
    const none = { queue: 0, access: 0, undecided: 0, draining: 0, send: 0 }
    const totals = { active_connections: 4, tx_total: 80, rx_total: 120, requests_total: 20 }
    t.match(stats, { ...totals, dropped: none, backends: { length: 2 } })
    const each = { requests: 10, responses: 10, tx: 40, rx: 60, total_connections: 2, active_connections: 2 }
    for (const { stats: view } of stats.backends) t.match(view, { ...each, refused_connections: 0 })
  })

  t.test('the access log has a line for each session, with its datagrams', async (t) => {
    const [alive] = (await alphabet(t, 'a')) as [Talker]
    const path = join(folder(t), 'access')
    const accessLog = openAccessLog(path, 'text', Date.now)
    const settings = { udp: { max_responses: 2 } }
    const manager = await running(t, { servers: { web: sessions([alive], settings) } }, { accessLog })
    const client = await talker(t)
    await client.asks(portOf(manager, 'web'), 'one')
    await client.asks(portOf(manager, 'web'), 'two')
    await until(() => readFileSync(path, 'utf8').includes('\n'), 'a line')
    const who = `127.0.0.1:${client.port} 127.0.0.1:${portOf(manager, 'web')} ${lineOf(alive)}`
    const line = readFileSync(path, 'utf8').trimEnd()
    t.match(line, ` web ${who} `)
    t.match(line, / rx=10 tx=6 requests=2 responses=2 ms=[\d.]+\/[\d.]+\/[\d.]+\/[\d.]+ max-responses$/)
  })

  t.test('a server is deleted and made again while datagrams flow', async (t) => {
    const alive = await named(t, 'a')
    const manager = await running(t, { servers: { web: sessions([alive]) } })
    const port = portOf(manager, 'web')
    const clients = await talkers(t, 8)
    const chat = setInterval(() => {
      for (const each of clients) void each.say(port, 'chat').catch(() => {})
    }, 2)
    t.teardown(() => clearInterval(chat))
    for (let round = 0; round < 5; round++) {
      const heard = clients.map((each) => each.heard.length)
      await until(() => clients.every((each, i) => each.heard.length > heard[i]!), 'an answer for each')
      t.equal(await manager.remove('web'), true)
      const here = await talker(t, { port })
      t.equal(here.port, port, 'the address is free')
      await here.close()
      await manager.create('web', sessions([alive], { bind: `127.0.0.1:${port}` }))
    }
    const heard = clients.map((each) => each.heard.length)
    await until(() => clients.every((each, i) => each.heard.length > heard[i]!), 'an answer for each')
  })

  t.test('SIGTERM says how long it waits for sessions, apart from how long for connections', async (t) => {
    const [alive, web] = [await named(t, 'a'), await backend(t, { echo: true })]
    const servers = { dns: sessions([alive]), idle: sessions([alive]), web: serving([web]) }
    const launches = [servers, { dns: servers.dns, idle: servers.idle }].map((servers) =>
      launchReady(t, { config: { plane, servers } }),
    )
    for (const [fairlead, connected] of [
      [await launches[0]!, true],
      [await launches[1]!, false],
    ] as const) {
      t.equal(await (await talker(t)).asks(fairlead.port('dns'), 'hi'), 'a:hi')
      const front = connected && client(t, fairlead.port('web'))
      if (front) await front.say('hi').hears('hi')
      fairlead.signal('SIGTERM')
      const flows = connected ? '30s for 1 open flows and ' : ''
      await fairlead.says(`waiting at most ${flows}1s for 1 sessions; a second signal ends at once`)
      if (front) front.socket.end()
      t.equal(await fairlead.exit(), 0)
    }
  })

  t.test('a taken address is told, and the server that has it goes on', async (t) => {
    const alive = await named(t, 'a')
    const manager = await running(t, { servers: { web: sessions([alive]) } })
    const bind = `127.0.0.1:${portOf(manager, 'web')}`
    await t.rejects(manager.create('second', sessions([alive], { bind })), {
      name: 'BindError',
      message: new RegExp(bind),
    })
    t.equal(await (await talker(t)).asks(portOf(manager, 'web'), 'hi'), 'a:hi')
  })

  t.test('one server of datagrams and one of connections share a port', async (t) => {
    const alive = await named(t, 'a')
    const manager = await running(t)
    for (;;) {
      await manager.create('tcp', serving(['127.0.0.1:1']))
      const there = sessions([alive], { bind: `127.0.0.1:${portOf(manager, 'tcp')}` })
      const wrong: unknown = await manager.create('web', there).then(
        () => undefined,
        (error: unknown) => error,
      )
      if (!(wrong instanceof BindError)) {
        t.equal(wrong, undefined)
        break
      }
      // Free for streams, it may be taken for datagrams.
      await manager.remove('tcp')
    }
    t.equal(await (await talker(t)).asks(portOf(manager, 'web'), 'hi'), 'a:hi')
  })

  t.test('backends come and go under load, and every client is answered', async (t) => {
    const backends = await alphabet(t, 'abcd')
    const { write, discovery } = listed(t, ...backends)
    const manager = await running(t, { servers: { web: sessions([], { balance: 'leastconn', discovery }) } })
    await statsUntil(manager, 'all of them', ({ backends }) => backends.length === 4)
    const port = portOf(manager, 'web')
    const clients = await talkers(t, 20)
    let over = false
    const asking = clients.map(async (each) => {
      let count = 0
      while (!over) {
        const answer = await each.insists(port, `question ${count++}`)
        if (!/^[abcd]:question \d+$/.test(answer)) t.fail(`got ${answer}`)
        await new Promise(setImmediate)
      }
      return count
    })
    const listedNow = (count: number) => (stats: StatsView) =>
      stats.backends.filter(({ stats }) => stats.discovered).length === count
    for (let round = 0; round < 8; round++) {
      const left = backends.filter((_, i) => i !== round % 4 && i !== (round + 1) % 4)
      write(...left)
      await statsUntil(manager, 'two to go', listedNow(2))
      write(...backends)
      await statsUntil(manager, 'two to come', listedNow(4))
    }
    over = true
    t.ok(Math.min(...(await Promise.all(asking))) > 0)
    await until(async () => (await statsOf(manager)).active_connections === 20, 'a session for each')
    t.ok((await statsOf(manager)).endings['moved']! > 0)
  })
})

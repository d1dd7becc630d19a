// The metrics endpoint as Prometheus sees it.

import { spawnSync } from 'node:child_process'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import type { Test } from 'tap'
import { startMetrics } from '../../src/api/metrics.ts'
import { Chunks } from '../../src/api/chunks.ts'
import { scrape } from '../../src/api/scrape.ts'
import { addStats, statsText } from '../../src/api/stats.ts'
import { readDocument } from '../../src/config/read.ts'
import { ENDINGS, REFUSALS } from '../../src/core/reasons.ts'
import type { Manager } from '../../src/manager/manager.ts'
import { NO_IPV6 } from '../support/ipv6.ts'
import { portOf, running } from '../support/running.ts'
import { until } from '../support/until.ts'

const DOCUMENTED = readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8')
const MANY = 10_000

function staticServer(...list: string[]) {
  return { bind: '127.0.0.1:0', discovery: { kind: 'static', static_list: list } }
}

/** The endpoint over `manager`; `scrape` gives the text of /metrics. */
async function exposed(t: Test, manager: Manager, settings: object = {}) {
  const metrics = { enabled: true, bind: '127.0.0.1:0', ...settings }
  const endpoint = await startMetrics(readDocument({ metrics }, 'the test').config.metrics, manager, {
    version: '9.8.7',
  })
  t.teardown(() => endpoint.close())
  const get = (path: string, method = 'GET') => fetch(`http://${endpoint.addresses[0]}${path}`, { method })
  return { endpoint, get, scrape: async () => (await get('/metrics')).text() }
}

/** Series and their values; fails on one that stands twice. */
function read(t: Test, text: string): Map<string, number> {
  const values = new Map<string, number>()
  for (const line of text.split('\n')) {
    const match = /^([a-z_]+(?:\{.*\})?) (\S+)$/.exec(line)
    if (!match) continue
    if (values.has(match[1]!)) t.fail(`${match[1]} stands twice`)
    values.set(match[1]!, Number(match[2]))
  }
  return values
}

/** The names that have a TYPE line, each with its type. */
function families(text: string): Map<string, string> {
  return new Map([...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map((match) => [match[1]!, match[2]!]))
}

function hasPromtool(): boolean {
  return spawnSync('promtool', ['--version']).status === 0
}

async function backend(t: Test, text: string): Promise<number> {
  const server = createServer((socket) => socket.on('error', () => {}).end(text)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return (server.address() as AddressInfo).port
}

async function visit(port: number, text: string): Promise<void> {
  const socket = connect(port, '127.0.0.1').on('error', () => {})
  socket.end(text)
  await once(socket.resume(), 'close')
}

t.test('counters tell what went through a server and its backends', async (t) => {
  const address = `127.0.0.1:${await backend(t, 'eight by')}`
  const manager = await running(t, {
    servers: { web: staticServer(address), shut: { ...staticServer(address), access: { default: 'deny' } } },
  })
  const { scrape } = await exposed(t, manager)
  for (let i = 0; i < 3; i++) await visit(portOf(manager, 'web'), 'four')
  await visit(portOf(manager, 'shut'), '')
  await until(() => manager.servers.get('web')!.room.size === 0, 'the end of the flows')

  const values = read(t, await scrape())
  const expected = {
    'fairlead_server_active_connections{server="web"}': 0,
    'fairlead_server_connections_total{server="web"}': 3,
    'fairlead_server_received_bytes_total{server="web"}': 24,
    'fairlead_server_sent_bytes_total{server="web"}': 12,
    'fairlead_server_elections_total{server="web"}': 3,
    'fairlead_server_redispatches_total{server="web"}': 0,
    'fairlead_server_queued{server="web"}': 0,
    'fairlead_server_refusals_total{server="web",reason="access"}': 0,
    'fairlead_server_refusals_total{server="shut",reason="access"}': 1,
    [`fairlead_backend_healthy{server="web",backend="${address}"}`]: 1,
    [`fairlead_backend_active_connections{server="web",backend="${address}"}`]: 0,
    [`fairlead_backend_slots{server="web",backend="${address}"}`]: 0,
    [`fairlead_backend_connections_total{server="web",backend="${address}"}`]: 3,
    [`fairlead_backend_refused_connections_total{server="web",backend="${address}"}`]: 0,
    [`fairlead_backend_received_bytes_total{server="web",backend="${address}"}`]: 24,
    [`fairlead_backend_sent_bytes_total{server="web",backend="${address}"}`]: 12,
    'fairlead_discovery_asks_total{server="web",source="static"}': 1,
    'fairlead_discovery_failures_total{server="web",source="static"}': 0,
    'fairlead_discovery_backends{server="web",source="static"}': 1,
    'fairlead_discovery_rejected{server="web",source="static"}': 0,
    fairlead_health_checks_running: 0,
    [`fairlead_build_info{version="9.8.7",node="${process.versions.node}",plane="portable"}`]: 1,
  }
  for (const [series, value] of Object.entries(expected)) t.equal(values.get(series), value, series)
  t.ok(values.get('fairlead_discovery_age_seconds{server="web",source="static"}')! >= 0)
  for (const reason of REFUSALS)
    t.ok(values.has(`fairlead_server_refusals_total{server="web",reason="${reason}"}`))
  const ends = ENDINGS.map((reason) =>
    values.get(`fairlead_server_flow_ends_total{server="web",reason="${reason}"}`)!,
  )
  t.equal(
    ends.reduce((a, b) => a + b),
    3,
  )
})

t.test('histograms are cumulative, in seconds, and end in +Inf', async (t) => {
  const manager = await running(t, { servers: { web: staticServer() } })
  const { connect } = manager.servers.get('web')!.totals
  for (const ms of [0.05, 0.2, 30, 99_000]) connect.record(ms)
  const { scrape } = await exposed(t, manager)
  const values = read(t, await scrape())
  const name = 'fairlead_server_connect_seconds'
  const upTo = (le: string) => values.get(`${name}_bucket{server="web",le="${le}"}`)
  t.same(['0.0001', '0.00025', '0.025', '0.05', '10', '+Inf'].map(upTo), [1, 2, 2, 3, 3, 4])
  t.equal(values.get(`${name}_count{server="web"}`), 4)
  t.ok(Math.abs(values.get(`${name}_sum{server="web"}`)! - 99.03025) < 1e-9)
})

t.test(
  'promtool finds nothing to say',
  { skip: hasPromtool() ? false : 'promtool is not installed' },
  async (t) => {
    const healthcheck = { kind: 'ping', interval: '1s' }
    const manager = await running(t, {
      servers: { web: { ...staticServer('127.0.0.1:9', '[::1]:9'), healthcheck } },
    })
    const check = async (text: string) => {
      const { status, stderr } = spawnSync('promtool', ['check', 'metrics'], { input: text })
      return { status, said: String(stderr) }
    }
    t.same(await check(await (await exposed(t, manager)).scrape()), { status: 0, said: '' })
    const { said } = await check(await (await exposed(t, manager, { gobetween: true })).scrape())
    for (const line of said.trim().split('\n'))
      t.match(line, /^gobetween_/, 'only of names that are not ours')
  },
)

t.test('every series is documented', async (t) => {
  const manager = await running(t, { servers: { web: staticServer('127.0.0.1:9') } })
  const names = families(await (await exposed(t, manager, { gobetween: true })).scrape()).keys()
  const missing = [...names].filter((name) => !DOCUMENTED.includes(`\`${name}\``))
  t.same(missing, [])
})

t.test('gobetween = true adds its names, all of them gauges', async (t) => {
  const healthcheck = { kind: 'ping', interval: '1s' }
  const manager = await running(t, {
    servers: {
      web: { ...staticServer('[::1]:9 sni=a.example', '[::1]:9 sni=b.example'), healthcheck },
      bare: staticServer('127.0.0.1:9'),
    },
  })
  const { scrape } = await exposed(t, manager, { gobetween: true })
  const live = 'gobetween_backend_live{server="web",host="[::1]",port="9"}'
  await until(async () => read(t, await scrape()).has(live), 'the first check')
  const text = await scrape()
  const types = [...families(text)].filter(([name]) => name.startsWith('gobetween_'))
  t.equal(types.length, 15)
  t.ok(types.every(([, type]) => type === 'gauge'))
  const values = read(t, text)
  t.equal(values.get('gobetween_server_count{server="web"}'), 2)
  // Without IPv6 the dial fails for want of an address here, which says nothing about the backend.
  t.equal(values.get(live), NO_IPV6 ? 1 : 0)
  t.notOk(
    values.has('gobetween_backend_live{server="bare",host="127.0.0.1",port="9"}'),
    'never without checks',
  )
  t.match(text, '# HELP gobetween_server_active_connections Server Actice Connections.\n')
  t.ok(values.has('fairlead_backend_healthy{server="web",backend="[::1]:9",sni="b.example"}'))
  t.notMatch(await (await exposed(t, manager)).scrape(), /gobetween_/)
})

t.test('label values are escaped', async (t) => {
  const manager = await running(t)
  await manager.create('a"b\\c\nd', staticServer())
  const { scrape } = await exposed(t, manager)
  t.match(await scrape(), '\nfairlead_server_queued{server="a\\"b\\\\c\\nd"} 0\n')
})

t.test('the series of a removed server are gone', async (t) => {
  const manager = await running(t, { servers: { web: staticServer('127.0.0.1:9'), other: staticServer() } })
  const { scrape } = await exposed(t, manager)
  t.match(await scrape(), /server="web"/)
  await manager.remove('web')
  const text = await scrape()
  t.notMatch(text, /server="web"/)
  t.match(text, /server="other"/)
})

t.test('the process tells of itself, but nothing whose cost grows with connections', async (t) => {
  const { scrape } = await exposed(t, await running(t))
  const values = read(t, await scrape())
  t.ok(values.get('process_resident_memory_bytes')! > 0)
  t.ok(values.get('process_open_fds')! > 5)
  const text = await scrape()
  t.match(text, /nodejs_eventloop_lag_p99_seconds/)
  t.notMatch(text, /active_handles|active_requests|active_resources|nodejs_gc/)
  const again = families(await (await exposed(t, await running(t))).scrape())
  t.ok(again.has('process_open_fds'), 'a second endpoint has its own')
})

t.test('beside /metrics there is a pointer to it and nothing else', async (t) => {
  const { get } = await exposed(t, await running(t))
  const metrics = await get('/metrics?x=1')
  t.equal(metrics.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8')
  t.ok((await metrics.text()).endsWith('\n'))
  t.equal(await (await get('/')).text(), 'metrics are at /metrics\n')
  for (const [path, method] of [
    ['/debug/pprof/', 'GET'],
    ['/metrics', 'POST'],
    ['//', 'GET'],
  ])
    t.equal((await get(path!, method)).status, 404, `${method} ${path}`)
  t.equal((await get('/metrics', 'HEAD')).status, 200)
})

t.test('an address that cannot be had is no reason not to run', async (t) => {
  const manager = await running(t)
  const { endpoint } = await exposed(t, manager)
  const second = await exposed(t, manager, { bind: endpoint.addresses[0] })
  t.same(second.endpoint.addresses, [])
  await second.endpoint.close()
})

t.test('scrapes at the same time share one rendering', async (t) => {
  const manager = await running(t, { servers: { web: staticServer() } })
  const server = manager.servers.get('web')!
  let asked = 0
  let renderings = 0
  const count = () => void asked++
  subscribe('http.server.request.start', count)
  t.teardown(() => unsubscribe('http.server.request.start', count))
  /** As many servers as it takes for everybody to have asked. */
  function* values() {
    for (renderings++; asked < 20;) yield server
  }
  Object.defineProperty(manager, 'servers', { value: { values } })
  const { scrape } = await exposed(t, manager)
  const texts = await Promise.all(Array.from({ length: 20 }, scrape))
  t.equal(renderings, 1)
  t.ok(texts.every((text) => text === texts[0]))
})

t.test('a scraper that leaves in the middle harms nobody', async (t) => {
  const list = Array.from({ length: 2_000 }, (_, i) => `10.0.${i >> 8}.${i & 255}:80`)
  const { get, scrape } = await exposed(t, await running(t, { servers: { web: staticServer(...list) } }))
  for (let i = 0; i < 5; i++) {
    const { body } = await get('/metrics')
    const reader = body!.getReader()
    await reader.read()
    await reader.cancel()
  }
  t.match(await scrape(), /fairlead_build_info/)
})

t.test('neither a scrape nor statistics of 10,000 backends keep clients waiting', async (t) => {
  const list = Array.from({ length: MANY }, (_, i) => `10.0.${i >> 8}.${i & 255}:80`)
  const manager = await running(t, { servers: { web: staticServer(...list) } })
  const server = manager.servers.get('web')!
  await until(() => server.pool.size === MANY, 'the backends')
  /** Turns of the event loop while `work` goes on: in each of them a client can be decided about. */
  const turns = async (work: () => Promise<unknown>) => {
    let count = 0
    let next = setImmediate(function turn() {
      count++
      next = setImmediate(turn)
    })
    await work()
    clearImmediate(next)
    return count
  }
  t.ok((await turns(() => scrape(manager, { version: '9.8.7', gobetween: true }))) > 2)
  t.ok((await turns(() => addStats(new Chunks(), server))) > 2)

  const { get } = await exposed(t, manager)
  const text = await (await get('/metrics')).text()
  t.equal(text.match(/^fairlead_backend_healthy\{/gm)!.length, MANY)
  t.equal(JSON.parse(await statsText(server)).backends.length, MANY)
})

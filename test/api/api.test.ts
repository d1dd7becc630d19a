// The REST API over real HTTP: what gobetween's clients rely on, to the byte where they might.

import { execFileSync, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { request as secureRequest } from 'node:https'
import { request as plainRequest } from 'node:http'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import type { Test } from 'tap'
import { startApi } from '../../src/api/http.ts'
import type { About } from '../../src/api/about.ts'
import { goTime } from '../../src/api/gotime.ts'
import { readDocument } from '../../src/config/read.ts'
import { NO_IPV6 } from '../support/ipv6.ts'
import { folder } from '../support/folder.ts'
import { portOf, running } from '../support/running.ts'
import { until } from '../support/until.ts'

const ABOUT: About = {
  version: '9.8.7',
  origin: { kind: 'file', path: '/etc/<lb>.toml' },
  startedAt: Date.now(),
}
const ADMIN = { basic_auth: { login: 'admin', password: 'a:b' } }
const JSON_TYPE = 'application/json; charset=utf-8'
const TEXT_TYPE = 'text/plain; charset=utf-8'

interface Answer {
  readonly status: number
  readonly text: string
  readonly headers: Headers
}

type Call = (
  method: string,
  path: string,
  body?: unknown,
  headers?: Record<string, string>,
) => Promise<Answer>

/** A manager with an API in front; `call` asks it. */
async function serving(t: Test, { api = {}, ...document }: { api?: object; [key: string]: unknown } = {}) {
  const manager = await running(t, { ...document, api })
  const opened = await startApi(settingsOf(api), manager, ABOUT)
  t.teardown(() => opened.close())
  const port = Number(opened.addresses[0]!.split(':').at(-1))
  const call: Call = async (method, path, body, headers = {}) => {
    const text = typeof body === 'string' || body === undefined ? body : JSON.stringify(body)
    const url = `http://127.0.0.1:${port}${path}`
    const answer = await fetch(url, {
      method,
      headers,
      redirect: 'manual',
      ...(text !== undefined && { body: text }),
    })
    return { status: answer.status, text: await answer.text(), headers: answer.headers }
  }
  return { manager, api: opened, port, call }
}

function settingsOf(api: object) {
  return readDocument({ api: { enabled: true, bind: '127.0.0.1:0', ...api } }, 'the test').config.api
}

function staticServer(bind: string, ...list: string[]) {
  return { bind, discovery: { kind: 'static', static_list: list } }
}

/** A port nobody has now. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** Everything said on one connection after `bytes` were sent, until the other side ends it. */
async function raw(port: number, bytes: string): Promise<string> {
  const socket = await dialled(port)
  socket.write(bytes)
  let heard = ''
  for await (const chunk of socket) heard += String(chunk)
  return heard
}

async function dialled(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  await once(socket, 'connect')
  return socket
}

/** A backend that answers each connection with `text` and ends it. */
async function backend(t: Test, text: string): Promise<number> {
  const server = createServer((socket) => socket.on('error', () => {}).end(text)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return (server.address() as AddressInfo).port
}

t.test('a posted server is read back in the bytes gobetween would send', async (t) => {
  const { call } = await serving(t)
  const bind = `127.0.0.1:${await freePort()}`
  const posted = await call('POST', '/servers/web', {
    bind,
    discovery: { kind: 'static', static_list: ['localhost:8000'] },
  })
  t.match(posted, { status: 200, text: 'null' })
  t.equal(posted.headers.get('content-type'), JSON_TYPE)

  const { text, headers } = await call('GET', '/servers/web')
  t.equal(headers.get('content-type'), JSON_TYPE)
  t.equal(
    text,
    `{
    "max_connections": 0,
    "client_idle_timeout": "0",
    "backend_idle_timeout": "0",
    "backend_connection_timeout": "0",
    "bind": "${bind}",
    "protocol": "tcp",
    "balance": "weight",
    "sni": null,
    "tls": null,
    "backends_tls": null,
    "udp": null,
    "access": null,
    "proxy_protocol": null,
    "discovery": {
        "kind": "static",
        "failpolicy": "keeplast",
        "interval": "0",
        "timeout": "0",
        "static_list": [
            "localhost:8000"
        ]
    },
    "healthcheck": {
        "kind": "none",
        "interval": "0",
        "passes": 1,
        "fails": 1,
        "timeout": "0",
        "initial_status": null
    }
}`,
  )
})

t.test('servers are listed by name in the order of their names', async (t) => {
  const { call } = await serving(t)
  t.equal((await call('GET', '/servers')).text, '{}')
  for (const name of ['10', 'b', '9', 'a'])
    await call('POST', `/servers/${name}`, staticServer('127.0.0.1:0'))
  const { text } = await call('GET', '/servers')
  t.same(
    [...text.matchAll(/^ {4}"(.*?)": \{$/gm)].map((match) => match[1]),
    ['10', '9', 'a', 'b'],
  )
  const one = await call('GET', '/servers/a')
  t.ok(
    text.includes(`    "a": ${one.text.replaceAll('\n', '\n    ')}`),
    'each as it is shown alone, a level deeper',
  )
})

t.test('a body is read as JSON whatever its content type, and without one', async (t) => {
  const { call, port, manager } = await serving(t)
  const body = JSON.stringify(staticServer('127.0.0.1:0'))
  for (const type of [
    'application/x-www-form-urlencoded',
    'application/json',
    'text/plain',
    'nonsense',
    'a/b; c=',
  ]) {
    const name = `s${manager.servers.size}`
    t.match(
      await call('POST', `/servers/${name}`, body, { 'Content-Type': type }),
      { status: 200, text: 'null' },
      type,
    )
  }
  const head = `POST /servers/bare HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n`
  t.match(await raw(port, head + body), /^HTTP\/1\.1 200 OK\r\n/)
  t.ok(manager.servers.has('bare'))
})

t.test('only the first JSON value of a body counts', async (t) => {
  const { call } = await serving(t)
  const body = JSON.stringify(staticServer('127.0.0.1:0'))
  t.match(await call('POST', '/servers/a', `${body} {"bind": 1} and more`), { status: 200, text: 'null' })
  t.match(await call('POST', '/servers/b', ` ${body}${' '.repeat(70_000)}]`), { status: 200, text: 'null' })
})

t.test('a body that is not JSON gets 400 with line, column and excerpt', async (t) => {
  const { call, manager } = await serving(t)
  const said = async (body: string) => {
    const { status, headers, text } = await call('POST', '/servers/web', body)
    t.match({ status, type: headers.get('content-type') }, { status: 400, type: TEXT_TYPE })
    return JSON.parse(text)
  }
  t.equal(
    await said('{\n  "bind": ":1",\n  "balance" "weight"\n}'),
    'request body:3:13: expected ":", got "weight"\n      "balance" "weight"\n                ^',
  )
  t.equal(await said(''), 'request body:1:1: expected a value, got the end of the text')
  t.match(await said('{"bind": ":1"'), /^request body:1:14: expected ","/)
  t.equal(await said('[1]'), 'request body: expected an object, got [1]')
  t.equal(await said('null'), 'request body: expected an object, got null')
  t.match(await said('{"a": [' + '1,'.repeat(50_000)), /^request body: /, 'a long one without the walk')
  t.equal(manager.servers.size, 0)
})

t.test('a server that cannot be created gets 409 with every reason, and leaves nothing behind', async (t) => {
  const { call, manager } = await serving(t, { servers: { web: staticServer('127.0.0.1:0') } })
  const taken = manager.servers.get('web')!.addresses[0]!
  const said = async (name: string, input: unknown) => {
    const { status, headers, text } = await call('POST', `/servers/${name}`, input)
    t.match({ status, type: headers.get('content-type') }, { status: 409, type: JSON_TYPE })
    return JSON.parse(text) as string
  }
  const wrong = await said('new', {
    bind: 7,
    balance: 'robin',
    discovery: { kind: 'static', interval: '2 sec' },
  })
  for (const path of ['bind', 'balance', 'discovery.interval', 'discovery.static_list'])
    t.match(wrong, `servers.new.${path}: expected `)

  t.equal(await said('web', staticServer('127.0.0.1:0')), 'Server with this name already exists: web')
  t.match(
    await said('new', staticServer(taken)),
    `server new cannot listen on ${taken}: the address is already in use`,
  )
  t.match(await said('new', { ...staticServer('127.0.0.1:0'), sni: {} }), /server new needs the sni section/)

  t.same([...manager.servers.keys()], ['web'], 'running servers are untouched')
  t.match(
    await call('POST', '/servers/new', staticServer('127.0.0.1:0')),
    { status: 200 },
    'the name is free',
  )
})

t.test('unknown keys do not keep a server from being created', async (t) => {
  const { call } = await serving(t)
  const input = { ...staticServer('127.0.0.1:0'), colour: 'red', __proto__: { bind: 1 }, constructor: 3 }
  t.match(await call('POST', '/servers/web', input), { status: 200, text: 'null' })
  t.notMatch((await call('GET', '/servers/web')).text, /colour|constructor/)
})

t.test('the port of a deleted server can be taken by the very next request', async (t) => {
  const { call } = await serving(t)
  const input = staticServer(`127.0.0.1:${await freePort()}`)
  for (let turn = 0; turn < 5; turn++) {
    t.match(await call('POST', '/servers/web', input), { status: 200, text: 'null' })
    t.match(await call('DELETE', '/servers/web'), { status: 200, text: 'null' })
  }
  t.equal((await call('GET', '/servers/web')).text, 'null')
})

t.test('requests about a server there is none of get 200 and null', async (t) => {
  const { call } = await serving(t)
  for (const name of ['gone', '__proto__', 'constructor', 'toString', '%00', 'a%2Fb', 'x'.repeat(2000)])
    for (const [method, path] of [
      ['GET', ''],
      ['GET', '/stats'],
      ['DELETE', ''],
    ])
      t.match(
        await call(method!, `/servers/${name}${path}`),
        { status: 200, text: 'null' },
        `${method} ${name}${path}`,
      )
})

t.test('a name in a path is percent-decoded, and any name is safe', async (t) => {
  const { call, manager } = await serving(t)
  const names = ['a b', 'a/b', '__proto__', 'ü', '<x>&"', 'constructor', 'stats']
  for (const name of names)
    t.match(await call('POST', `/servers/${encodeURIComponent(name)}`, staticServer('127.0.0.1:0')), {
      status: 200,
    })
  t.same([...manager.servers.keys()], names)
  const { text } = await call('GET', '/servers')
  t.ok(text.includes('"\\u003cx\\u003e\\u0026\\"": {'), 'written as Go escapes it')
  t.match((await call('GET', '/servers/a%2Fb')).text, /"bind": "127\.0\.0\.1:0"/)
  t.match((await call('GET', '/dump?format=json')).text, /"__proto__": \{/)
})

t.test('the root tells what runs, its keys sorted', async (t) => {
  const { call } = await serving(t)
  const { text, headers } = await call('GET', '/')
  t.equal(headers.get('content-type'), JSON_TYPE)
  t.same(Object.keys(JSON.parse(text)), ['configuration', 'pid', 'startTime', 'time', 'uptime', 'version'])
  t.ok(
    text.startsWith(
      '{\n    "configuration": {\n        "kind": "file",\n        "path": "/etc/\\u003clb\\u003e.toml"\n    },\n',
    ),
  )
  const { pid, startTime, uptime, version } = JSON.parse(text)
  t.match({ pid, version }, { pid: process.pid, version: '9.8.7' })
  t.match(startTime, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?(Z|[+-]\d\d:\d\d)$/)
  t.match(uptime, /^(\d+m)?[\d.]+(ms|s)$/)
})

t.test('times are written as Go writes them', async (t) => {
  const zone = process.env.TZ
  t.teardown(() => (zone === undefined ? delete process.env.TZ : (process.env.TZ = zone)))
  process.env.TZ = 'UTC'
  t.equal(goTime(0), '1970-01-01T00:00:00Z')
  t.equal(goTime(1_250), '1970-01-01T00:00:01.25Z')
  process.env.TZ = 'Asia/Kolkata'
  t.equal(goTime(5), '1970-01-01T05:30:00.005+05:30')
  process.env.TZ = 'America/St_Johns'
  t.equal(goTime(1_700_000_000_000), '2023-11-14T18:43:20-03:30')
})

t.test(
  'a dump is the configuration with the servers that run, its secrets shown when asked for',
  async (t) => {
    const { call } = await serving(t, { api: ADMIN, logging: { level: 'warn' } })
    const headers = { Authorization: `Basic ${btoa('admin:a:b')}` }
    const dump = (query: string) => call('GET', `/dump${query}`, undefined, headers)
    await call('POST', '/servers/web', staticServer('127.0.0.1:0'), headers)
    const toml = await dump('')
    t.match({ status: toml.status, type: toml.headers.get('content-type') }, { status: 200, type: TEXT_TYPE })
    t.match(toml.text, /^level = "warn"$/m)
    t.match(toml.text, /^\[servers\.web\]$/m)
    t.notMatch(toml.text, /a:b/)
    t.match((await dump('?secrets=true')).text, /^password = "a:b"$/m)

    const json = await dump('?format=json')
    t.equal(json.headers.get('content-type'), TEXT_TYPE)
    t.match(JSON.parse(json.text), { logging: { level: 'warn' }, servers: { web: { bind: '127.0.0.1:0' } } })
    for (const format of ['yaml', '', '__proto__'])
      t.match(await dump(`?format=${format}`), { status: 500, text: `"Unknown format ${format}"` })
  },
)

t.test('discovery tells of each source what it said last, and what of that could not be used', async (t) => {
  const { call } = await serving(t)
  const list = { kind: 'static', static_list: ['127.0.0.1:1', 'junk'] }
  const missing = { kind: 'exec', exec_command: ['/nowhere/list'], interval: '1h' }
  const posted = { bind: '127.0.0.1:0', discovery: { kind: 'multi', sources: [list, missing] } }
  t.equal((await call('POST', '/servers/web', posted)).text, 'null')
  const discovery = async () => JSON.parse((await call('GET', '/servers/web/discovery')).text)
  await until(async () => (await discovery()).sources[1].failures === 1, 'the failure')
  const { kind, sources } = await discovery()
  t.equal(kind, 'multi')
  t.match(sources[0], {
    kind: 'static',
    source: 'static',
    push: 'none',
    last_success: /^\d{4}-/,
    last_error: null,
    failing: false,
    asks: 1,
    failures: 0,
    revision: 1,
    backends: 1,
    restored: false,
    stale: false,
    held: null,
    waiting: 0,
    rejected: [/^static_list\[1\]: expected/],
    last_change: {
      added: { count: 1, first: ['127.0.0.1:1'] },
      removed: { count: 0, first: [] },
      changed: { count: 0 },
    },
  })
  t.ok(sources[0].age_seconds >= 0)
  t.match(sources[1], {
    source: 'exec /nowhere/list',
    last_success: null,
    last_error: { message: 'cannot run /nowhere/list: no such file' },
    age_seconds: null,
    failing: true,
    last_change: null,
  })
  t.equal((await call('GET', '/servers/nobody/discovery')).text, 'null')
})

t.test('statistics count what went through, in the order of gobetween, then by reason', async (t) => {
  const port = await backend(t, 'eight by')
  const list = [`127.0.0.1:${port} weight=2 priority=1`, '[::1]:9 priority=7 max_connections=5']
  const healthcheck = { kind: 'ping', interval: '20ms', timeout: '1s' }
  const { call, manager } = await serving(t, {
    servers: {
      web: { ...staticServer('127.0.0.1:0', ...list), healthcheck },
      closed: { ...staticServer('127.0.0.1:0', ...list), access: { default: 'deny' } },
    },
  })
  const client = await dialled(portOf(manager, 'web'))
  client.end('four')
  await once(client.resume(), 'close')
  await once((await dialled(portOf(manager, 'closed'))).resume(), 'close')
  const stats = async (name: string) => JSON.parse((await call('GET', `/servers/${name}/stats`)).text)
  await until(
    async () => (await stats('web')).backends[1].last_check !== null,
    'a check of the second backend',
  )
  await until(async () => (await stats('web')).active_connections === 0, 'the end of the flow')

  const web = await stats('web')
  t.same(Object.keys(web), [
    ...['active_connections', 'rx_total', 'tx_total', 'rx_second', 'tx_second', 'backends'],
    ...['refusals', 'endings', 'queued'],
  ])
  t.match(web, { active_connections: 0, rx_total: 8, tx_total: 4, queued: 0 })
  const [first, second] = web.backends
  t.same(Object.keys(first), ['host', 'port', 'priority', 'weight', 'stats', 'last_check', 'drain'])
  t.same(Object.keys(first.stats), [
    ...['live', 'discovered', 'total_connections', 'active_connections', 'refused_connections'],
    ...['rx', 'tx', 'rx_second', 'tx_second'],
  ])
  t.match(first, { host: '127.0.0.1', port: String(port), priority: 1, weight: 2, drain: false })
  t.match(first.stats, {
    live: true,
    discovered: true,
    total_connections: 1,
    active_connections: 0,
    rx: 8,
    tx: 4,
  })
  t.match(first.last_check, { status: 'healthy', at: /^\d{4}-.*T/, reason: String, ms: Number })
  t.match(second, { host: '[::1]', port: '9', priority: 7, max_connections: 5 })
  // Without IPv6 the dial fails for want of an address here, which says nothing about the backend.
  t.match(second.stats, { live: Boolean(NO_IPV6) })
  t.match(second.last_check, { status: NO_IPV6 ? 'unknown' : 'unhealthy' })
  t.equal(
    Object.values<number>(web.endings).reduce((a, b) => a + b),
    1,
  )
  t.match((await stats('closed')).refusals, { access: 1, 'all-full': 0 })
  const { text } = await call('GET', '/servers/web/stats')
  t.ok(
    text.includes('\n    "backends": [\n        {\n            "host": "127.0.0.1",\n'),
    'indented like the rest',
  )
})

t.test('statistics of a server without backends hold an empty list', async (t) => {
  const { call } = await serving(t, { servers: { web: staticServer('127.0.0.1:0') } })
  t.match((await call('GET', '/servers/web/stats')).text, /"backends": \[\],\n/)
})

t.test('a password guards every route but ping and what is not there', async (t) => {
  const { call } = await serving(t, { api: ADMIN })
  const right = { Authorization: `Basic ${btoa('admin:a:b')}` }
  for (const path of ['/', '/dump', '/servers', '/servers/a', '/servers/a/stats', '/openapi.json']) {
    const refused = await call('GET', path)
    t.match(refused, { status: 401, text: '' })
    t.equal(refused.headers.get('www-authenticate'), 'Basic realm="Authorization Required"')
    t.equal((await call('GET', path, undefined, right)).status, 200)
  }
  t.equal((await call('POST', '/servers/a', staticServer('127.0.0.1:0'))).status, 401)
  t.equal((await call('DELETE', '/servers/a')).status, 401)
  t.match(await call('GET', '/ping'), { status: 200, text: 'OK' })
  t.match(await call('GET', '/nothing'), { status: 404, text: '404 page not found' })
  const wrong = ['admin:a', 'admin:', ':', '', 'admin:a:bc', 'Admin:a:b', 'admin:a:b\0']
  for (const pair of wrong)
    t.equal(
      (await call('GET', '/', undefined, { Authorization: `Basic ${btoa(pair)}` })).status,
      401,
      JSON.stringify(pair),
    )
  for (const header of [
    'Basic',
    'Basic ',
    'Bearer x',
    'Basic !!!!',
    `Basic ${'A'.repeat(9000)}`,
    'admin:a:b',
  ])
    t.equal((await call('GET', '/', undefined, { Authorization: header })).status, 401)
})

t.test('a path or method that is not there gets 404 and never 405', async (t) => {
  const { call } = await serving(t)
  for (const [method, path] of [
    ['GET', '/nope'],
    ['PUT', '/servers/a'],
    ['POST', '/servers'],
    ['OPTIONS', '/ping'],
    ['GET', '/servers/a/b'],
    ['GET', '//ping'],
  ]) {
    const { status, text, headers } = await call(method!, path!)
    t.match({ status, text }, { status: 404, text: '404 page not found' }, `${method} ${path}`)
    t.equal(headers.get('content-type'), TEXT_TYPE)
  }
  t.match(await call('HEAD', '/servers'), { status: 200, text: '' })
})

t.test('a slash too many is redirected', async (t) => {
  const { call, manager } = await serving(t, { api: ADMIN })
  const to = async (method: string, path: string) => {
    const { status, headers } = await call(method, path)
    return [status, headers.get('location')]
  }
  t.same(await to('GET', '/servers/'), [301, '/servers'])
  t.same(await to('GET', '/dump/?format=json'), [301, '/dump?format=json'])
  t.same(await to('DELETE', '/servers/a/'), [307, '/servers/a'])
  t.same(await to('GET', '/nope/'), [404, null])
  t.same(await to('GET', '//evil.example/'), [404, null])
  t.equal(manager.servers.size, 0)
})

t.test(
  'pages of other origins may call where cors is true, with a preflight that needs no password',
  async (t) => {
    const { call, port } = await serving(t, { api: { ...ADMIN, cors: true } })
    const page = { Origin: 'http://ui.example' }
    const preflight = await call('OPTIONS', '/servers/web', undefined, page)
    t.match(preflight, { status: 204, text: '' })
    const headers = (answer: Answer) =>
      Object.fromEntries([...answer.headers].filter(([name]) => name.startsWith('access-')))
    t.same(headers(preflight), {
      'access-control-allow-origin': '*',
      'access-control-allow-credentials': 'true',
      'access-control-allow-methods': 'PUT,POST,DELETE,GET,OPTIONS',
      'access-control-allow-headers': 'Origin,Authorization,Content-Type',
      'access-control-max-age': '43200',
    })
    const both = { 'access-control-allow-origin': '*', 'access-control-allow-credentials': 'true' }
    t.same(headers(await call('GET', '/ping', undefined, page)), both)
    t.same(
      headers(await call('GET', '/', undefined, page)),
      both,
      'a page may read that the password is wrong',
    )
    t.same(headers(await call('GET', '/ping')), {})
    t.same(
      headers(await call('GET', '/ping', undefined, { Origin: `http://127.0.0.1:${port}` })),
      {},
      'its own origin',
    )
    const without = await serving(t)
    t.same(headers(await without.call('GET', '/ping', undefined, page)), {})
    t.equal((await without.call('OPTIONS', '/servers/web', undefined, page)).status, 404)
  },
)

t.test('OpenAPI describes every route and what a server takes', async (t) => {
  const { call } = await serving(t)
  const { paths, openapi, info } = JSON.parse((await call('GET', '/openapi.json')).text)
  t.match({ openapi, info }, { openapi: '3.1.0', info: { version: '9.8.7' } })
  const routes = Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods as object).map((each) => `${each} ${path}`),
  )
  t.same(routes.sort(), [
    ...['delete /servers/{name}', 'get /', 'get /dump', 'get /ping', 'get /servers', 'get /servers/{name}'],
    ...['get /servers/{name}/discovery', 'get /servers/{name}/stats', 'post /servers/{name}'],
  ])
  const { schema } = paths['/servers/{name}'].post.requestBody.content['application/json']
  t.match(schema.properties, {
    bind: {},
    discovery: {},
    healthcheck: {},
    max_connections: { description: String },
  })
  t.match(
    paths['/servers/{name}/stats'].get.responses['200'].content['application/json'].schema.oneOf[0].properties
      .backends.type,
    'array',
  )
})

t.test(
  'the API speaks HTTPS with its own certificate',
  { skip: hasOpenssl() ? false : 'openssl is not installed' },
  async (t) => {
    const dir = t.testdir()
    const [key_path, cert_path] = [join(dir, 'key.pem'), join(dir, 'cert.pem')]
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost']
    const request = [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-days',
      '2',
    ]
    execFileSync('openssl', [...request, '-keyout', key_path, '-out', cert_path, ...subject], {
      stdio: 'ignore',
    })
    const { port, api } = await serving(t, { api: { tls: { cert_path, key_path } } })
    const answer = await new Promise<string>((resolve, reject) =>
      secureRequest({ port, host: '127.0.0.1', path: '/ping', rejectUnauthorized: false }, (response) => {
        response.on('data', (chunk: Buffer) => resolve(chunk.toString()))
      })
        .on('error', reject)
        .end(),
    )
    t.equal(answer, 'OK')
    const silent = await dialled(port)
    const hung = once(silent.resume(), 'close')
    await api.close()
    await hung
    t.pass('closing does not wait for a handshake that never comes')

    writeFileSync(cert_path, 'not a certificate')
    const manager = await running(t)
    await t.rejects(startApi(settingsOf({ tls: { cert_path, key_path } }), manager, ABOUT), {
      code: 'CONFIG_INVALID',
      message: /api\.tls: expected a certificate and its key in PEM, got /,
    })
  },
)

t.test('certificate files that cannot be read are all named', async (t) => {
  const manager = await running(t)
  const tls = { cert_path: '/nowhere/cert.pem', key_path: '/nowhere/key.pem' }
  await t.rejects(startApi(settingsOf({ tls }), manager, ABOUT), {
    code: 'CONFIG_INVALID',
    message: /api\.tls\.cert_path: expected a file that can be read.*\n.*api\.tls\.key_path: /,
  })
})

t.test('the API listens on a unix socket, on a stale one too', async (t) => {
  const manager = await running(t)
  const path = join(folder(t), 'api.sock')
  const leave = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 9))`
  spawnSync(process.execPath, ['-e', leave])
  const api = await startApi(settingsOf({ bind: `unix:${path}` }), manager, ABOUT)
  t.teardown(() => api.close())
  t.same(api.addresses, [`unix:${path}`])
  const status = await new Promise((resolve) =>
    plainRequest({ socketPath: path, path: '/ping' }, (r) => resolve(r.resume().statusCode)).end(),
  )
  t.equal(status, 200)
})

t.test('an address that is taken is an error that names it', async (t) => {
  const { manager, api } = await serving(t)
  const [bind] = api.addresses
  await t.rejects(startApi(settingsOf({ bind }), manager, ABOUT), {
    code: 'BIND_FAILED',
    message: `the REST API cannot listen on ${bind}: listen EADDRINUSE`,
  })
})

t.test('nothing a caller sends keeps the API from answering the next one', async (t) => {
  const { call, port, manager } = await serving(t)
  const alive = async () => t.match(await call('GET', '/ping'), { status: 200, text: 'OK' })
  t.match(await call('GET', '/servers/%zz'), { status: 400 })
  t.match(await call('POST', '/servers/%', '{}'), { status: 400 })
  await alive()
  t.equal(
    (await call('POST', '/servers/big', `"${'a'.repeat(5 << 20)}"`).catch(() => ({ status: 413 }))).status,
    413,
  )
  await alive()
  for (const deep of [
    '['.repeat(1 << 20),
    '{"a":'.repeat(200_000),
    `{"bind":${'['.repeat(1 << 19)}${']'.repeat(1 << 19)}}`,
  ])
    t.match((await call('POST', '/servers/deep', deep)).status, /400|409/)
  await alive()
  for (const garbage of [
    '\0\0\0\0\r\n\r\n',
    'GET\r\n\r\n',
    'GET / HTTP/9.9\r\n\r\n',
    `GET /${'x'.repeat(20_000)} HTTP/1.1\r\n\r\n`,
    'POST /servers/a HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n',
  ])
    t.match(await raw(port, garbage), /^(HTTP\/1\.1 4\d\d |$)/)
  await alive()
  await fc.assert(
    fc.asyncProperty(fc.oneof(fc.json(), fc.string({ unit: 'binary' })), fc.webPath(), async (body, path) => {
      const { status } = await call('POST', `/servers/fuzz${path}`, body)
      return [200, 307, 400, 404, 409].includes(status)
    }),
    { numRuns: 100 },
  )
  await alive()
  t.equal(manager.servers.size, 0)
})

t.test('callers who say half a request hold up neither others nor the end', async (t) => {
  const { call, port, api } = await serving(t)
  const slow = await Promise.all(Array.from({ length: 20 }, () => dialled(port)))
  for (const socket of slow)
    socket.write('POST /servers/a HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"bind"')
  t.match(await call('GET', '/ping'), { status: 200, text: 'OK' })
  const ended = Promise.all(slow.map((socket) => once(socket.resume(), 'close')))
  const began = performance.now()
  await api.close()
  await api.close()
  await ended
  t.ok(performance.now() - began < 10_000, 'a request may take 30 s, the end does not wait for it')
})

t.test(
  'callers beyond the most there may be are turned away, and there is room again when they leave',
  async (t) => {
    const { call, port } = await serving(t)
    const sockets = await Promise.all(Array.from({ length: 300 }, () => dialled(port)))
    const gone = new Set<Socket>()
    for (const socket of sockets) socket.on('close', () => gone.add(socket)).resume()
    await until(() => gone.size === 300 - 256, 'those beyond 256 to be closed')
    for (const socket of sockets) socket.destroy()
    await until(async () => (await call('GET', '/ping').catch(() => undefined))?.status === 200, 'an answer')
  },
)

function hasOpenssl(): boolean {
  try {
    execFileSync('openssl', ['version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

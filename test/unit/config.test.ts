// Reading a configuration: its sources, its text, and what is said of it.

import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { dump, serverObject } from '../../src/config/encode.ts'
import { substitute } from '../../src/config/environment.ts'
import { jsonFault } from '../../src/config/json.ts'
import { nearest } from '../../src/config/nearest.ts'
import { parseText } from '../../src/config/parse.ts'
import { readDocument, readServer } from '../../src/config/read.ts'
import { loadConfig } from '../../src/config/source.ts'
import type { Origin } from '../../src/config/source.ts'
import { ConfigError } from '../../src/core/errors.ts'

const web = { bind: ':3000', discovery: { kind: 'static', static_list: ['h:1'] } }
const MINIMAL = '[servers.web]\nbind = ":3000"\ndiscovery = { kind = "static", static_list = ["h:1"] }\n'

function problems(input: unknown, options = {}): string[] {
  try {
    readDocument(input, 'test', options)
    return []
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return error.problems.map(({ path, message }) => `${path}: ${message}`)
  }
}

const warnings = (input: unknown) =>
  readDocument(input, 'test').warnings.map(({ path, message }) => `${path}: ${message}`)
const settings = (server: object, defaults: object = {}) =>
  readDocument({ defaults, servers: { web: { ...web, ...server } } }, 'test').config.servers.get('web')!
    .settings

function syntaxError(text: string): string {
  try {
    parseText(text, 'toml', 'test.toml')
  } catch (error) {
    if (error instanceof ConfigError) return error.message
  }
  return 'no error'
}

/** A web server that answers by `handler`; its `host:port`. */
async function serve(
  t: { teardown(done: () => void): void },
  handler: (request: IncomingMessage, response: ServerResponse) => void,
) {
  const server = createServer(handler).listen(0, '127.0.0.1')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  await once(server, 'listening')
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}

const load = (origin: Origin, environment = {}, substitute = false) =>
  loadConfig({ origin, substitute }, {}, environment)

t.test('a dial timeout nobody wrote is told apart from one of "0"', async (t) => {
  t.equal(settings({}).backend_connection_timeout, undefined)
  t.equal(settings({ backend_connection_timeout: '0' }).backend_connection_timeout, 0)
  t.equal(settings({}, { backend_connection_timeout: '0' }).backend_connection_timeout, 0)
  const { server } = readServer('web', web, {})
  t.equal(serverObject(server).backend_connection_timeout, '0')
  t.notMatch(dump({ written: {}, defaults: {} }, [server], 'toml'), 'backend_connection_timeout')
})

t.test('what a server writes wins over the defaults', async (t) => {
  const { max_connections, redispatch, queue_timeout } = settings(
    { redispatch: 0 },
    { max_connections: '7', redispatch: 9 },
  )
  t.same(
    { max_connections, redispatch, queue_timeout },
    { max_connections: 7, redispatch: 0, queue_timeout: 0 },
  )
})

t.test('a wrong default is told once, however many servers there are', async (t) => {
  t.same(problems({ defaults: { client_idle_timeout: '50' }, servers: { a: web, b: web } }), [
    'defaults.client_idle_timeout: expected a duration such as "2s", got "50"',
  ])
})

t.test('an idle timeout under the defaults counts for udp, and none is needed', async (t) => {
  const udp = { ...web, protocol: 'udp' }
  t.same(problems({ servers: { udp } }), [])
  const { config } = readDocument({ defaults: { backend_idle_timeout: '5s' }, servers: { udp } }, 'test')
  t.match(config.servers.get('udp')!.settings, { client_idle_timeout: 60_000, backend_idle_timeout: 5_000 })
})

t.test('a udp section where clients send no datagrams is said to have no effect', async (t) => {
  const servers = { a: { ...web, UDP: { max_requests: 1 } }, b: { ...web, protocol: 'udp', udp: {} } }
  const said = ['servers.a.udp: has no effect: protocol is "tcp"']
  t.same(warnings({ servers }), said)
  t.same(problems({ servers }, { strict: true }), said)
})

t.test('udp sessions that nobody limits in time idle for a minute', async (t) => {
  const { client_idle_timeout, backend_idle_timeout, on_backend_loss } = settings({
    protocol: 'udp',
    client_idle_timeout: '5s',
  })
  t.same([client_idle_timeout, backend_idle_timeout, on_backend_loss], [5000, 60_000, 'move'])
})

t.test('names of the JavaScript prototype are ordinary names', async (t) => {
  const document = JSON.parse(
    `{"servers": {"__proto__": ${JSON.stringify(web)}, "constructor": ${JSON.stringify(web)}}, "toString": 1, "__proto__": 2}`,
  )
  const { config } = readDocument(document, 'test')
  t.same([...config.servers.keys()], ['__proto__', 'constructor'])
  t.same(warnings(document), ['toString: is not a known setting', '__proto__: is not a known setting'])
  const again = readDocument(JSON.parse(dump(config, config.servers.values(), 'json')), 'dump')
  t.same([...again.config.servers.keys()], ['__proto__', 'constructor'])
  for (const kind of ['__proto__', 'constructor', 'toString']) {
    t.match(problems({ servers: { a: { ...web, discovery: { kind } } } }), [
      /discovery.kind: expected one of/,
    ])
    t.match(problems({ servers: { a: { ...web, balance: kind } } }), [/balance: expected one of/])
  }
})

t.test('a secret is never shown, whatever is wrong with it', async (t) => {
  const secret = 'hunter2'
  const shown = [
    ...problems({ api: { basic_auth: { login: [secret], password: [secret] } } }),
    ...problems({ api: [{ password: secret }] }),
    ...problems({ servers: { a: { ...web, discovery: { kind: 'consul', consul_acl_token: [secret] } } } }),
  ].join('\n')
  t.match(shown, /password: expected a string, got a value that is not shown/)
  t.notMatch(shown, secret)
  t.notMatch(syntaxError(`password = "${secret}`), secret)
  const { config } = readDocument(
    { api: { basic_auth: { login: secret, password: secret } }, servers: { login: web } },
    'x',
  )
  const dumped = dump(config, config.servers.values(), 'json')
  t.notMatch(dumped, secret)
  t.equal(JSON.parse(dumped).servers.login.bind, ':3000')
})

t.test('unknown keys are warnings, and problems when strict', async (t) => {
  const document = { servers: { web: { ...web, blance: 'weight' } } }
  const message = 'servers.web.blance: is not a known setting; did you mean balance?'
  t.same(warnings(document), [message])
  t.same(problems(document, { strict: true }), [message])
})

t.test('keys match in any case, and the exact spelling wins', async (t) => {
  const input = {
    Servers: {
      web: { BIND: ':1', bind: ':2', Balance: 'nq', discovery: { Kind: 'static', STATIC_LIST: [] } },
    },
  }
  const { config, warnings } = readDocument(input, 'test')
  const { bind, balance } = config.servers.get('web')!.settings
  t.same({ bind, balance }, { bind: [{ host: '', port: 2 }], balance: 'nq' })
  t.same(
    warnings.map(({ path }) => path),
    ['servers.web.BIND'],
  )
})

t.test('null is the same as nothing', async (t) => {
  t.same(settings({ max_connections: null, sni: null, healthcheck: null }), settings({}))
  t.match(problems({ servers: { web: null } }), ['servers.web: expected a table, got null'])
  t.same(problems({ servers: null, api: null }), [])
})

t.test('a udp server without a udp section shows one', async (t) => {
  const { server } = readServer('dns', { ...web, protocol: 'udp', client_idle_timeout: '1s' }, {})
  t.same(serverObject(server).udp, { max_requests: 0, max_responses: 0, transparent: false })
  t.match(serverObject(server), { client_idle_timeout: '1s', backend_idle_timeout: '1m' })
})

t.test('of the keys of udp that gobetween has not, those are shown that were written', async (t) => {
  const udp = { session_key: 'ip', max_requests: 1 }
  const { server } = readServer('dns', { ...web, protocol: 'udp', udp }, {})
  const shown = { max_requests: 1, max_responses: 0, transparent: false, session_key: 'ip' }
  t.same(serverObject(server).udp, shown)
  t.match(server.settings.udp, { ...shown, max_sessions: 65_536, receive_buffer: 4 << 20 })
  t.equal(serverObject(readServer('web', web, {}).server).udp, null)
})

t.test('what goes with datagrams only, and what does not go with them', async (t) => {
  const udp = { ...web, protocol: 'udp', balance: 'maglev' }
  const quic = { ...web, balance: 'maglev', hash_key: 'quic-connection-id' }
  t.same(problems({ servers: { quic: { ...quic, protocol: 'udp' } } }), [])
  t.match(problems({ servers: { quic } }), [
    'servers.quic.hash_key: expected client or prefix, since protocol is tcp, got "quic-connection-id"',
  ])
  t.match(problems({ servers: { udp: { ...udp, bind: [':53', 'unix:/run/dns.sock'] } } }), [
    /^servers\.udp\.bind: expected no unix socket, since protocol is udp/,
  ])
  t.match(problems({ servers: { udp: { ...udp, udp: { max_sessions: 0, receive_buffer: 2 ** 31 } } } }), [
    'servers.udp.udp.max_sessions: expected a whole number, 1 or more, got 0',
    /^servers\.udp\.udp\.receive_buffer: expected a whole number, 0 to /,
  ])
})

t.test('what is no document is told as such', async (t) => {
  for (const input of [[], 'text', 7, null]) t.match(problems(input), [/^: expected a table, got /])
  t.match(problems({ servers: [] }), ['servers: expected a table, got []'])
  let deep: unknown = 1
  for (let i = 0; i < 20_000; i++) deep = [deep]
  t.match(problems({ servers: { web: { ...web, bind: deep } } }), [/bind: expected an address .*too deep/])
})

t.test('nothing a document holds makes reading fail in any other way', async (t) => {
  const value = fc.anything({ withNullPrototype: true, withDate: true })
  const keys = [
    'bind',
    'protocol',
    'balance',
    'discovery',
    'healthcheck',
    'access',
    'tls',
    'udp',
    'sni',
    'hash_key',
  ]
  const server = fc.record(Object.fromEntries(keys.map((key) => [key, value])), { requiredKeys: [] })
  fc.assert(
    fc.property(
      value,
      server,
      (anything, web) => void problems({ servers: { web }, logging: anything, api: anything }),
    ),
  )
  fc.assert(fc.property(value, (anything) => void problems(anything)))
  t.pass('only ConfigError')
})

t.test('500 servers and a list of 10,000 backends are read in one go', async (t) => {
  const static_list = Array.from({ length: 10_000 }, (_, i) => `10.0.0.1:${i + 1}`)
  const servers = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`s${i}`, web]))
  const began = performance.now()
  readDocument(
    { servers: { ...servers, big: { ...web, discovery: { kind: 'static', static_list } } } },
    'test',
  )
  t.ok(performance.now() - began < 30_000, 'some 0.1 s where nothing else runs')
})

t.test('a document made to be slow is refused or read soon all the same', async (t) => {
  const began = performance.now()
  const bind = Array.from({ length: 50_000 }, () => ':0-65535')
  t.match(problems({ servers: { web: { ...web, bind } } }), [
    'servers.web.bind[1]: expected at most 65536 addresses in all, got ":0-65535"',
  ])
  const strays = Object.fromEntries(Array.from({ length: 50_000 }, (_, i) => [`client_idle_timeou${i}`, 1]))
  t.equal(warnings({ servers: { web: { ...web, ...strays } } }).length, 50_000)
  const static_list = Array.from({ length: 100_000 }, () => 1)
  const told = problems({ servers: { web: { ...web, discovery: { kind: 'static', static_list } } } })
  t.same([told.length, told.at(-1)], [1001, 'servers.web: 99000 more problems'])
  t.ok(performance.now() - began < 30_000, 'some 0.8 s where nothing else runs')
})

t.test('JSON is found to be wrong exactly where and when JSON.parse finds it so', async (t) => {
  const pieces = fc.constantFrom(
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '"a"',
    '"',
    '1',
    '-',
    '0',
    '.5',
    'true',
    'nul',
    ' ',
    '\n',
    '\\',
    'x',
  )
  fc.assert(
    fc.property(
      fc.oneof(
        fc.json(),
        fc.array(pieces).map((all) => all.join('')),
      ),
      (text) => {
        const valid = isJson(text)
        t.equal(jsonFault(text) === undefined, valid, JSON.stringify(text))
      },
    ),
    { numRuns: 500 },
  )
  t.equal(jsonFault('{"a": 1 "b": 2}')?.at, 8)
  t.equal(jsonFault('{"a": 1,}')?.at, 8)
  t.equal(jsonFault('[1, 2')?.at, 5)
})

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

t.test('a syntax error says file, line and column and shows the line', async (t) => {
  t.throws(() => parseText('[a]\nb = = 3\n', 'toml', 'f.toml'), {
    message: /f\.toml:2:5: unexpected "="\n {4}b = = 3\n {8}\^/,
  })
  t.throws(() => parseText('a = 1\na = 2', 'toml', 'f.toml'), {
    message: /f\.toml:2:1: cannot redefine existing key 'a'\n/,
  })
  t.throws(() => parseText('{\n\t"a": tru}', 'json', 'f.json'), {
    message: /f\.json:2:7: expected a value, got "tru"\n/,
  })
  t.throws(() => parseText('', 'json', 'f.json'), {
    message: /f\.json:1:1: expected a value, got the end of the text/,
  })
  t.throws(() => parseText('a = '.padEnd(20_000, '['), 'toml', 'f.toml'), ConfigError)
})

t.test('the nearest word is one a slip of the finger away', async (t) => {
  const words = ['interval', 'timeout', 'kind', 'bind', 'balance']
  t.same(
    ['intervall', 'tiemout', 'kidn', 'ballance', 'INTERVAL'].map((word) => nearest(word, words)),
    ['interval', 'timeout', 'kind', 'balance', 'interval'],
  )
  t.equal(nearest('weight', words), undefined)
})

t.test('variables are replaced by their values, defaults or nothing', async (t) => {
  const text =
    'a = "${HOST}" b = "${NONE}" c = "${NONE:-x:-y}" d = "${EMPTY:-z}" e = "${__proto__}" f = "$HOST"'
  t.equal(
    substitute(text, { HOST: '$&h', EMPTY: '' }),
    'a = "$&h" b = "" c = "x:-y" d = "z" e = "" f = "$HOST"',
  )
})

t.test('a file is read by the format of its name unless told otherwise', async (t) => {
  const folder = t.testdir({
    'a.toml': MINIMAL,
    'b.json': JSON.stringify({ servers: { web } }),
    c: MINIMAL,
    'd.conf': '{}',
  })
  for (const name of ['a.toml', 'b.json', 'c']) {
    const { config } = await load({ kind: 'file', path: join(folder, name) })
    t.ok(config.servers.has('web'), name)
  }
  const path = join(folder, 'd.conf')
  t.rejects(load({ kind: 'file', path }), ConfigError)
  t.resolves(loadConfig({ origin: { kind: 'file', path }, format: 'json', substitute: false }))
  t.rejects(load({ kind: 'file', path: join(folder, 'none') }), {
    message: /none has 1 problem\n {2}cannot be read: ENOENT/,
  })
})

t.test('variables are replaced only when asked', async (t) => {
  const path = join(t.testdir({ 'a.toml': MINIMAL.replace('3000', '${PORT:-4000}') }), 'a.toml')
  const { config } = await load({ kind: 'file', path }, {}, true)
  t.same(config.servers.get('web')?.settings.bind, [{ host: '', port: 4000 }])
  await t.rejects(load({ kind: 'file', path }), { message: /servers.web.bind: expected an address/ })
})

t.test('a URL is read through redirects, and an error status is an error', async (t) => {
  const host = await serve(t, ({ url }, response) => {
    if (url === '/moved') response.writeHead(302, { location: '/f.json' }).end()
    else if (url === '/f.json') response.end(JSON.stringify({ servers: { web } }))
    else if (url === '/loop') response.writeHead(302, { location: '/loop' }).end()
    else response.writeHead(404).end(MINIMAL)
  })
  const at = (path: string): Origin => ({ kind: 'url', url: `http://user:hunter2@${host}/${path}` })
  t.ok((await load(at('f.json'))).config.servers.has('web'))
  t.ok(
    (await loadConfig({ origin: at('moved'), format: 'json', substitute: false })).config.servers.has('web'),
  )
  await t.rejects(load(at('none')), { message: /cannot be read: the server answered 404/ })
  await t.rejects(load(at('loop')), { message: /too many redirects/ })
  const failed = await load(at('none')).catch((error: Error) => error.message)
  t.notMatch(failed, 'hunter2')
  await t.rejects(load({ kind: 'url', url: 'file:///etc/passwd' }), { message: /http:\/\/ or https:\/\// })
  await t.rejects(load({ kind: 'url', url: 'nonsense' }), { message: /expected an address such as/ })
})

t.test('a key of Consul is asked for with what the environment says', async (t) => {
  const asked: IncomingMessage[] = []
  const host = await serve(t, (request, response) => {
    asked.push(request)
    const path = new URL(request.url!, 'http://x').pathname
    if (path === '/v1/kv/lb/front%20end') response.end(MINIMAL)
    else response.writeHead(path.endsWith('secret') ? 403 : 404).end()
  })
  const at = (key: string): Origin => ({ kind: 'consul', host, key })
  const file = join(t.testdir({ token: 'from-file\n' }), 'token')
  t.ok(
    (await load(at('lb/front end'), { CONSUL_HTTP_TOKEN: 't', CONSUL_NAMESPACE: 'n' })).config.servers.has(
      'web',
    ),
  )
  await load(at('lb/front end'), { CONSUL_HTTP_TOKEN_FILE: file, CONSUL_HTTP_AUTH: 'u:p' })
  t.equal(asked[0]?.headers['x-consul-token'], 't')
  t.match(asked[0]?.url, /\?raw=&ns=n$/)
  t.equal(asked[1]?.headers['x-consul-token'], 'from-file')
  t.equal(asked[1]?.headers.authorization, `Basic ${Buffer.from('u:p').toString('base64')}`)
  await t.rejects(load(at('gobetween')), { message: /key "gobetween" does not exist/ })
  await t.rejects(load(at('secret')), { message: /is CONSUL_HTTP_TOKEN set\?/ })
  await t.rejects(load(at('x'), { CONSUL_HTTP_SSL: 'true' }), { message: /cannot be read/ })
})

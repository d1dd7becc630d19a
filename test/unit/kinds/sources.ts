// What sources may do to the balancer: nothing. Documents, files and programs of every shape and size.

import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { readDocument } from '../../../src/config/read.ts'
import { addressText } from '../../../src/core/address.ts'
import { realClock } from '../../../src/core/clock.ts'
import { configureLogging } from '../../../src/core/log.ts'
import { Blocks } from '../../../src/discovery/reading/blocks.ts'
import type { Answer, Discovery } from '../../../src/discovery/discovery.ts'
import { elementsOf } from '../../../src/discovery/reading/jsonlist.ts'
import { parsePath, valueAt } from '../../../src/discovery/reading/paths.ts'
import { sourceSettings } from '../../../src/discovery/settings.ts'
import { createDiscovery, Sources } from '../../../src/discovery/sources.ts'
import type { Listed } from '../../../src/discovery/roster.ts'
import { documents, pouring, saying } from '../../support/documents.ts'
import { folder } from '../../support/folder.ts'
import { hasEnded, script } from '../../support/scripts.ts'
import { until } from '../../support/until.ts'

configureLogging({ level: 'panic', output: 'stderr', format: 'text' })

const settingsOf = (section: object) => sourceSettings.parse(section)

function made(section: object): Discovery {
  return createDiscovery(settingsOf(section), { clock: realClock, transport: 'tcp' })
}

const ask = (section: object, signal = new AbortController().signal) => made(section).ask(signal)

function lines({ backends }: Answer): string[] {
  return backends.map(({ address, weight, priority, maxConnections, sni, drain }) =>
    [addressText(address), weight, priority, maxConnections, sni || '-', drain ? 'drain' : '']
      .join(' ')
      .trim(),
  )
}

/**
 * The most work that was done between two turns of a timer while `work` went on, in milliseconds of processor time: a
 * busy machine does not count.
 */
async function stall(work: Promise<unknown>): Promise<number> {
  let longest = 0
  let before = process.cpuUsage()
  const turn = () => {
    const { user, system } = process.cpuUsage(before)
    longest = Math.max(longest, (user + system) / 1000)
    before = process.cpuUsage()
  }
  const timer = setInterval(turn, 1)
  await work.catch(() => {})
  clearInterval(timer)
  turn()
  return longest
}

const served = async (t: Test, body: string | Buffer, more: object = {}) => {
  const { origin } = await documents(t, saying(200, body))
  return { kind: 'json', json_endpoint: `${origin}/`, ...more }
}

t.test('json: a path is dots, places and quoted names', async (t) => {
  t.same(parsePath(''), [])
  t.same(parsePath('host'), ['host'])
  t.same(parsePath('meta.addresses.[0]'), ['meta', 'addresses', 0])
  t.same(parsePath('ports[1].number'), ['ports', 1, 'number'])
  t.same(parsePath('labels."fairlead.weight"'), ['labels', 'fairlead.weight'])
  t.same(parsePath("'a.b'.c"), ['a.b', 'c'])
  for (const wrong of ['.', 'a.', '.a', 'a..b', '[x]', '[-1]', 'a"b"', '"a', 'a]'])
    t.equal(parsePath(wrong), undefined, wrong)
  t.equal(valueAt({ a: [{ b: 1 }] }, ['a', 0, 'b']), 1)
  for (const path of [
    ['constructor'],
    ['a', 'length'],
    ['a', '0'],
    ['a', 7],
    ['b', 'c'],
    ['toString', 'name'],
  ])
    t.equal(valueAt({ a: [1], b: null }, path), undefined, path.join('.'))
})

t.test('json: the list of a document is found wherever it stands, byte by byte', async (t) => {
  const all = (text: string, path = '') =>
    [...elementsOf(Buffer.from(text), parsePath(path)!)].flatMap((each) => (each ? [each.toString()] : []))
  t.same(all('[]'), [])
  t.same(all('\ufeff [ 1 , "]," , [ { } ] , {"a":"\\"]"} , true ] \n'), [
    ...['1', '"],"', '[ { } ]', '{"a":"\\"]"}', 'true'],
  ])
  t.same(all('{"x": [1, {"tasks": [0]}], "tasks": [2, 3], "y": {}}', 'tasks'), ['2', '3'])
  t.same(all('{"a": [[], [{"b": [7]}]]}', 'a.[1].[0].b'), ['7'])
  t.same(all('{"\\u0061": [7]}', 'a'), ['7'])
  for (const [text, path, message] of [
    ['{"tasks": null}', 'tasks', /a list at "tasks" at byte 11 of the JSON, got "null}"/],
    ['{"x": []}', 'tasks', /expected a list at "tasks", got nothing there/],
    ['[]', 'tasks', /got nothing there/],
    ['{"a": [1]}', 'a.[1]', /got nothing there/],
    ['{"a" [1]}', 'a', /expected ":"/],
    ['{a: [1]}', 'a', /expected the name of a field/],
    ['{"a": [1]', 'a', /cut short/],
    ['[1 2]', '', /expected ","/],
    ['[,1]', '', /expected a value/],
    ['["\\', '', /cut short/],
  ] as const)
    t.throws(() => all(text, path), { message }, text)
})

t.test('json: the tasks of Marathon', async (t) => {
  const tasks = [
    { id: 'web.1', host: '10.0.3.51', ports: [31045, 31046], labels: { 'fairlead.weight': '5' } },
    { id: 'web.2', host: '10.0.3.52', ports: [31999], drain: true },
    { id: 'web.3', host: 'fd00::3', ports: [] },
    { id: 'web.4', ports: [31000] },
  ]
  const patterns = {
    json_items_pattern: 'tasks',
    json_port_pattern: 'ports.[0]',
    json_weight_pattern: 'labels."fairlead.weight"',
  }
  const answer = await ask(await served(t, JSON.stringify({ tasks }), patterns))
  t.same(lines(answer), ['10.0.3.51:31045 5 1 0 -', '10.0.3.52:31999 1 1 0 - drain'])
  t.same(answer.rejected, [
    'tasks[2]: expected a port at "ports.[0]", got nothing',
    'tasks[3]: expected a host at "host", got nothing',
  ])
})

t.test('json: Mesos-DNS says that nobody is there by one element that is empty', async (t) => {
  const patterns = { json_host_pattern: 'ip' }
  const nobody = [{ service: '', host: '', ip: '', port: '' }]
  t.match(await ask(await served(t, JSON.stringify(nobody), patterns)), { backends: [], rejected: [] })
  const one = [{ service: '_nginx._tcp.marathon.mesos', host: 'nginx-s1.', ip: '10.0.3.51', port: '31045' }]
  t.same(lines(await ask(await served(t, JSON.stringify(one), patterns))), ['10.0.3.51:31045 1 1 0 -'])
})

t.test('json: settings as gobetween took them, and what is wrong of one costs only that', async (t) => {
  const elements = [
    { host: 'a', port: 80, weight: 2.9, priority: 0, max_connections: 10, sni: 'x', drain: false },
    { host: '::1', port: '80', weight: null, sni: '' },
    { host: 'c', port: 80, weight: -1, priority: 'high', sni: ['y'], drain: 'no' },
    { host: 'a', port: 80, sni: 'x', weight: 7 },
    ...[
      { host: 'd', port: 0 },
      { host: 'd', port: 65536 },
      { host: 'd e', port: 1 },
      { host: '', port: 1 },
    ],
    ...[null, 7, [], { host: 'f', port: [80] }],
  ]
  const { backends, rejected } = await ask(await served(t, JSON.stringify(elements)))
  t.same(lines({ backends }), ['a:80 7 1 0 x', '[::1]:80 1 1 0 -', 'c:80 1 1 0 -'])
  t.match(rejected, [
    '[2]: expected a whole number, 0 to 2147483647 at "weight", got -1',
    '[2]: expected a whole number, 0 to 2147483647 at "priority", got "high"',
    '[2]: expected a name at "sni", got a list',
    '[2]: expected true or false at "drain", got "no"',
    '[4]: expected a port at "port", got 0',
    '[5]: expected a port at "port", got 65536',
    '[6]: expected a host at "host", got "d e"',
    '[7]: expected a host at "host", got ""',
    ...['[8]:', '[9]:', '[10]:'].map((place) => new RegExp(`^\\${place.slice(0, -2)}\\]: expected a host`)),
    '[11]: expected a port at "port", got a list',
  ])
})

t.test('json: credentials go where they belong and nowhere else, and are not told', async (t) => {
  const other = await documents(t, saying(200, '[]'))
  const { origin, asked } = await documents(t, (request, response) => {
    if (request.url!.startsWith('/list')) return saying(302, '', { location: '/moved' })(request, response)
    saying(302, '', { location: `${other.origin}/there` })(request, response)
  })
  const section = {
    kind: 'json',
    json_endpoint: `${origin.replace('//', '//joe:pa%24s@')}/list?token=t0p`,
    json_headers: { 'X-Key': 's3cret' },
  }
  await ask(section)
  const basic = `Basic ${btoa('joe:pa$s')}`
  for (const { headers } of asked)
    t.match(headers, { authorization: basic, 'x-key': 's3cret', accept: 'application/json' })
  t.same([asked.length, other.asked.length], [2, 1])
  t.notMatch(other.asked[0]!.headers, { authorization: /./ })
  t.equal(other.asked[0]!.headers['x-key'], undefined)

  const sources = new Sources(realClock)
  const subscription = sources.subscribe(settingsOf(section), {
    name: 'web',
    transport: 'tcp',
    publish: () => {},
  })
  t.equal(subscription.sources()[0]!.source, `json ${origin}/list?…`)
  subscription.cancel()

  const denied = await documents(t, saying(403, 'no'))
  const url = `${denied.origin.replace('//', '//joe:s3cret@')}/?token=t0p`
  await t.rejects(ask({ kind: 'json', json_endpoint: url, json_headers: { authorization: 'x' } }), {
    message: `${denied.origin}/?… answered 403: "no"`,
  })
  await ask({ kind: 'json', json_endpoint: `${other.origin}/`, json_bearer_token: 'abc' })
  t.equal(other.asked[1]!.headers.authorization, 'Bearer abc')
})

t.test('json: a header that cannot be read is named without its value', async (t) => {
  for (const wrong of [7123, ['s7123'], { x: 's7123' }]) {
    const discovery = { kind: 'json', json_endpoint: 'http://joe:s7123@x', json_headers: { 'X-Key': wrong } }
    const read = () => readDocument({ servers: { web: { bind: ':1', discovery } } }, 'it')
    t.throws(read, {
      message: /discovery.json_headers.X-Key: expected a string, got a value that is not shown/,
    })
  }
})

t.test('json: over TLS a server is trusted, and a client certificate shown, as configured', async (t) => {
  const dir = folder(t)
  const [key, cert] = ['key.pem', 'cert.pem'].map((name) => join(dir, name)) as [string, string]
  const subject = ['-subj', '/CN=here', '-addext', 'subjectAltName=IP:127.0.0.1']
  const openssl = [
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-days',
    '2',
  ]
  execFileSync('openssl', [...openssl, ...subject, '-keyout', key, '-out', cert], { stdio: 'ignore' })
  const [ca, own] = [readFileSync(cert), readFileSync(key)]
  const tls = { key: own, cert: ca, ca, requestCert: true, rejectUnauthorized: true }
  const { origin } = await documents(t, saying(200, '[{"host": "a", "port": 1}]'), tls)
  const section = { kind: 'json', json_endpoint: `${origin}/` }
  const client = { json_tls_cert_path: cert, json_tls_key_path: key }
  await t.rejects(ask({ ...section, ...client }), { message: /self.signed certificate/ })
  await t.rejects(ask({ ...section, json_tls_cacert_path: cert }))
  t.equal((await ask({ ...section, ...client, json_tls_cacert_path: cert })).backends.length, 1)
  t.equal((await ask({ ...section, ...client, json_tls_skip_verify: true })).backends.length, 1)
  await t.rejects(ask({ ...section, json_tls_cacert_path: join(dir, 'none') }), { message: /ENOENT.*none/ })
  const problems = (more: object) => {
    const { error } = sourceSettings.safeParse({ ...section, ...more })
    return error?.issues.map(({ path }) => path.join('.'))
  }
  t.same(problems({ json_tls_cert_path: cert }), ['json_tls_key_path'])
  t.same(problems({ json_tls_key_path: key }), ['json_tls_cert_path'])
  t.same(problems({ json_bearer_token: 'x', json_headers: { Authorization: 'y' } }), ['json_bearer_token'])
})

t.test('plaintext: a pattern of one’s own, with the groups it has', async (t) => {
  const text = 'server a 80 w=3\nserver b 81\nserver c x\n# nothing\n\nserver a 80 w=4 draining\n'
  const { origin } = await documents(t, saying(200, text))
  const section = {
    kind: 'plaintext',
    plaintext_endpoint: origin,
    plaintext_regex_pattern: String.raw`^server (?P<host>\S+) (?P<port>\w+)( w=(?P<weight>\d+))?( (?P<drain>draining))?$`,
  }
  const answer = await ask(section)
  t.same(
    lines(answer),
    ['a:80 1 1 0 -', 'b:81 1 1 0 -'].map((each, i) => (i ? each : 'a:80 4 1 0 -')),
  )
  t.same(answer.rejected, [
    'line 3: expected a port at "port", got "x"',
    'line 4: expected what the pattern matches, got "# nothing"',
    'line 6: expected true or false at "drain", got "draining"',
  ])
})

t.test('plaintext: options of a line come in any order without a pattern', async (t) => {
  const { origin } = await documents(
    t,
    saying(200, 'a:80 sni=x  weight=2\r\n[::1]:81 drain=true priority=2\n'),
  )
  t.same(lines(await ask({ kind: 'plaintext', plaintext_endpoint: origin })), [
    ...['a:80 2 1 0 x', '[::1]:81 1 2 0 - drain'],
  ])
})

const MIB = 1024 * 1024

const element = (i: number) =>
  `{"host":"10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}","port":8080,"weight":${i % 9},"id":"task-${i}"}`

const ELEMENTS = Array.from({ length: 100_000 }, (_, i) => element(i))

/** A name, how it is asked, and what comes of it: a number of backends, or an error. */
const HOSTILE: [string, () => { json: Buffer } | { plaintext: Buffer; pattern?: string }, number | RegExp][] =
  [
    ['100,000 elements', () => ({ json: Buffer.from(`[${ELEMENTS.join(',')}]`) }), 100_000],
    [
      'too many elements',
      () => ({ json: Buffer.from(`[${'{},'.repeat(5 * MIB)}1]`) }),
      /more than 100000 elem/,
    ],
    ['16 MiB of "["', () => ({ json: Buffer.alloc(16 * MIB, '[') }), /cut short/],
    [
      '16 MiB of "[[["',
      () => ({ json: Buffer.concat([Buffer.from('[1,'), Buffer.alloc(15 * MIB, '[')]) }),
      /cut/,
    ],
    ['16 MiB of blanks', () => ({ json: Buffer.alloc(16 * MIB, ' ') }), /expected a list/],
    ['16 MiB of quotes', () => ({ json: Buffer.alloc(16 * MIB, '"') }), /expected a list/],
    ['one long string', () => ({ json: Buffer.from(`["${'\\"'.repeat(7 * MIB)}"]`) }), /nobody/],
    [
      'long elements',
      () => ({
        json: Buffer.from(
          `[${Array(200)
            .fill(`{"a":${'['.repeat(30_000)}${']'.repeat(30_000)}}`)
            .join()}]`,
        ),
      }),
      /nobody/,
    ],
    [
      '100,000 lines',
      () => ({ plaintext: Buffer.from(ELEMENTS.map((_, i) => `h${i}:80 weight=${i % 9}`).join('\n')) }),
      100_000,
    ],
    [
      '100,000 lines and a pattern',
      () => ({
        plaintext: Buffer.from(ELEMENTS.map((_, i) => `server h${i}:80 weight=${i % 9}`).join('\n')),
        pattern: String.raw`server (?P<host>\S+):(?P<port>\d+)(\sweight=(?P<weight>\d+))?$`,
      }),
      100_000,
    ],
    [
      'a million lines',
      () => ({ plaintext: Buffer.from('a:80\n'.repeat(1_000_000)) }),
      /more than 100000 lines/,
    ],
    ['16 MiB of line feeds', () => ({ plaintext: Buffer.alloc(16 * MIB, '\n') }), /more than 100000 lines/],
    ['a line of 16 MiB', () => ({ plaintext: Buffer.alloc(16 * MIB, 'a') }), /nobody/],
    [
      'lines made for a pattern that hurts',
      () => ({
        plaintext: Buffer.from(`${'a'.repeat(4000)}:!\n`.repeat(500)),
        pattern: '^(?P<host>(a+)+(a|aa)*(.*a){5}):(?P<port>(\\d+)+)$',
      }),
      /nobody/,
    ],
  ]

for (const [name, make, expected] of HOSTILE)
  t.test(`hostile: ${name} is bounded in time and memory, and keeps nobody waiting`, async (t) => {
    const document = make()
    const kind = 'json' in document ? 'json' : 'plaintext'
    const body = 'json' in document ? document.json : document.plaintext
    const { origin } = await documents(t, saying(200, body))
    const section = {
      kind,
      [`${kind}_endpoint`]: origin,
      ...('pattern' in document && { plaintext_regex_pattern: document.pattern }),
    }
    const before = process.memoryUsage().rss
    const began = performance.now()
    const asked = ask(section)
    const stalled = await stall(asked)
    const took = performance.now() - began
    const grown = (process.memoryUsage().rss - before) / MIB
    t.comment(`${took.toFixed()} ms in all, ${stalled.toFixed()} ms at once, ${grown.toFixed()} MiB`)
    if (typeof expected === 'number') t.equal((await asked).backends.length, expected)
    else if (String(expected) === '/nobody/') t.match(await asked, { backends: [] })
    else await t.rejects(asked, { message: expected })
    t.ok(stalled < 5_000, 'in slices')
    t.ok(grown < 500)
  })

t.test('hostile: a body of 100 MB without a length is refused at 16 MiB', async (t) => {
  const server = await documents(t, pouring(Buffer.alloc(64 * 1024, '[')))
  const before = process.memoryUsage().rss
  await t.rejects(ask({ kind: 'json', json_endpoint: server.origin }), { message: /larger than 16 MiB/ })
  t.ok(process.memoryUsage().rss - before < 500 * MIB)
  await until(() => server.open() === 0, 'the connection to be closed')
})

t.test('hostile: of an error page only the beginning is read', async (t) => {
  const server = await documents(t, (request, response) => {
    response.writeHead(503)
    pouring(Buffer.alloc(64 * 1024, 'x'))(request, response)
  })
  await t.rejects(ask({ kind: 'json', json_endpoint: server.origin }), { message: /answered 503: "x{80}…"$/ })
  await until(() => server.open() === 0, 'the connection to be closed')
})

t.test('file: a folder is its files by their names, hidden ones and folders apart', async (t) => {
  const dir = t.testdir({
    '10-first': 'a:80 weight=2\nb:81\n',
    '20-second': 'a:80 weight=9\nnonsense\n',
    '30-list.json': '[{"host": "c", "port": 82}, {"host": "b", "port": 81, "weight": 5}, 7]',
    '.hidden': 'd:83',
    inside: { more: 'e:84' },
  })
  execFileSync('mkfifo', [join(dir, 'pipe')])
  symlinkSync(join(dir, 'nowhere'), join(dir, 'link'))
  const answer = await ask({ kind: 'file', file_path: dir })
  t.same(lines(answer), ['a:80 2 1 0 -', 'b:81 1 1 0 -', 'c:82 1 1 0 -'])
  t.match(answer.rejected, [
    'link: no such file',
    'pipe: expected a file, got a pipe',
    /^20-second line 2: expected host:port, .*, got "nonsense"$/,
    '30-list.json [2]: expected a host at "host", got nothing',
  ])
})

t.test('file: 16 MiB is the most of all files together, and 1,000 their number', async (t) => {
  const dir = folder(t)
  for (const name of ['a', 'b']) writeFileSync(join(dir, name), Buffer.alloc(9 * MIB, 'x'))
  await t.rejects(ask({ kind: 'file', file_path: dir }), { message: /b: more than 16 MiB to read$/ })
  rmSync(join(dir, 'b'))
  for (let i = 0; i < 1000; i++) writeFileSync(join(dir, `f${i}`), '')
  await t.rejects(ask({ kind: 'file', file_path: dir }), { message: /has more than 1000 files/ })
})

/** Follows a source as a server does; what was published last, and how often. */
function followed(t: Test, section: object) {
  const sources = new Sources(realClock)
  const seen = { addresses: [] as string[], lists: 0 }
  const publish = ({ backends }: Listed) => {
    seen.addresses = backends.map(({ address }) => addressText(address))
    seen.lists++
  }
  const subscription = sources.subscribe(settingsOf(section), { name: 'web', transport: 'tcp', publish })
  t.teardown(() => subscription.cancel())
  const lists = (...addresses: string[]) =>
    until(
      () => seen.addresses.join() === addresses.join(),
      `${addresses.join()}, not ${seen.addresses.join()}`,
    )
  return { seen, lists, subscription, sources }
}

t.test('file: it may be replaced, emptied, removed and come back; a folder and its parent too', async (t) => {
  const parent = folder(t)
  const path = join(parent, 'pool', 'backends')
  const replace = (text: string) => {
    writeFileSync(`${path}.next`, text)
    renameSync(`${path}.next`, path)
  }
  mkdirSync(join(parent, 'pool'))
  replace('a:80\n')
  const { lists } = followed(t, { kind: 'file', file_path: path })
  await lists('a:80')
  replace('b:81\n')
  await lists('b:81')
  writeFileSync(path, 'c:82\n')
  await lists('c:82')
  writeFileSync(path, '')
  await lists()
  rmSync(join(parent, 'pool'), { recursive: true })
  mkdirSync(join(parent, 'pool'))
  replace('d:83\n')
  await lists('d:83')
})

t.test('file: a link to another folder is a change, as in a ConfigMap of Kubernetes', async (t) => {
  const dir = t.testdir({ one: { backends: 'a:80' }, two: { backends: 'b:81' } })
  const point = (to: string, name: string) => {
    symlinkSync(to, join(dir, `${name}.next`))
    renameSync(join(dir, `${name}.next`), join(dir, name))
  }
  point('one', '..data')
  symlinkSync('..data/backends', join(dir, 'backends'))
  point('one', 'current')
  const mounted = followed(t, { kind: 'file', file_path: join(dir, 'backends') })
  const linked = followed(t, { kind: 'file', file_path: join(dir, 'current') })
  await mounted.lists('a:80')
  await linked.lists('a:80')
  point('two', '..data')
  await mounted.lists('b:81')
  point('two', 'current')
  await linked.lists('b:81')
})

t.test('exec: every empty line ends a list, however the text is cut', async (t) => {
  const text = '\na:80\r\n\r\nb:80\nc:80\n\n\nd:80 sni=ä\n\ne:80'
  const all = (size: number) => {
    const blocks = new Blocks()
    const bytes = Buffer.from(text)
    const found: string[] = []
    for (let at = 0; at < bytes.length; at += size) {
      const list = blocks.add(bytes.subarray(at, at + size))
      if (list) found.push(list.toString())
    }
    return found
  }
  t.same(all(1), ['', 'a:80', 'b:80\nc:80', '', 'd:80 sni=ä'])
  for (let size = 2; size <= 40; size++) t.equal(all(size).at(-1), 'd:80 sni=ä', `${size} bytes`)
  const blocks = new Blocks()
  for (let i = 0; i < 16; i++) t.equal(blocks.add(Buffer.alloc(65_536, 'x\n')), undefined)
  t.throws(() => blocks.add(Buffer.alloc(65_536, 'x\n')), { message: /longer than 1048576 bytes/ })
})

/** A file is there before what is written to it. */
const hasWritten = (path: string) => existsSync(path) && readFileSync(path).length > 0

const streaming = (dir: string, body: string) => ({
  kind: 'exec',
  exec_command: [script(dir, 'stream', body)],
  exec_stream: true,
})

t.test('exec: a program that goes on changes the list whenever it prints one', async (t) => {
  const dir = folder(t)
  execFileSync('mkfifo', [join(dir, 'orders')])
  const body = 'echo $$ >> $dir/pids; echo a:80; echo; exec cat 0<> $dir/orders'
  const { lists, subscription } = followed(t, streaming(dir, body))
  await lists('a:80')
  execFileSync('sh', ['-c', `printf 'b:81\\nc:82\\n\\n' > ${dir}/orders; true`])
  await lists('b:81', 'c:82')
  subscription.cancel()
  await until(() => hasEnded(join(dir, 'pids')), 'its end')
})

t.test('exec: servers with the same program share one process', async (t) => {
  const dir = folder(t)
  const section = settingsOf(streaming(dir, 'echo $$ >> $dir/pids; echo a:80; echo; exec sleep 60'))
  const sources = new Sources(realClock)
  let lists = 0
  const all = ['one', 'two'].map((name) =>
    sources.subscribe(section, { name, transport: 'tcp', publish: () => void lists++ }),
  )
  await until(() => lists >= 2, 'both lists')
  t.equal(readFileSync(join(dir, 'pids'), 'utf8').trim().split('\n').length, 1)
  for (const each of all) each.cancel()
  await until(() => hasEnded(join(dir, 'pids')), 'its end')
})

t.test('exec: one that ends is an error that says why, and is started again', async (t) => {
  const dir = folder(t)
  const body = `echo run >> $dir/runs; echo a:80; echo; sleep 0.1; echo registry gone >&2; exit 3`
  const discovery = made(streaming(dir, body))
  const losses: string[] = []
  const watching = new AbortController()
  discovery.watch!(watching.signal, { connected: () => {}, hint: () => {}, lost: (why) => losses.push(why) })
  t.equal((await discovery.ask(watching.signal)).backends.length, 1)
  await until(() => losses.length === 1, 'the loss')
  t.match(losses[0], /stream exited with status 3: registry gone$/)
  await t.rejects(discovery.ask(new AbortController().signal), { message: /status 3: registry gone$/ })
  await until(() => readFileSync(join(dir, 'runs'), 'utf8').length > 4, 'the second run')
  await until(
    async () =>
      discovery.ask(watching.signal).then(
        () => true,
        () => false,
      ),
    'its list',
  )
  watching.abort()
})

t.test('exec: one that cannot be run, or closes its output, is an error that says so', async (t) => {
  const lostBy = async (section: object) => {
    const watching = new AbortController()
    const losses: string[] = []
    const lost = (why: string) => losses.push(why)
    made(section).watch!(watching.signal, { connected: () => {}, hint: () => {}, lost })
    await until(() => losses.length > 0, 'the loss')
    watching.abort()
    return losses[0]
  }
  const dir = folder(t)
  const none = { kind: 'exec', exec_command: [join(dir, 'none')], exec_stream: true }
  t.match(await lostBy(none), /cannot run .*none: no such file$/)
  t.match(
    await lostBy(streaming(dir, 'echo $$ > $dir/self; exec >&-; exec sleep 60')),
    /stream closed its output$/,
  )
  await until(() => hasEnded(join(dir, 'self')), 'its end')
})

t.test('exec: one that says nothing keeps the question waiting until that is aborted', async (t) => {
  const dir = folder(t)
  const discovery = made(streaming(dir, 'echo $$ > $dir/self; sleep 60 & echo $! > $dir/child; wait'))
  const [watching, asking] = [new AbortController(), new AbortController()]
  const asked = discovery.ask(asking.signal)
  discovery.watch!(watching.signal, { connected: () => {}, hint: () => {}, lost: () => {} })
  await until(() => hasWritten(join(dir, 'child')), 'the program')
  asking.abort(new Error('enough'))
  await t.rejects(asked, { message: 'enough' })
  watching.abort()
  for (const name of ['self', 'child']) await until(() => hasEnded(join(dir, name)), `the end of ${name}`)
})

for (const [what, body] of Object.entries({
  'lists as fast as it can': `exec awk 'BEGIN { for (;;) print "a:80\\n" }'`,
  'nothing but empty lines': `exec yes ''`,
  'errors as fast as it can': `echo a:80; echo; exec yes oops >&2`,
}))
  t.test(`exec: a program that prints ${what} occupies neither the loop nor memory`, async (t) => {
    const { seen, subscription } = followed(t, streaming(folder(t), body))
    await until(() => seen.lists > 0, 'a list')
    const [memory, cpu] = [process.memoryUsage().rss, process.cpuUsage()]
    const waiting = new Promise((resolve) => setTimeout(resolve, 1000))
    const stalled = await stall(waiting)
    const { user, system } = process.cpuUsage(cpu)
    const grown = (process.memoryUsage().rss - memory) / MIB
    const share = (user + system) / 10_000
    t.comment(`${stalled.toFixed()} ms at once, ${share.toFixed()} % of a core, ${grown.toFixed()} MiB`)
    t.ok(stalled < 1_000)
    t.ok(share < 90)
    t.ok(grown < 200)
    subscription.cancel()
  })

t.test('exec: a list of more than 1 MiB ends the program', async (t) => {
  const dir = folder(t)
  const discovery = made(streaming(dir, 'echo $$ > $dir/self; exec yes a:80'))
  const watching = new AbortController()
  const asked = discovery.ask(watching.signal)
  discovery.watch!(watching.signal, { connected: () => {}, hint: () => {}, lost: () => {} })
  await t.rejects(asked, { message: /a list is longer than 1048576 bytes/ })
  watching.abort()
  await until(() => hasEnded(join(dir, 'self')), 'its end')
})

t.test('an answer that switches protocols is an error, and does not leave the question open', async (t) => {
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', () =>
      socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n'),
    )
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  await t.rejects(ask({ kind: 'json', json_endpoint: `http://127.0.0.1:${port}/` }), { message: /closed/ })
})

t.test('an element cannot name a socket of this machine, nor a host or a name without end', async (t) => {
  const elements = [
    { host: 'unix', port: '/var/run/docker.sock' },
    { host: 'h'.repeat(300), port: 1 },
    { host: 'a', port: 1, sni: 's'.repeat(2_000) },
    { host: 'b', port: [[[1]]] },
  ]
  const answer = await ask(await served(t, JSON.stringify(elements)))
  t.same(lines(answer), ['a:1 1 1 0 -'])
  t.match(answer.rejected, [
    /^\[0\]: expected a host/,
    /^\[1\]: expected a host/,
    /^\[2\]: expected a name/,
    /got a list$/,
  ])
})

// Golden pairs: what a document becomes, or everything that is wrong with it. GOLDEN=1 writes them anew.

import { readdirSync, readFileSync, writeFileSync, existsSync } from 'node:fs'
import fc from 'fast-check'
import t from 'tap'
import * as balancers from '../../src/balance/kinds.ts'
import { dump, serverObject } from '../../src/config/encode.ts'
import { parseJson, parseText } from '../../src/config/parse.ts'
import { readDocument, readServer } from '../../src/config/read.ts'
import type { Config } from '../../src/config/read.ts'
import { fillTables, jsonSchema, sections } from '../../src/config/reference.ts'
import { ConfigError } from '../../src/core/errors.ts'

const cases = new URL('cases/', import.meta.url)
const root = new URL('../../', import.meta.url)
const text = (name: string, folder = root) => readFileSync(new URL(name, folder), 'utf8')
const toml = (document: string) => readDocument(parseText(document, 'toml', 'test.toml'), 'test.toml')

function outcome(file: string): object {
  const input = text(file, cases)
  if (file.endsWith('.post')) {
    const { server, warnings } = readServer('web', parseJson(input, file), {})
    return { warnings, shown: serverObject(server), runs: server.settings }
  }
  const { config, warnings } = readDocument(parseText(input, 'toml', file), file)
  const servers = [...config.servers.values()].map((each) => [
    each.name,
    { shown: serverObject(each), runs: each.settings },
  ])
  return { warnings, dumped: dump(config, [], 'toml').split('\n'), servers: Object.fromEntries(servers) }
}

for (const file of readdirSync(cases).filter((name) => /\.(toml|post)$/.test(name))) {
  const name = file.replace(/\.\w+$/, '')
  t.test(`${file} becomes what is written beside it`, async (t) => {
    let got: object | string
    try {
      got = outcome(file)
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error
      got = error.message
    }
    const golden = new URL(`${name}.${typeof got === 'string' ? 'problems' : 'json'}`, cases)
    const shown = typeof got === 'string' ? got + '\n' : JSON.stringify(got, null, 2) + '\n'
    if (process.env.GOLDEN && !existsSync(golden)) writeFileSync(golden, shown)
    t.equal(shown, readFileSync(golden, 'utf8'))
  })
}

const uncommented = text('config/fairlead.toml').replace(/^(\s*)# ?(\s*(?:\[[\w.-]+\]|\w+ = ))/gm, '$1$2')

t.test('the sample starts one server and nothing else', async (t) => {
  const { config, warnings } = toml(text('config/fairlead.toml'))
  t.same(warnings, [])
  t.same([...config.servers.keys()], ['web'])
  t.notOk(config.api.enabled || config.metrics.enabled || config.profiler || config.acme)
})

t.test('the sample is valid with every comment taken away', async (t) => {
  const { config, warnings } = toml(uncommented)
  t.same(warnings, [])
  t.equal(config.servers.size, 20)
})

t.test('the sample has every key, with its default where it has one', async (t) => {
  const document = parseText(uncommented, 'toml', 'sample') as Record<string, object>
  for (const [section, keys] of sections()) {
    for (const key of keys) {
      const written = placesOf(section, document).flatMap((place) =>
        Object.hasOwn(place, key.name) ? [JSON.stringify(place[key.name])] : [],
      )
      t.not(written.length, 0, `${section} ${key.name}`)
      if (key.standard && !EXAMPLES.has(key.name))
        t.ok(written.includes(key.standard), `${section} ${key.name}: ${written.join()} is ${key.standard}`)
    }
  }
})

/** Where an example says more than the default. */
const EXAMPLES = new Set([
  'bind',
  'plaintext_regex_pattern',
  'probe_recv_len',
  'probe_strategy',
  'tls_verify',
  'cert_path',
  'key_path',
])

type Table = Record<string, unknown>

/** Every table of the sample that is an instance of the section. */
function placesOf(section: string, document: Table): Table[] {
  const [first, ...rest] = section.split('.')
  const kind = /^server\.(discovery|healthcheck)\.(\w+)$/.exec(section)?.[2]
  const names = kind ? rest.slice(0, -1) : rest
  const roots =
    first === 'general'
      ? [document]
      : first === 'server'
        ? Object.values(document.servers as Table)
        : [document[first!]]
  const found = names.reduce((places, name) => places.map((each) => (each as Table)?.[name]), roots)
  return found.filter((each): each is Table => each !== undefined && (!kind || (each as Table).kind === kind))
}

t.test('every key says what it is for', async (t) => {
  for (const [section, keys] of sections())
    for (const { name, description } of keys) t.match(description, /^[A-Z].*\.$/, `${section} ${name}`)
})

t.test('schema.json is what the schema says today', async (t) => {
  t.same(JSON.parse(text('schema.json')), jsonSchema(), 'run: npm run build && node scripts/schema.mjs')
})

t.test('the tables of the configuration reference are what the schema says today', async (t) => {
  const docs = text('docs/configuration.md')
  t.equal(docs, fillTables(docs), 'run: npm run build && node scripts/schema.mjs')
})

t.test('a dump with its secrets reads back as the same config', async (t) => {
  fc.assert(
    fc.property(documents(), fc.constantFrom('toml' as const, 'json' as const), (document, format) => {
      const { config } = readDocument(document, 'made up')
      const dumped = dump(config, config.servers.values(), format, { secrets: true })
      const { config: again, warnings } = readDocument(parseText(dumped, format, 'dump'), 'dump')
      t.same(warnings, [])
      t.same(running(again), running(config))
    }),
    { numRuns: 100 },
  )
})

function running(config: Config): object {
  const { servers, written: _written, ...general } = config
  return { ...general, servers: [...servers.values()].map(({ name, settings }) => ({ name, settings })) }
}

function documents() {
  const duration = fc.constantFrom('0', '500ms', '1m30s', '2h')
  const number = fc.oneof(fc.nat(1000), fc.nat(1000).map(String))
  const line = fc.string({ unit: 'grapheme' })
  const options = {
    max_connections: number,
    client_idle_timeout: duration,
    backend_connection_timeout: duration,
    redispatch: number,
    client_connection_rate: fc.float({ min: 0, max: 1000, noNaN: true }),
  }
  const discovery = fc.oneof(
    fc.record({ kind: fc.constant('static'), static_list: fc.array(line), interval: duration }),
    fc.record({
      kind: fc.constant('consul'),
      consul_host: fc.constant('c:1'),
      consul_service_name: fc.constant('s'),
      consul_acl_token: line,
    }),
    fc.record({
      kind: fc.constant('lxd'),
      lxd_server_address: fc.constant('https://h'),
      lxd_server_remote_password: line,
    }),
  )
  const server = fc.record(
    {
      ...options,
      bind: fc.constantFrom(':80', ['127.0.0.1:0', ':8000-8003'], 'unix:/run/x'),
      balance: fc.constantFrom(...Object.keys(balancers)),
      discovery,
      access: fc.record({ default: fc.constantFrom('allow', 'deny') }),
      tls: fc.constantFrom({ cert_path: 'a', key_path: 'b' }, { acme_hosts: ['h'], ciphers: ['X'] }),
      sni: fc.record({ read_timeout: duration }),
      backends_tls: fc.record({ ignore_verify: fc.boolean() }),
      healthcheck: fc.record({
        kind: fc.constant('exec'),
        interval: fc.constant('2s'),
        exec_command: fc.constant('x'),
        passes: number,
        initial_status: fc.constantFrom('healthy', 'unhealthy', null),
      }),
    },
    { requiredKeys: ['bind', 'discovery'] },
  )
  return fc.record(
    {
      defaults: fc.record(options, { requiredKeys: [] }),
      api: fc.constantFrom({}, { enabled: true, bind: ':1', basic_auth: { login: 'a', password: 'b"\n' } }),
      acme: fc.constantFrom(null, {}),
      servers: fc.dictionary(fc.string({ minLength: 1 }), server, { maxKeys: 3 }),
    },
    { requiredKeys: [] },
  )
}

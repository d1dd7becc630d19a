import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { addressText } from '../../src/core/address.ts'
import { realClock } from '../../src/core/clock.ts'
import { configureLogging } from '../../src/core/log.ts'
import type { Discovery } from '../../src/discovery/discovery.ts'
import * as kinds from '../../src/discovery/kinds.ts'
import { discoverySettings } from '../../src/discovery/settings.ts'
import type { DiscoveryName } from '../../src/discovery/settings.ts'
import { createDiscovery } from '../../src/discovery/sources.ts'
import { hasEnded, script } from '../support/scripts.ts'
import { until } from '../support/until.ts'

configureLogging({ level: 'panic', output: 'stderr', format: 'text' })

type Section = Record<string, unknown>

/** How a kind does each thing, as the keys of its section; a sentence says why it cannot. */
interface Fixture {
  /** Lists `a:80 weight=2` and `b:81`. */
  lists(dir: string): Section
  empty(dir: string): Section
  /** Lists `a:80` among two entries that are no backends. */
  garbage(dir: string): Section
  fails: ((dir: string) => { section: Section; message: RegExp }) | string
  /** Never answers; `over` says whether everything it started is gone. */
  hangs: ((dir: string) => { section: Section; begun: () => boolean; over: () => boolean }) | string
}

const fixtures: Partial<Record<DiscoveryName, Fixture>> = {
  static: {
    lists: () => ({ static_list: ['a:80 weight=2', 'b:81'] }),
    empty: () => ({ static_list: [] }),
    garbage: () => ({ static_list: ['junk', 'a:80', 'b:81 colour=red'] }),
    fails: 'a list that is written down cannot fail',
    hangs: 'a list that is written down cannot hang',
  },
  exec: {
    lists: (dir) => command(dir, 'echo a:80 weight=2; echo; echo b:81'),
    empty: (dir) => command(dir, 'true'),
    garbage: (dir) => command(dir, 'echo junk; echo a:80; echo b:81 colour=red'),
    fails: (dir) => ({
      section: command(dir, 'echo one >&2; echo cannot reach consul >&2; echo a:80; exit 3'),
      message: /list exited with status 3: one \| cannot reach consul$/,
    }),
    hangs: (dir) => ({
      section: command(dir, 'sleep 60 & echo $! > $dir/child; echo $$ > $dir/self; wait'),
      begun: () => existsSync(join(dir, 'self')),
      over: () => hasEnded(join(dir, 'self')) && hasEnded(join(dir, 'child')),
    }),
  },
}

/** Kinds this release knows the settings of: sections that are right, sections that are wrong, and where. */
const later: Partial<
  Record<DiscoveryName, { right: Section; wrong: Record<string, unknown>; missing: RegExp }>
> = {
  docker: {
    right: { docker_endpoint: 'http://localhost:2375', docker_container_private_port: '80' },
    wrong: { docker_endpoint: undefined, docker_container_private_port: 'x', docker_tls_enabled: 'yes' },
    missing: /"docker" cannot be used yet: listing the containers of a Docker daemon is not in this release/,
  },
  consul: {
    right: { consul_host: 'localhost:8500', consul_service_name: 'web', consul_service_datacenter: 'dc1' },
    wrong: { consul_host: undefined, consul_service_name: '', consul_service_passing_only: 1 },
    missing: /asking Consul for the instances of a service is not in this release/,
  },
  srv: {
    right: { srv_lookup_server: '127.0.0.1:53', srv_lookup_pattern: '_http._tcp.example.' },
    wrong: { srv_lookup_server: undefined, srv_lookup_pattern: undefined, srv_dns_protocol: 'sctp' },
    missing: /asking a DNS server for SRV records is not in this release/,
  },
  json: {
    right: { json_endpoint: 'http://localhost/backends' },
    wrong: { json_endpoint: undefined, json_host_pattern: 1 },
    missing: /fetching a JSON document of backends is not in this release/,
  },
  plaintext: {
    right: {
      plaintext_endpoint: 'http://localhost/',
      plaintext_regex_pattern: '(?P<host>.*):(?P<port>\\d+)\\z',
    },
    wrong: { plaintext_endpoint: undefined, plaintext_regex_pattern: '(?<=x)(' },
    missing: /fetching a text of backends is not in this release/,
  },
  lxd: {
    right: { lxd_server_address: 'unix:///var/lib/lxd/unix.socket', lxd_container_port: '80' },
    wrong: { lxd_server_address: 'http://localhost', lxd_container_address_type: 'ipv4' },
    missing: /listing the containers of an LXD server is not in this release/,
  },
}

function command(dir: string, body: string): Section {
  return { exec_command: [script(dir, 'list', body)] }
}

function made(kind: DiscoveryName, section: Section): Discovery {
  const settings = discoverySettings.parse({ kind, ...section })
  return createDiscovery(settings, { clock: realClock }).discovery
}

const ask = (discovery: Discovery, signal = new AbortController().signal) => discovery.ask(signal)

function problems(section: unknown): string[] {
  const { error } = discoverySettings.safeParse(section)
  return (error?.issues ?? []).map(({ path, message }) => `${path.join('.')}: ${message}`)
}

t.test('every kind has its fixture', async (t) => {
  t.same([...Object.keys(fixtures), ...Object.keys(later)].sort(), Object.keys(kinds).sort())
})

for (const [kind, fixture] of Object.entries(fixtures) as [DiscoveryName, Fixture][]) {
  t.test(`${kind}: lists backends with their settings`, async (t) => {
    const { backends, rejected = [] } = await ask(made(kind, fixture.lists(t.testdir())))
    t.same(
      backends.map(({ address, weight }) => `${addressText(address)} ${weight}`),
      ['a:80 2', 'b:81 1'],
    )
    t.same(rejected, [])
  })

  t.test(`${kind}: an empty list is an answer`, async (t) => {
    const { backends } = await ask(made(kind, fixture.empty(t.testdir())))
    t.same(backends, [])
  })

  t.test(`${kind}: bad entries are named and the good ones used`, async (t) => {
    const { backends, rejected } = await ask(made(kind, fixture.garbage(t.testdir())))
    t.same(
      backends.map(({ address }) => addressText(address)),
      ['a:80'],
    )
    t.equal(rejected?.length, 2)
    t.match(rejected?.[0], /(line 1|\[0\]): expected .*, got "junk"$/)
    t.match(rejected?.[1], /(line 3|\[2\]): expected .*, got "colour=red"$/)
  })

  t.test(`${kind}: answers again when it is asked again`, async (t) => {
    const discovery = made(kind, fixture.lists(t.testdir()))
    t.same(await ask(discovery), await ask(discovery))
  })

  t.test(`${kind}: an error is not an empty list`, async (t) => {
    if (typeof fixture.fails === 'string') return void t.pass(`does not apply: ${fixture.fails}`)
    const { section, message } = fixture.fails(t.testdir())
    await t.rejects(ask(made(kind, section)), { message })
  })

  t.test(`${kind}: stops what it started when aborted`, async (t) => {
    if (typeof fixture.hangs === 'string') return void t.pass(`does not apply: ${fixture.hangs}`)
    const { section, begun, over } = fixture.hangs(t.testdir())
    const aborting = new AbortController()
    const asked = ask(made(kind, section), aborting.signal)
    await Promise.race([until(begun, 'the question'), asked])
    aborting.abort(new Error('enough'))
    await t.rejects(asked, { message: 'enough' })
    await until(over, 'its end')
  })

  t.test(`${kind}: aborted before it begins, it starts nothing`, async (t) => {
    if (typeof fixture.hangs === 'string') return void t.pass(`does not apply: ${fixture.hangs}`)
    const { section, begun } = fixture.hangs(t.testdir())
    await t.rejects(ask(made(kind, section), AbortSignal.abort(new Error('enough'))), { message: 'enough' })
    t.notOk(begun())
  })
}

for (const [kind, { right, wrong, missing }] of Object.entries(later)) {
  t.test(`${kind}: its settings are checked now, and creating it says what is missing`, async (t) => {
    t.throws(() => made(kind as DiscoveryName, right), { code: 'UNSUPPORTED', message: missing })
    const found = problems({ kind, ...right, ...wrong })
    t.same(
      found.map((each) => each.split(':')[0]).sort(),
      Object.keys(wrong).sort(),
      'every wrong key is named',
    )
  })
}

t.test('a section has gobetween’s defaults', async (t) => {
  t.same(discoverySettings.parse({ kind: 'static', static_list: [] }), {
    kind: 'static',
    failpolicy: 'keeplast',
    interval: 0,
    static_list: [],
  })
  t.match(
    discoverySettings.parse({ kind: 'json', json_endpoint: 'http://x', interval: '2s', timeout: '500ms' }),
    {
      interval: 2000,
      timeout: 500,
      json_host_pattern: 'host',
      json_max_connections_pattern: 'max_connections',
    },
  )
})

t.test(
  'all that is wrong in a section is said at once, and an unknown kind leaves the rest unjudged',
  async (t) => {
    const all = Object.keys(kinds).join(', ')
    t.same(problems({ kind: 'k8s', interval: 'x', foo: 1 }), [`kind: one of ${all}`])
    t.same(problems({ kind: '__proto__' }), [`kind: one of ${all}`])
    t.same(problems({}), [`kind: one of ${all}`])
    t.same(problems('static'), [': a table'])
    t.same(problems({ kind: 'exec', exec_command: [], interval: '2 sec', failpolicy: 'keep' }), [
      'failpolicy: one of keeplast, setempty',
      'interval: a duration such as "2s"',
      'exec_command: a list of strings: a program and its arguments',
    ])
    t.same(problems({ kind: 'exec', exec_command: ['/bin/echo', 2] }), ['exec_command.1: a string'])
    const { error } = discoverySettings.safeParse({ kind: 'static', static_list: [], intervall: '2s' })
    t.match(error?.issues, [{ code: 'unrecognized_keys', keys: ['intervall'], path: [] }])
  },
)

const exec = (t: Test, body: string) => made('exec', command(t.testdir(), body))

t.test('exec: arguments are passed as they are, without a shell', async (t) => {
  const path = script(t.testdir(), 'list', 'test "$#" = 2 && test "$2" = \'$HOME; x\' && echo "$1:80"')
  const { backends } = await ask(made('exec', { exec_command: [path, 'web', '$HOME; x'] }))
  t.equal(addressText(backends[0]!.address), 'web:80')
})

t.test('exec: a program that does not exist, may not run or dies is an error that says so', async (t) => {
  const missing = made('exec', { exec_command: [join(t.testdir(), 'none')] })
  await t.rejects(ask(missing), { message: /cannot run .*none: no such file/ })
  await t.rejects(ask(made('exec', { exec_command: ['/etc/passwd'] })), { message: /permission denied/ })
  await t.rejects(ask(made('exec', { exec_command: ['a\0b'] })), { message: /null bytes/ })
  await t.rejects(ask(exec(t, 'kill -TERM $$')), { message: /was ended by SIGTERM$/ })
})

t.test('exec: more than 1 MiB of output is an error, and the program is killed', async (t) => {
  const dir = t.testdir()
  const endless = made('exec', command(dir, 'echo $$ > $dir/self; exec yes a:80'))
  await t.rejects(ask(endless), { message: /wrote more than 1048576 bytes/ })
  await until(() => hasEnded(join(dir, 'self')))
})

t.test('exec: a program that closes its output and stays is killed when aborted', async (t) => {
  const dir = t.testdir()
  const closed = made('exec', command(dir, 'exec >&- 2>&-; echo $$ > $dir/self; exec sleep 60'))
  const aborting = new AbortController()
  const asked = ask(closed, aborting.signal)
  await until(() => existsSync(join(dir, 'self')))
  aborting.abort(new Error('enough'))
  await t.rejects(asked, { message: 'enough' })
  await until(() => hasEnded(join(dir, 'self')))
})

t.test('exec: a descendant that holds the output does not keep it waiting', async (t) => {
  const dir = t.testdir()
  const held = made('exec', command(dir, 'sleep 60 & echo $! > $dir/child; echo a:80'))
  const began = performance.now()
  const { backends } = await ask(held)
  t.equal(backends.length, 1)
  t.ok(performance.now() - began < 5_000)
  await until(() => hasEnded(join(dir, 'child')), 'the descendant’s end')
})

t.test('exec: what a descendant writes soon after the program’s own end belongs to the list', async (t) => {
  const { backends } = await ask(exec(t, '(sleep 0.05; echo b:80; sleep 0.15; echo c:80) & echo a:80'))
  t.equal(backends.length, 3)
})

t.test('exec: a large list comes whole', async (t) => {
  const { backends } = await ask(exec(t, 'i=0; while [ $i -lt 3000 ]; do echo "host$i:80"; i=$((i+1)); done'))
  t.equal(backends.length, 3000)
})

import { readFileSync } from 'node:fs'
import type { AddressInfo, Socket } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import tls from 'node:tls'
import { configureLogging } from '../../src/core/log.ts'
import type { Check, Result, Target } from '../../src/health/check.ts'
import { unescapeGo } from '../../src/health/escapes.ts'
import * as kinds from '../../src/health/kinds.ts'
import { checkSettings, checkedAt, createCheck, protocolsOf } from '../../src/health/settings.ts'
import type { CheckName } from '../../src/health/settings.ts'
import { folder } from '../support/folder.ts'
import { script } from '../support/scripts.ts'
import { until } from '../support/until.ts'
import { executing } from './check/exec.ts'
import type { Case, Fixture, Section } from './check/fixture.ts'
import { probing } from './check/probe.ts'
import { at, certificate, local, nobody, speaks, tcp, udp } from './check/servers.ts'

configureLogging({ level: 'panic', output: 'stderr', format: 'text' })

const answers = (...chunks: string[]) => speaks([chunks.join('')])

/** A check and whom it is to be run against, as a server would have it. */
function made(kind: CheckName, section: Section, target: Target) {
  const settings = checkSettings.parse({ kind, interval: '1s', ...section })
  return { check: createCheck(settings)!, target: checkedAt(settings, target) }
}

/** What a check finds; a rejection is taken as the monitor takes it. */
async function found(
  kind: CheckName,
  one: Pick<Case, 'section' | 'target'>,
  signal = new AbortController().signal,
): Promise<Result> {
  const { check, target } = made(kind, one.section, one.target)
  return await ran(check, target, signal)
}

function ran(check: Check, target: Target, signal: AbortSignal): Promise<Result> {
  return check
    .run(target, signal)
    .catch((error: unknown): Result => ({ status: 'unhealthy', reason: (error as Error).message }))
}

function problems(section: unknown): string[] {
  const { error } = checkSettings.safeParse(section)
  return (error?.issues ?? []).map(({ path, message }) => `${path.join('.')}: ${message}`)
}

/** A kind without one is a test that fails. */
async function fixtureOf(kind: CheckName): Promise<Fixture | undefined> {
  try {
    return ((await import(`./check/${kind}.ts`)) as { fixture: Fixture }).fixture
  } catch (error) {
    t.fail(`${kind} has its fixture`, { error: String(error) })
    return undefined
  }
}

const PROXY = { 1: 'PROXY UNKNOWN\r\n', 2: '\r\n\r\n\0\r\nQUIT\n \0\0\0' }

const STATUS = { passes: 'healthy', fails: 'unhealthy', refused: 'unhealthy' } as const

/** What nobody's protocol is, and how it ends. */
const HOSTILE: Record<string, (socket: Socket) => unknown> = {
  'closes at once': (socket) => socket.end(),
  resets: (socket) => socket.resetAndDestroy(),
  'talks nonsense and closes': (socket) => socket.end(Buffer.from('\xff\xfe\0junk\0\0\0\n\r\n', 'latin1')),
  'never ends': (socket) => {
    const more = (error?: Error | null) =>
      void (error || socket.destroyed || socket.write(Buffer.alloc(50_000, 'x'), more))
    more()
  },
  'never ends a line of digits': (socket) => {
    const more = (error?: Error | null) =>
      void (error || socket.destroyed || socket.write(Buffer.alloc(50_000, '220-0\n'), more))
    more()
  },
}

for (const kind of Object.keys(kinds) as CheckName[]) {
  const fixture = await fixtureOf(kind)
  if (!fixture) continue

  for (const what of ['passes', 'fails', 'refused'] as const) {
    const make = fixture[what]
    t.test(`${kind}: ${what}, says why, and leaves nothing open`, async (t) => {
      if (typeof make === 'string') return void t.pass(`does not apply: ${make}`)
      const cases = await make(t)
      if (cases.length === 0) return void t.pass('cannot be tried here')
      for (const one of cases) {
        const { status, reason, ...more } = await found(kind, one)
        t.match(reason, one.reason)
        t.equal(status, STATUS[what], reason)
        t.same(more, one.more ?? {})
        await until(one.over ?? (() => true), `its end after: ${reason}`)
      }
    })
  }

  t.test(`${kind}: settles soon when aborted, and closes what it opened`, async (t) => {
    if (typeof fixture.hangs === 'string') return void t.pass(`does not apply: ${fixture.hangs}`)
    const one = await fixture.hangs(t)
    const aborting = new AbortController()
    const running = found(kind, one, aborting.signal)
    await until(one.begun!, 'the check')
    aborting.abort(new Error('enough'))
    const result = await running
    t.equal(result.status, 'unhealthy')
    t.match(result.reason, one.reason)
    await until(one.over!, 'its end')
  })

  t.test(`${kind}: aborted before it begins, it settles`, async (t) => {
    if (typeof fixture.hangs === 'string') return void t.pass(`does not apply: ${fixture.hangs}`)
    const result = await found(kind, await fixture.hangs(t), AbortSignal.abort(new Error('enough')))
    t.equal(result.status, 'unhealthy')
  })

  t.test(`${kind}: a hostile peer is not healthy, costs little, and is let go of`, async (t) => {
    if (typeof fixture.stream === 'string') return void t.pass(`does not apply: ${fixture.stream}`)
    for (const [how, serve] of Object.entries(HOSTILE)) {
      const { address, port, open } = await tcp(t, (socket) => void serve(socket.resume()))
      const { status, reason } = await found(kind, { section: fixture.stream(port), target: at(address) })
      t.not(status, 'healthy', `${how}: ${reason}`)
      t.ok(reason.length < 400, `${how}: ${reason}`)
      await until(() => open.size === 0, `the end of one that ${how}`)
    }
  })

  t.test(`${kind}: speaks a PROXY header first when told to`, async (t) => {
    if (typeof fixture.stream === 'string') return void t.pass(`does not apply: ${fixture.stream}`)
    for (const [version, header] of Object.entries(PROXY)) {
      let got = Buffer.alloc(0)
      const { address, port } = await tcp(t, (socket) =>
        socket.on('data', (chunk) => {
          got = Buffer.concat([got, chunk])
          socket.end()
        }),
      )
      const section = { ...fixture.stream(port), check_proxy_protocol: version }
      await found(kind, { section, target: at(address) })
      t.equal(got.subarray(0, header.length).toString('latin1'), header)
    }
  })

  t.test(`${kind}: what is wrong in its section is named, key by key`, async (t) => {
    const { section, keys } = fixture.wrong
    t.same(
      problems({ kind, interval: '1s', ...section }).filter((each) => !/^probe_/.test(each)),
      [],
    )
    const named = problems({ kind, interval: '1s', ...section, ...keys }).map((each) => each.split(/[:.]/)[0])
    t.same([...new Set(named)].sort(), Object.keys(keys).sort())
  })
}

t.test('none checks nobody, ping and probe of tcp need a stream', async (t) => {
  t.equal(createCheck(checkSettings.parse({ kind: 'none' })), undefined)
  t.same(protocolsOf('ping'), ['tcp', 'tls'])
  t.same(protocolsOf('exec'), ['tcp', 'tls', 'udp'])
})

t.test('a backend is up while any of its addresses answers', async (t) => {
  const { address } = await tcp(t, answers('PONG'))
  const dead = await nobody(t)
  t.match(await found('ping', { section: {}, target: at(dead, address) }), { status: 'healthy' })
  t.match(await found('probe', { section: probing(), target: at(dead, address) }), { status: 'healthy' })
  t.match(await found('ping', { section: {}, target: at(dead, dead) }), { reason: 'connection refused' })
})

t.test('an address that answers wins over one that stays silent, whose try is closed', async (t) => {
  const silent = await tcp(t, (socket) => socket.resume())
  const { address } = await tcp(t, answers('PONG'))
  t.match(await found('probe', { section: probing(), target: at(silent.address, address) }), {
    status: 'healthy',
  })
  await until(() => silent.open.size === 0)
})

t.test('a name with many addresses warns of nothing', async (t) => {
  const warnings: string[] = []
  const hear = (warning: Error) => void warnings.push(warning.message)
  process.on('warning', hear)
  t.teardown(() => process.off('warning', hear))
  const dead = await nobody(t)
  await found('ping', { section: {}, target: at(...Array.from({ length: 100 }, () => dead)) })
  await new Promise(setImmediate)
  t.same(warnings, [])
})

t.test('a unix socket is checked by its path', async (t) => {
  const path = join(folder(t), 'socket')
  await tcp(t, answers('PONG'), path)
  t.match(await found('ping', { section: {}, target: at({ path }) }), { status: 'healthy' })
  t.match(await found('probe', { section: probing(), target: at({ path }) }), { status: 'healthy' })
  const told = script(t.testdir(), 'check', 'test "$2" = "" && test $# = 2 && echo "$1"')
  const section = { ...executing(told), exec_expected_positive_output: path }
  t.match(await found('exec', { section, target: at({ path }) }), { status: 'healthy' })
  const gone = { path: join(folder(t), 'gone') }
  t.match(await found('ping', { section: {}, target: at(gone) }), { reason: 'no such socket' })
})

t.test('a backend on the client’s own port cannot be dialled, which says nothing of it', async (t) => {
  const result = await found('ping', { section: {}, target: at({ host: '127.0.0.1', port: 0 }) })
  t.match(result, { status: 'unknown', reason: 'its port is the one each client came to' })
})

t.test(
  'a check goes where check_host and check_port say, even for a unix socket or the client’s port',
  async (t) => {
    const { port } = await tcp(t, answers('PONG'))
    const moved = { ...probing(), check_port: port }
    const dead = await nobody(t)
    for (const address of [dead, { path: '/nowhere' }, { host: '127.0.0.1', port: 0 }])
      t.match(await found('probe', { section: moved, target: at(address) }), { status: 'healthy' })
    const target = at({ host: '10.0.0.1', port: 1 }, { host: '10.0.0.2', port: 2 })
    const elsewhere = { ...moved, check_host: '127.0.0.1' }
    t.match(await found('probe', { section: elsewhere, target }), { status: 'healthy' })
    const settings = checkSettings.parse({ kind: 'ping', interval: '1s', check_host: '::1' })
    t.same(checkedAt(settings, target), { address: target.address, endpoints: [{ host: '::1', port: 1 }] })
    t.same(checkedAt(settings, at({ path: '/x' })).endpoints, [{ path: '/x' }], 'a path has no port to keep')
    const unmoved = checkSettings.parse({ kind: 'ping', interval: '1s' })
    t.equal(checkedAt(unmoved, target), target)
  },
)

t.test('agent: what was called down stays down until it is called up', async (t) => {
  const says = ['down # disk', '75%', 'ready', 'up', '50%']
  const { port } = await tcp(t, (socket) => socket.resume().end(`${says.shift()}\n`))
  const { check, target } = made('agent', { agent_port: port }, at(local(1)))
  const { signal } = new AbortController()
  t.match(await ran(check, target, signal), { status: 'unhealthy', reason: 'agent says "down # disk"' })
  t.match(await ran(check, target, signal), {
    status: 'unhealthy',
    reason: /# disk/,
    advice: { share: 0.75 },
  })
  t.match(await ran(check, target, signal), { status: 'unhealthy', advice: { drain: false } })
  t.match(await ran(check, target, signal), { status: 'healthy' })
  t.match(await ran(check, target, signal), { status: 'healthy', advice: { share: 0.5 } })
})

t.test('agent: nothing it knows is a check that could not tell', async (t) => {
  const { port } = await tcp(t, (socket) => socket.resume().end('fine, thanks\n'))
  const result = await found('agent', { section: { agent_port: port }, target: at(local(1)) })
  t.same(result, {
    status: 'unknown',
    reason: 'agent says "fine, thanks", expected words such as up, down, drain, 75%',
  })
})

t.test('agent: it is sent what it is to be sent', async (t) => {
  let got = ''
  const { port } = await tcp(t, (socket) =>
    socket.on('data', (chunk) => {
      got += chunk.toString()
      socket.end('up\n')
    }),
  )
  const section = { agent_port: port, agent_send: 'web "1"\\n' }
  t.match(await found('agent', { section, target: at(local(1)) }), { status: 'healthy' })
  t.equal(got, 'web "1"\n')
})

t.test('tls: authorities that cannot be read say nothing of the backend', async (t) => {
  const section = { tls_verify: true, tls_cacert_path: join(t.testdir(), 'none.pem') }
  const result = await found('tls', { section, target: at(await nobody(t)) })
  t.match(result, { status: 'unknown', reason: /^tls_cacert_path: .*no such file/ })
})

t.test('http: the Host is the backend’s name with the port that is dialled, unless it is set', async (t) => {
  const hosts: (string | undefined)[] = []
  const { address, port } = await tcp(t, (socket) =>
    socket.on('data', (chunk) => {
      hosts.push(/^Host: (.*)\r$/m.exec(chunk.toString())?.[1])
      socket.end('HTTP/1.1 200 OK\r\n\r\n')
    }),
  )
  const target = { address: { host: 'web.example', port: 80 }, endpoints: [address] }
  await found('http', { section: {}, target })
  await found('http', { section: { http_host: 'other.example' }, target })
  await found('http', { section: {}, target: { ...target, address: { host: '::1', port } } })
  t.same(hosts, [`web.example:${port}`, 'other.example', `[::1]:${port}`])
})

t.test('http: a body that never ends does not matter to who asks for the status only', async (t) => {
  const { address, open } = await tcp(t, (socket) => {
    socket.write('HTTP/1.1 200 OK\r\n\r\n')
    const more = (error?: Error | null) =>
      void (error || socket.destroyed || socket.write(Buffer.alloc(50_000, 'x'), more))
    socket.once('data', () => more())
  })
  t.match(await found('http', { section: {}, target: at(address) }), { status: 'healthy' })
  const part = { http_body: 'xxxx', http_status: '200' }
  t.match(await found('http', { section: part, target: at(address) }), { status: 'healthy' })
  await until(() => open.size === 0)
})

t.test('a peer that has one more thing to say, for ever, is not listened to for ever', async (t) => {
  const sayings: [CheckName, string][] = [
    ['http', 'HTTP/1.1 100 Continue\r\n\r\n'],
    ['postgres', 'N\0\0\0\x05\0'],
    ['mysql', '\x01\0\0\0\xfe'],
  ]
  for (const [kind, saying] of sayings) {
    const begin = kind === 'mysql' ? '\x02\0\0\0\x0a0' : ''
    const { address, open } = await tcp(t, (socket) => {
      const more = () =>
        void (socket.destroyed || socket.write(Buffer.from(saying.repeat(100), 'latin1'), more))
      socket.once('data', () => more())
      socket.write(Buffer.from(begin, 'latin1'))
    })
    t.match(await found(kind, { section: {}, target: at(address) }), {
      status: 'unhealthy',
      reason: / too much /,
    })
    await until(() => open.size === 0)
  }
})

t.test(
  'a conversation that is over is ended before it is torn down: what was not read is no reset',
  async (t) => {
    const ends: string[] = []
    const { address } = await tcp(t, (socket) => {
      socket.on('error', (error: NodeJS.ErrnoException) => ends.push(String(error.code)))
      socket.on('end', () => ends.push('end'))
      // More than one read brings, and no more than is drained.
      socket.once('data', () => socket.write(`HTTP/1.1 200 OK\r\n\r\n${'x'.repeat(100_000)}`))
    })
    for (let i = 1; i <= 5; i++) {
      t.match(await found('http', { section: {}, target: at(address) }), { status: 'healthy' })
      await until(() => ends.length === i)
    }
    t.same(new Set(ends), new Set(['end']))
  },
)

t.test('exec: blanks around outputs do not count, on either side', async (t) => {
  const path = script(t.testdir(), 'check', 'echo 1')
  const section = { ...executing(path), exec_expected_positive_output: '1\n' }
  t.match(await found('exec', { section, target: at(local(80)) }), { status: 'healthy' })
})

t.test('exec: output that is neither changes nothing and is shown', async (t) => {
  const path = script(t.testdir(), 'check', 'echo 2')
  const result = await found('exec', { section: executing(path), target: at(local(80)) })
  t.same(result, { status: 'unknown', reason: 'printed "2", expected "up" or "down"' })
})

t.test(
  'exec: the command is one path, an IPv6 host is in brackets, a missing one is unhealthy',
  async (t) => {
    const path = script(t.testdir(), 'che ck', 'test "$1" = "[::1]" && echo up')
    const target = at({ host: '::1', port: 80 })
    t.match(await found('exec', { section: executing(path), target }), { status: 'healthy' })
    const missing = await found('exec', { section: executing(path + '2'), target })
    t.match(missing, { status: 'unhealthy', reason: /cannot run .*: no such file/ })
  },
)

t.test('probe: exactly as many bytes as expected are compared', async (t) => {
  const short = await tcp(t, (socket) => socket.end('PON'))
  const result = await found('probe', { section: probing(), target: at(short.address) })
  t.same(result, { status: 'unhealthy', reason: 'closed after 3 of 4 bytes' })
})

t.test('probe: what is sent and expected may be any bytes', async (t) => {
  const got: Buffer[] = []
  const { address } = await tcp(t, (socket) =>
    socket.on('data', (chunk: Buffer) => {
      got.push(chunk)
      socket.write(Buffer.from([0, 0xff, 0x41]))
    }),
  )
  const section = probing({ probe_send: '\\x00\\377\\u00e9', probe_recv: '\\x00\\xffA' })
  t.match(await found('probe', { section, target: at(address) }), { status: 'healthy' })
  t.same([...Buffer.concat(got)], [0, 0xff, 0xc3, 0xa9])
})

t.test('probe: a regular expression looks at so many bytes, anywhere in them', async (t) => {
  const { address } = await tcp(t, answers('HTTP/1.1 200 OK\r\n\xff'))
  const section = (probe_recv: string, probe_recv_len: unknown) =>
    probing({ probe_strategy: 'regexp', probe_recv, probe_recv_len })
  t.match(await found('probe', { section: section('20\\d', '15'), target: at(address) }), {
    status: 'healthy',
  })
  t.match(await found('probe', { section: section('OK', 12), target: at(address) }), { status: 'unhealthy' })
  t.match(await found('probe', { section: section('(?P<a>1+)\\.1', 15), target: at(address) }), {
    status: 'healthy',
  })
})

t.test('probe: datagrams are put together, and cut', async (t) => {
  const address = await udp(t, (message, reply) => {
    if (message.toString() !== 'PING\r\n') return
    reply('PO')
    reply('NG and more')
  })
  const section = probing({ probe_protocol: 'udp' })
  t.same(await found('probe', { section, target: at(address) }), {
    status: 'healthy',
    reason: 'answered "PONG"',
  })
})

t.test('probe: udp to nobody is refused, silence ends when aborted, a unix socket has none', async (t) => {
  const section = probing({ probe_protocol: 'udp' })
  const dead = await nobody(t)
  t.match(await found('probe', { section, target: at(dead) }), { reason: 'connection refused' })
  let asked = false
  const silent = await udp(t, () => (asked = true))
  const aborting = new AbortController()
  const running = found('probe', { section, target: at(silent) }, aborting.signal)
  await until(() => asked)
  aborting.abort(new Error('enough'))
  t.match(await running, { status: 'unhealthy', reason: 'enough' })
  t.match(await found('probe', { section, target: at({ path: '/x' }) }), { reason: /unix socket/ })
})

t.test('probe: a tls backend is verified by its configured name', async (t) => {
  const files = certificate(t, 'web.example')
  if (!files) return void t.pass('openssl is not installed')
  const ca = readFileSync(files.cert)
  const server = tls.createServer({ key: readFileSync(files.key), cert: ca }, answers('PONG'))
  server.on('tlsClientError', () => {})
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const endpoints = [local((server.address() as AddressInfo).port)]
  const target = (host: string): Target => ({ address: { host, port: 443 }, endpoints })
  const section = probing({ probe_protocol: 'tls' })

  t.match(await found('probe', { section, target: target('web.example') }), {
    status: 'unhealthy',
    reason: /self-signed certificate/,
  })
  const connect = (options: tls.ConnectionOptions) => tls.connect({ ...options, ca })
  const { probe } = await t.mockImport<typeof import('../../src/health/probe.ts')>(
    '../../src/health/probe.ts',
    { 'node:tls': { ...tls, connect } },
  )
  const parsed = checkSettings.parse({ kind: 'probe', interval: '1s', ...section })
  const trusting = probe.create(parsed as Parameters<typeof probe.create>[0])!
  const { signal } = new AbortController()
  t.match(await ran(trusting, target('web.example'), signal), { status: 'healthy' })
  t.match(await ran(trusting, target('other.example'), signal), { reason: /does not match certificate/ })
  t.match(await ran(trusting, target('127.0.0.1'), signal), { reason: /does not match certificate/ })
})

t.test('a healthcheck section has gobetween’s defaults', async (t) => {
  t.same(checkSettings.parse({ kind: 'none' }), {
    kind: 'none',
    interval: 0,
    timeout: 0,
    passes: 1,
    fails: 1,
  })
  t.match(checkSettings.parse({ kind: 'ping', interval: '2s', passes: '0', fails: -3 }), {
    passes: 1,
    fails: 1,
  })
  t.match(checkSettings.parse({ kind: 'ping', interval: '2s', passes: '2', fails: 3 }), {
    interval: 2000,
    passes: 2,
    fails: 3,
  })
  const written = checkSettings.parse({ kind: 'probe', interval: '2s', ...probing() })
  t.match(written, { probe_send: 'PING\\r\\n', probe_strategy: 'starts_with', probe_recv_len: 0 })
})

t.test('what is wrong in a healthcheck section is said, unknown kinds first', async (t) => {
  const kindsText = `kind: one of ${Object.keys(kinds).join(', ')}`
  t.same(problems({}), [kindsText])
  t.same(problems({ kind: 'smoke', interval: 'x', foo: 1 }), [kindsText])
  t.same(problems({ kind: 'ping' }), ['interval: a duration such as "2s"'])
  t.same(problems({ kind: 'ping', interval: '0' }), ['interval: a duration above 0'])
  t.same(problems({ kind: 'ping', interval: '1s', initial_status: 'up', fails: 1.5, passes: 'x' }), [
    'passes: a whole number',
    'fails: a whole number',
    'initial_status: one of healthy, unhealthy',
  ])
  t.same(problems({ kind: 'exec', interval: '1s' }), ['exec_command: a string'])
})

t.test('a probe has steps, or one exchange', async (t) => {
  const wrong = (more: Section) => problems({ kind: 'probe', interval: '1s', probe_protocol: 'tcp', ...more })
  const steps = [{ send: 'a\r\n"' }, { expect: 'b', strategy: 'contains' }]
  t.same(wrong({ probe_steps: steps }), [])
  t.same(wrong({}), ['probe_send: a string', 'probe_recv: a string'])
  t.same(wrong({ probe_steps: steps, probe_send: 'x' }), ['probe_steps: nothing, since there is probe_send'])
  t.same(wrong({ probe_steps: [{ send: 'a' }] }), ['probe_steps: at least one expect'])
  t.same(wrong({ probe_steps: [{ expect: '(', strategy: 'regexp' }, { expect: '\\q' }, {}, 'x'] }), [
    'probe_steps.0.expect: a regular expression (RE2 syntax)',
    'probe_steps.1.expect: text with Go escapes, such as "OK\\r\\n"',
    'probe_steps.2: send or expect, one of them',
    'probe_steps.3: a table with send or expect',
  ])
  t.same(wrong({ probe_steps: [{ expect: 'a' }, { send: 'b', strategy: 'regexp' }] }), [
    'probe_steps.1.strategy: nothing: it belongs to expect',
  ])
})

t.test('what is wrong between keys is said', async (t) => {
  const wrong = (section: Section) => problems({ interval: '1s', ...section })
  t.same(wrong({ kind: 'agent' }), ['agent_port: a port, 1 to 65535'])
  t.same(wrong({ kind: 'redis', redis_username: 'x' }), [
    'redis_password: a string, since there is a redis_username',
  ])
  t.same(wrong({ kind: 'tls', tls_cacert_path: '/x' }), ['tls_cacert_path: nothing: tls_verify is false'])
  t.same(wrong({ kind: 'dns', dns_name: 'x', check_proxy_protocol: '1' }), [
    'check_proxy_protocol: nothing, since dns_protocol is udp',
  ])
  t.same(wrong({ kind: 'http', http_body: 'x', http_body_regexp: 'y', http_method: 'HEAD' }), [
    'http_body_regexp: nothing, since there is http_body',
    'http_method: GET or OPTIONS, since a body is expected',
  ])
  t.same(wrong({ kind: 'https', http_headers: { host: 'x' } }), ['http_headers: no Host: that is http_host'])
  for (const good of ['200', '2xx', ' 200-299 ,404', '1XX,5xx'])
    t.same(wrong({ kind: 'http', http_status: good }), [], good)
  for (const bad of ['', '20', '600', '200-', '2xx-3xx', '299-200', '200;201'])
    t.same(wrong({ kind: 'http', http_status: bad }).length, 1, bad)
})

t.test('what a probe needs depends on its strategy', async (t) => {
  const wrong = (more: Section) => problems({ kind: 'probe', interval: '1s', ...probing(more) })
  t.same(wrong({}), [])
  t.same(wrong({ probe_recv_len: 4 }), [
    'probe_recv_len: nothing: starts_with reads as much as probe_recv is long',
  ])
  t.same(wrong({ probe_send: 'say "hi"', probe_protocol: 'sctp' }), [
    'probe_protocol: one of tcp, udp, tls',
    'probe_send: text with Go escapes, such as "PING\\r\\n"',
  ])
  t.same(wrong({ probe_recv: '\\q' }), ['probe_recv: text with Go escapes, such as "PING\\r\\n"'])
  t.same(wrong({ probe_strategy: 'regexp', probe_recv: '(' }), [
    'probe_recv_len: a whole number, 1 or more, as regexp needs it',
    'probe_recv: a regular expression (RE2 syntax)',
  ])
  t.same(wrong({ probe_strategy: 'regexp', probe_recv: '\\d', probe_recv_len: '4' }), [])
  t.same(wrong({ probe_send: '', probe_recv: '' }), [
    'probe_send: a string that is not empty',
    'probe_recv: a string that is not empty',
  ])
  t.same(wrong({ probe_strategy: 'contains' }), ['probe_strategy: one of starts_with, regexp'])
})

t.test('Go’s escapes become bytes, and what Go refuses is refused', async (t) => {
  const bytes = (text: string) => {
    const read = unescapeGo(text)
    return read && Buffer.from(read).toString('hex')
  }
  t.equal(bytes('\\a\\b\\f\\n\\r\\t\\v\\\\\\"'), '07080c0a0d090b5c22')
  t.equal(bytes('\\x00\\xFf\\101\\377'), '00ff41ff')
  t.equal(bytes('é\\u00e9\\U0001F600'), 'c3a9c3a9f09f9880')
  t.equal(bytes(''), '')
  for (const wrong of ['"', '\n', '\\', "\\'", '\\q', '\\x1', '\\400', '\\18', '\\ud800', '\\U00110000'])
    t.equal(bytes(wrong), undefined, JSON.stringify(wrong))
})

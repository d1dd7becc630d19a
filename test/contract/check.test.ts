import { execFileSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { existsSync, readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import tls from 'node:tls'
import type { Address } from '../../src/core/address.ts'
import { configureLogging } from '../../src/core/log.ts'
import type { Check, Result, Target } from '../../src/health/check.ts'
import { unescapeGo } from '../../src/health/escapes.ts'
import * as kinds from '../../src/health/kinds.ts'
import { checkSettings, createCheck, protocolsOf } from '../../src/health/settings.ts'
import type { CheckName } from '../../src/health/settings.ts'
import { hasEnded, script } from '../support/scripts.ts'
import { until } from '../support/until.ts'

configureLogging({ level: 'panic', output: 'stderr', format: 'text' })

type Section = Record<string, unknown>

/** A section and whom it checks. */
interface Case {
  section: Section
  target: Target
  /** What the reason says. */
  reason: RegExp
  /** True when nothing the check began is left. */
  over?: () => boolean | Promise<boolean>
  begun?: () => boolean
}

type Fixture = Record<'passes' | 'fails' | 'refused' | 'hangs', ((t: Test) => Promise<Case>) | string>

const at = (...endpoints: Address[]): Target => ({ address: endpoints[0]!, endpoints })
const local = (port: number): Address => ({ host: '127.0.0.1', port })

/** A TCP server on a free port that treats each client by `serve`. */
async function tcp(t: Test, serve: (socket: Socket) => void, where: string | number = 0) {
  const open = new Set<Socket>()
  const server: Server = createServer((socket) => {
    open.add(socket)
    socket.on('close', () => open.delete(socket))
    socket.on('error', () => {})
    serve(socket)
  })
  await new Promise<void>((resolve) => {
    if (typeof where === 'string') server.listen(where, resolve)
    else server.listen(where, '127.0.0.1', resolve)
  })
  t.teardown(() => {
    for (const socket of open) socket.destroy()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return { open, address: local(port), server }
}

/** A UDP socket on a free port that treats each datagram by `serve`. */
async function udp(
  t: Test,
  serve: (message: string, reply: (text: string) => void) => void,
): Promise<Address> {
  const socket = createSocket('udp4')
  socket.on('message', (message, from) =>
    serve(message.toString(), (text) => socket.send(text, from.port, from.address)),
  )
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve))
  t.teardown(() => socket.close())
  return local(socket.address().port)
}

/** An address where nobody listens: taken, then given back. */
async function nobody(t: Test): Promise<Address> {
  const { address, server } = await tcp(t, () => {})
  await new Promise((resolve) => server.close(resolve))
  return address
}

const answers =
  (...chunks: string[]) =>
  (socket: Socket) =>
    socket.once('data', () => {
      for (const chunk of chunks) socket.write(chunk)
    })

const probing = (more: Section = {}): Section => ({
  probe_protocol: 'tcp',
  probe_send: 'PING\\r\\n',
  probe_recv: 'PONG',
  ...more,
})

const noTargets = 'it checks nobody'

const fixtures: Record<CheckName, Fixture> = {
  none: { passes: noTargets, fails: noTargets, refused: noTargets, hangs: noTargets },
  ping: {
    async passes(t) {
      const { address, open } = await tcp(t, (socket) => socket.resume())
      return { section: {}, target: at(address), reason: /^connected$/, over: () => open.size === 0 }
    },
    fails: 'it only asks for a connection',
    async refused(t) {
      return { section: {}, target: at(await nobody(t)), reason: /^connection refused$/ }
    },
    hangs: 'loopback has no address that stays silent',
  },
  exec: {
    async passes(t) {
      const path = script(t.testdir(), 'check', 'test "$1:$2:$#" = 10.0.0.1:80:2 && echo up')
      return {
        section: executing(path),
        target: at({ host: '10.0.0.1', port: 80 }),
        reason: /^printed "up"$/,
      }
    },
    async fails(t) {
      const path = script(t.testdir(), 'check', 'printf "  down \\n"')
      return { section: executing(path), target: at(local(80)), reason: /^printed "down"$/ }
    },
    async refused(t) {
      const path = script(t.testdir(), 'check', 'echo up; echo no such table >&2; exit 2')
      return {
        section: executing(path),
        target: at(local(80)),
        reason: /exited with status 2: no such table$/,
      }
    },
    async hangs(t) {
      const dir = t.testdir()
      const path = script(dir, 'check', 'sleep 60 & echo $! > $dir/child; echo $$ > $dir/self; wait')
      return {
        section: executing(path),
        target: at(local(80)),
        reason: /enough/,
        begun: () => existsSync(join(dir, 'self')),
        over: () => hasEnded(join(dir, 'self')) && hasEnded(join(dir, 'child')),
      }
    },
  },
  probe: {
    async passes(t) {
      const { address, open } = await tcp(t, answers('PO', 'NG and more'))
      const over = () => open.size === 0
      return { section: probing(), target: at(address), reason: /^answered "PONG"$/, over }
    },
    async fails(t) {
      const { address, open } = await tcp(t, answers('NOPE'))
      const over = () => open.size === 0
      return { section: probing(), target: at(address), reason: /^answered "NOPE"$/, over }
    },
    async refused(t) {
      return { section: probing(), target: at(await nobody(t)), reason: /^connection refused$/ }
    },
    async hangs(t) {
      const { address, open } = await tcp(t, (socket) => socket.resume())
      return {
        section: probing(),
        target: at(address),
        reason: /enough/,
        begun: () => open.size > 0,
        over: () => open.size === 0,
      }
    },
  },
}

function executing(path: string): Section {
  return { exec_command: path, exec_expected_positive_output: 'up', exec_expected_negative_output: 'down' }
}

function made(kind: CheckName, section: Section): Check | undefined {
  return createCheck(checkSettings.parse({ kind, interval: '1s', ...section }))
}

/** What a check finds; a rejection is taken as the monitor takes it. */
async function found(
  kind: CheckName,
  { section, target }: Pick<Case, 'section' | 'target'>,
): Promise<Result> {
  return await ran(made(kind, section)!, target, new AbortController().signal)
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

t.test('every kind has its fixture', async (t) => {
  t.same(Object.keys(fixtures).sort(), Object.keys(kinds).sort())
})

const STATUS = { passes: 'healthy', fails: 'unhealthy', refused: 'unhealthy' } as const

for (const [kind, fixture] of Object.entries(fixtures) as [CheckName, Fixture][]) {
  for (const what of ['passes', 'fails', 'refused'] as const) {
    const make = fixture[what]
    t.test(`${kind}: ${what}, says why, and leaves nothing open`, async (t) => {
      if (typeof make === 'string') return void t.pass(`does not apply: ${make}`)
      const one = await make(t)
      const { status, reason } = await found(kind, one)
      t.equal(status, STATUS[what])
      t.match(reason, one.reason)
      await until(one.over ?? (() => true))
    })
  }

  t.test(`${kind}: settles soon when aborted, and closes what it opened`, async (t) => {
    if (typeof fixture.hangs === 'string') return void t.pass(`does not apply: ${fixture.hangs}`)
    const { section, target, reason, begun, over } = await fixture.hangs(t)
    const aborting = new AbortController()
    const running = ran(made(kind, section)!, target, aborting.signal)
    await until(begun!, 'the check')
    aborting.abort(new Error('enough'))
    const result = await running
    t.equal(result.status, 'unhealthy')
    t.match(result.reason, reason)
    await until(over!, 'its end')
  })

  t.test(`${kind}: aborted before it begins, it settles`, async (t) => {
    if (typeof fixture.hangs === 'string') return void t.pass(`does not apply: ${fixture.hangs}`)
    const { section, target } = await fixture.hangs(t)
    const result = await ran(made(kind, section)!, target, AbortSignal.abort(new Error('enough')))
    t.equal(result.status, 'unhealthy')
  })
}

t.test('none checks nobody, ping and probe of tcp need a stream', async (t) => {
  t.equal(made('none', {}), undefined)
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
  const path = join(t.testdir(), 'socket')
  await tcp(t, answers('PONG'), path)
  t.match(await found('ping', { section: {}, target: at({ path }) }), { status: 'healthy' })
  t.match(await found('probe', { section: probing(), target: at({ path }) }), { status: 'healthy' })
  const told = script(t.testdir(), 'check', 'test "$2" = "" && test $# = 2 && echo "$1"')
  const section = { ...executing(told), exec_expected_positive_output: path }
  t.match(await found('exec', { section, target: at({ path }) }), { status: 'healthy' })
  const gone = { path: join(t.testdir(), 'gone') }
  t.match(await found('ping', { section: {}, target: at(gone) }), { reason: 'no such socket' })
})

t.test('a backend on the client’s own port cannot be dialled, which says nothing of it', async (t) => {
  const result = await found('ping', { section: {}, target: at({ host: '127.0.0.1', port: 0 }) })
  t.match(result, { status: 'unknown', reason: 'its port is the one each client came to' })
})

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
    if (message !== 'PING\r\n') return
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
  const running = ran(made('probe', section)!, at(silent), aborting.signal)
  await until(() => asked)
  aborting.abort(new Error('enough'))
  t.match(await running, { status: 'unhealthy', reason: 'enough' })
  t.match(await found('probe', { section, target: at({ path: '/x' }) }), { reason: /unix socket/ })
})

t.test('probe: a tls backend is verified by its configured name', needsOpenssl(), async (t) => {
  const dir = t.testdir()
  const [key, cert] = [join(dir, 'key.pem'), join(dir, 'cert.pem')]
  const request = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=web'.split(
    ' ',
  )
  const names = ['-addext', 'subjectAltName=DNS:web.example', '-keyout', key, '-out', cert]
  execFileSync('openssl', [...request, ...names], { stdio: 'ignore' })
  const ca = readFileSync(cert)
  const server = tls.createServer({ key: readFileSync(key), cert: ca }, answers('PONG'))
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
  const trusting = probe.create({
    probe_protocol: 'tls',
    probe_send: 'PING',
    probe_recv: 'PONG',
    probe_strategy: 'starts_with',
    probe_recv_len: 0,
  })!
  const { signal } = new AbortController()
  t.match(await ran(trusting, target('web.example'), signal), { status: 'healthy' })
  t.match(await ran(trusting, target('other.example'), signal), { reason: /does not match certificate/ })
  t.match(await ran(trusting, target('127.0.0.1'), signal), { reason: /does not match certificate/ })
})

function needsOpenssl(): { skip: string | false } {
  try {
    execFileSync('openssl', ['version'])
    return { skip: false }
  } catch {
    return { skip: 'openssl is not installed' }
  }
}

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
  t.same(problems({ kind: 'http', interval: 'x', foo: 1 }), [kindsText])
  t.same(problems({ kind: 'ping' }), ['interval: a duration such as "2s"'])
  t.same(problems({ kind: 'ping', interval: '0' }), ['interval: a duration above 0'])
  t.same(problems({ kind: 'ping', interval: '1s', initial_status: 'up', fails: 1.5, passes: 'x' }), [
    'passes: a whole number',
    'fails: a whole number',
    'initial_status: one of healthy, unhealthy',
  ])
  t.same(problems({ kind: 'exec', interval: '1s' }), ['exec_command: a string'])
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

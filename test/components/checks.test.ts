// The health checks against the servers they are for: well, and ill in the server's own way.

import { spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { Test } from 'tap'
import { configureLogging } from '../../src/core/log.ts'
import type { Result } from '../../src/health/check.ts'
import { checkSettings, checkedAt, createCheck } from '../../src/health/settings.ts'
import { certificate, endOf } from '../contract/check/servers.ts'
import { whyNot } from '../support/component.ts'
import { folder } from '../support/folder.ts'
import { freePort, freePorts } from '../support/spawned.ts'
import { until } from '../support/until.ts'

configureLogging({ level: 'panic', output: 'stderr', format: 'text' })

const SCRIPT = fileURLToPath(new URL('../../scripts/components/checks.sh', import.meta.url))

type Section = Record<string, unknown> & { kind: string }

/** One check of a server on `port`. */
async function checked(section: Section, port: number): Promise<Result> {
  const settings = checkSettings.parse({ interval: '1s', ...section })
  const address = { host: '127.0.0.1', port }
  const target = checkedAt(settings, { address, endpoints: [address] })
  return createCheck(settings)!
    .run(target, AbortSignal.timeout(10_000))
    .catch((error: unknown): Result => ({ status: 'unhealthy', reason: (error as Error).message }))
}

class Daemon {
  readonly name: string
  readonly dir: string
  readonly port: number
  /** Why it cannot be tried here. */
  missing: string | undefined
  readonly #t: Test

  constructor(t: Test, name: string, port: number) {
    this.#t = t
    this.name = name
    this.dir = join(folder(t), name)
    this.port = port
    // Others than us are to find it.
    chmodSync(join(this.dir, '..'), 0o711)
    mkdirSync(this.dir)
    t.teardown(() => this.stop())
  }

  start(...more: string[]): this {
    const started = this.#run('start', this.dir, this.name, String(this.port), ...more)
    this.missing = whyNot(started) || undefined
    if (!this.missing) this.#t.comment(`real: ${this.name}`)
    return this
  }

  stop(): void {
    this.#run('stop', this.dir)
  }

  get log(): string {
    return readFileSync(join(this.dir, 'server.log'), 'utf8')
  }

  #run(...words: string[]) {
    return spawnSync(SCRIPT, words, { encoding: 'utf8', env: { ...process.env, NODE_OPTIONS: '' } })
  }
}

/** Starts it, and says why the test ends here when it is not installed. */
async function daemon(t: Test, name: string, ...more: string[]): Promise<Daemon | undefined> {
  const started = new Daemon(t, name, await freePort()).start(...more)
  if (!started.missing) return started
  t.comment(`skipped: ${started.missing}`)
  t.pass(started.missing, { skip: started.missing })
  return undefined
}

t.test('redis: up, behind a password, and still loading', async (t) => {
  const redis = await daemon(t, 'redis', '--enable-debug-command', 'yes')
  if (!redis) return
  t.same(await checked({ kind: 'redis' }, redis.port), { status: 'healthy', reason: 'answered "+PONG"' })
  t.match(await checked({ kind: 'redis', redis_password: 'x' }, redis.port), {
    status: 'unhealthy',
    reason: /^answered "-ERR AUTH <password> called without any password configured/,
  })
  // Enough to load for a while, at a pause a key.
  const steps = ['*3\r\n$5\r\nDEBUG\r\n$8\r\nPOPULATE\r\n$6\r\n200000\r\n', '*1\r\n$4\r\nSAVE\r\n']
  for (const send of steps) {
    const probe_steps = [{ send }, { expect: '+OK' }]
    t.match(await checked({ kind: 'probe', probe_protocol: 'tcp', probe_steps }, redis.port), {
      status: 'healthy',
    })
  }
  redis.stop()
  const slowly = ['--key-load-delay', '200', '--loading-process-events-interval-bytes', '1024']
  redis.start(...slowly)
  t.same(await checked({ kind: 'redis' }, redis.port), {
    status: 'unhealthy',
    reason: 'answered "-LOADING Redis is loading the dataset in memory"',
  })
  redis.stop()

  const guarded = await daemon(t, 'redis', '--requirepass', 'sesame')
  t.match(await checked({ kind: 'redis' }, guarded!.port), {
    status: 'unhealthy',
    reason: 'answered "-NOAUTH Authentication required."',
  })
  t.match(await checked({ kind: 'redis', redis_password: 'x' }, guarded!.port), {
    status: 'unhealthy',
    reason: /^answered "-WRONGPASS invalid username-password pair/,
  })
  const login = { redis_username: 'default', redis_password: 'sesame' }
  t.match(await checked({ kind: 'redis', ...login }, guarded!.port), { status: 'healthy' })
})

t.test('postgres: up, full, refusing, and starting', async (t) => {
  const postgres = new Daemon(t, 'postgres', await freePort())
  const access = (line: string) => writeFileSync(join(postgres.dir, 'pg_hba.conf'), `${line}\n`)
  access('host all all 127.0.0.1/32 trust')
  const few = ['-c', 'max_connections=4', '-c', 'superuser_reserved_connections=0', '-c', 'max_wal_senders=0']
  postgres.start(...few, '-c', 'log_min_messages=log')
  if (postgres.missing) return void t.pass(postgres.missing, { skip: postgres.missing })
  const user: Section = { kind: 'postgres', postgres_user: 'postgres' }
  t.same(await checked(user, postgres.port), { status: 'healthy', reason: 'let in' })
  t.notMatch(postgres.log, /unexpected EOF|reset by peer|FATAL/, 'it has nothing to complain of')
  t.match(await checked({ kind: 'postgres' }, postgres.port), {
    status: 'healthy',
    reason: 'answered FATAL 28000: "role \\"fairlead\\" does not exist"',
  })
  t.match(await checked({ ...user, postgres_user: 'nobody' }, postgres.port), {
    status: 'unhealthy',
    reason: /28000: "role .*nobody.* does not exist"$/,
  })
  t.match(await checked({ ...user, postgres_database: 'web' }, postgres.port), {
    status: 'unhealthy',
    reason: /3D000: "database .*web.* does not exist"$/,
  })
  const clients = await Promise.all(Array.from({ length: 4 }, () => loggedIn(t, postgres.port)))
  t.match(await checked({ kind: 'postgres' }, postgres.port), {
    status: 'unhealthy',
    reason: 'answered FATAL 53300: "sorry, too many clients already"',
  })
  for (const client of clients) client.destroy()

  postgres.stop()
  access('host all all 127.0.0.1/32 scram-sha-256')
  postgres.start(...few)
  const before = postgres.log.length
  t.same(await checked(user, postgres.port), { status: 'healthy', reason: 'asked for a password' })
  t.notMatch(postgres.log.slice(before), /FATAL|LOG/, 'and says nothing of whom it asked')

  postgres.stop()
  // A standby that waits for its first record lets nobody in.
  writeFileSync(join(postgres.dir, 'standby.signal'), '')
  postgres.start(...few, '-c', 'hot_standby=off', '-c', 'restore_command=false')
  for (const section of [user, { kind: 'postgres' }])
    t.match(await checked(section, postgres.port), {
      status: 'unhealthy',
      reason: /^answered FATAL 57P03: "/,
    })
})

/** A connection that has a session on a PostgreSQL server. */
async function loggedIn(t: Test, port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  t.teardown(() => socket.destroy())
  const body = Buffer.from('\0\x03\0\0user\0postgres\0\0', 'latin1')
  const hello = Buffer.concat([Buffer.from([0, 0, 0, body.length + 4]), body])
  let ready = false
  socket.on('data', (chunk: Buffer) => (ready ||= chunk.includes('Z\0\0\0\x05I')))
  socket.write(hello)
  await until(() => ready, 'a session')
  return socket
}

t.test('mysql: up, refusing, full, and never driven to block this host', async (t) => {
  const mysql = new Daemon(t, 'mysql', await freePort())
  // A server blocks only whom it knows a name for, and never 127.0.0.1.
  const client = '10.99.88.77'
  writeFileSync(join(mysql.dir, 'hosts'), `127.0.0.1 localhost\n${client} balancer.test\n`)
  mysql.start('--max-connect-errors=2', '--proxy-protocol-networks=127.0.0.1')
  if (mysql.missing) return void t.pass(mysql.missing, { skip: mysql.missing })
  const user: Section = { kind: 'mysql', mysql_user: 'probe' }
  t.same(await checked(user, mysql.port), { status: 'healthy', reason: 'logged in' })
  t.notMatch(mysql.log, /Aborted connection/, 'it has nothing to complain of')
  t.match(await checked({ ...user, mysql_user: 'locked' }, mysql.port), {
    status: 'unhealthy',
    reason: /^answered error 1045: "Access denied for user 'locked'@/,
  })
  if (process.getuid?.() !== 0) t.comment('skipped: only root can give a server its own /etc/hosts')
  else {
    const ours = await speakingFor(t, mysql.port, client)
    for (let i = 0; i < 6; i++)
      t.match(await checked({ kind: 'mysql' }, ours), { status: 'healthy', reason: /^answered error 1045: / })
    t.match(await checked(user, ours), { status: 'healthy' }, 'logins that are refused do not count')
    // What a bare connection leads to.
    for (let i = 0; i < 6; i++) await checked({ kind: 'ping' }, ours)
    // The reset behind that answer may overtake it in the forwarder.
    const blocked = /^answered error 1129: "Host .* is blocked because of many connection errors/
    let last = await checked({ kind: 'mysql' }, ours)
    await until(async () => {
      if (!blocked.test(last.reason)) last = await checked({ kind: 'mysql' }, ours)
      return blocked.test(last.reason)
    }, 'the block')
    t.equal(last.status, 'unhealthy')
  }

  mysql.stop()
  mysql.start('--max-connections=10')
  await until(async () => (await checked(user, mysql.port)).status === 'healthy', 'it to be up again')
  const held = Array.from({ length: 12 }, () =>
    connect(mysql.port, '127.0.0.1')
      .on('error', () => {})
      .resume(),
  )
  t.teardown(() => held.forEach((socket) => socket.destroy()))
  const full = 'answered error 1040: "Too many connections"'
  await until(async () => (await checked(user, mysql.port)).reason === full, 'a full server')
})

/** A port whose connections to `port` say that they come from `client`. */
async function speakingFor(t: Test, port: number, client: string): Promise<number> {
  const server = createServer((socket) => {
    const onward = connect(port, '127.0.0.1')
    onward.write(`PROXY TCP4 ${client} 127.0.0.1 1 ${port}\r\n`)
    socket.on('error', () => {}).pipe(onward)
    onward.on('error', () => {}).pipe(socket)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  return (server.address() as AddressInfo).port
}

t.test('smtp: up, and turning us away at our name', async (t) => {
  const smtp = await daemon(t, 'smtp')
  if (!smtp) return
  t.match(await checked({ kind: 'smtp', smtp_domain: 'lb.example' }, smtp.port), {
    status: 'healthy',
    reason: /^answered "250 .* Hello lb\.example/,
  })
  await until(() => smtp.log.includes('disconnected reason=quit'), 'a proper end')
  smtp.stop()
  smtp.start('filter "deaf" phase helo match helo { "localhost" } reject "550 not you"', 'filter "deaf"')
  t.match(await checked({ kind: 'smtp' }, smtp.port), {
    status: 'unhealthy',
    reason: 'answered "550 not you", expected 250',
  })
})

t.test('ldap: up, and letting nobody in without a name', async (t) => {
  const ldap = await daemon(t, 'ldap')
  if (!ldap) return
  t.same(await checked({ kind: 'ldap' }, ldap.port), { status: 'healthy', reason: 'bound' })
  await until(() => ldap.log.includes('UNBIND'), 'a proper end')
  ldap.stop()
  ldap.start('disallow bind_anon')
  t.same(await checked({ kind: 'ldap' }, ldap.port), {
    status: 'unhealthy',
    reason: 'answered result 48: "anonymous bind disallowed"',
  })
})

t.test('http, https and tls: nginx up, ill, and with a certificate that will not do', async (t) => {
  const [port, securePort] = await freePorts(2)
  const nginx = new Daemon(t, 'nginx', port!)
  const files = certificate(t, 'web.example')
  if (files) {
    copyFileSync(files.cert, join(nginx.dir, 'cert.pem'))
    copyFileSync(files.key, join(nginx.dir, 'key.pem'))
  }
  nginx.start('location / { return 200 "all good"; } location /ill { return 503; }')
  if (nginx.missing) return void t.pass(nginx.missing, { skip: nginx.missing })
  const http: Section = { kind: 'http', http_path: '/health' }
  t.same(await checked(http, port!), { status: 'healthy', reason: 'status 200' })
  t.match(await checked({ ...http, http_body: 'good' }, port!), { status: 'healthy' })
  t.match(await checked({ ...http, http_body: 'bad' }, port!), {
    status: 'unhealthy',
    reason: 'status 200, but its body lacks "bad"',
  })
  t.match(await checked({ kind: 'http', http_method: 'HEAD' }, port!), { status: 'healthy' })
  t.match(await checked({ kind: 'http', http_path: '/ill', http_status: '2xx' }, port!), {
    status: 'unhealthy',
    reason: 'status 503, expected 2xx',
  })
  await until(() => readFileSync(join(nginx.dir, 'logs/access.log'), 'utf8').split('\n').length === 6)
  t.equal(readFileSync(join(nginx.dir, 'logs/error.log'), 'utf8').match(/reset|client prematurely/), null)
  if (!files) return void t.comment('skipped: openssl is not installed')
  const certificateEnds = endOf(files)
  t.same(await checked({ ...http, kind: 'https' }, securePort!), {
    status: 'healthy',
    reason: 'status 200',
    certificateEnds,
  })
  t.match(await checked({ kind: 'tls' }, securePort!), { status: 'healthy', certificateEnds })
  const verified = { tls_verify: true, tls_cacert_path: files.cert }
  t.match(await checked({ kind: 'tls', ...verified, tls_server_name: 'web.example' }, securePort!), {
    status: 'healthy',
  })
  t.match(await checked({ kind: 'tls', ...verified, tls_server_name: 'other.example' }, securePort!), {
    status: 'unhealthy',
    reason: /other\.example\. is not in the cert's altnames/,
    certificateEnds,
  })
  t.match(await checked({ kind: 'tls' }, port!), { status: 'unhealthy', reason: /^tls handshake failed: / })
})

t.test('dns: a server that knows the name, one that does not, and one that will not say', async (t) => {
  const knot = await daemon(t, 'knot')
  if (!knot) return
  for (const dns_protocol of ['udp', 'tcp']) {
    const dns = (dns_name: string): Section => ({ kind: 'dns', dns_name, dns_protocol })
    t.same(await checked(dns('ns.test.'), knot.port), { status: 'healthy', reason: 'answered NOERROR' })
    t.match(await checked(dns('gone.test'), knot.port), {
      status: 'unhealthy',
      reason: 'answered NXDOMAIN, expected NOERROR',
    })
    t.match(await checked({ ...dns('example.com'), dns_rcode: ['REFUSED'] }, knot.port), {
      status: 'healthy',
      reason: 'answered REFUSED',
    })
  }
})

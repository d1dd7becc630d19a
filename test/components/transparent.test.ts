// What only routes can show: backends that see the address of the client, clients on their way to others, marks, bytes
// that come with the SYN, and addresses that mean something on one link alone. A client, the balancer and a backend are three hosts with cables between them.

import { execFile, spawn } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import type { Test } from 'tap'
import { whyNot } from '../support/component.ts'
import { folder } from '../support/folder.ts'
import { Launched } from '../support/launched.ts'
import { PLANES } from '../support/planes.ts'
import { until } from '../support/until.ts'

const run = promisify(execFile)
const SCRIPT = fileURLToPath(new URL('../../scripts/components/transparent.sh', import.meta.url))
const COMMAND = fileURLToPath(new URL('../../bin/fairlead', import.meta.url))

/** Says who came, then sends back what it hears. */
const BACKEND = `
  require('node:net').createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {}).write(socket.remoteAddress.replace('::ffff:', '') + '\\n')
    socket.pipe(socket)
  }).listen(4000, '::', () => console.log('ready'))`

/** Connects to HOST PORT, sends so many bytes, and says what it heard: the first line, and how many bytes follow. */
const CLIENT = `
  const [host, port, bytes] = process.argv.slice(1)
  let heard = ''
  require('node:net').connect({ host, port, allowHalfOpen: true })
    .on('error', () => {})
    .on('data', (chunk) => (heard += chunk))
    .on('close', () => console.log(heard.split('\\n')[0], heard.length - heard.indexOf('\\n') - 1))
    .on('end', function () { this.end() })
    .end('x'.repeat(bytes))`

/** The same, with the bytes in the SYN as soon as the server has given out its cookie. */
const FAST_CLIENT = `
import socket, sys
client = socket.socket()
client.sendto(b'x' * int(sys.argv[3]), socket.MSG_FASTOPEN, (sys.argv[1], int(sys.argv[2])))
client.shutdown(socket.SHUT_WR)
heard = b''.join(iter(lambda: client.recv(4096), b'')).decode()
print(heard.split('\\n')[0], len(heard) - heard.index('\\n') - 1)`

/** Arguments of the script that run a program on a host: tap loads itself into every Node its tests start. */
const on = (dir: string, host: string, argv: readonly string[]) => [
  'exec',
  dir,
  host,
  ...['env', '-u', 'NODE_OPTIONS', ...argv],
]

const native = PLANES.find(({ name }) => name === 'native')!

/** Makes the hosts; returns where, or why not. */
async function hosts(t: Test, way: string): Promise<{ dir: string; absent: string | false }> {
  const dir = folder(t)
  t.teardown(() => run(SCRIPT, ['stop', dir]))
  try {
    await run(SCRIPT, ['start', dir, way])
    return { dir, absent: false }
  } catch (error) {
    const { code, stderr } = error as { code: number; stderr: string }
    return { dir, absent: whyNot({ status: code, stderr }) }
  }
}

/** Starts a program on a host and resolves when it has said `ready`. */
async function start(t: Test, dir: string, host: string, ready: string, argv: string[]): Promise<Launched> {
  const launched = new Launched(spawn(SCRIPT, on(dir, host, argv)))
  t.teardown(async () => {
    launched.signal('SIGKILL')
    await launched.exit()
  })
  await launched.says(ready)
  return launched
}

/** Runs a command on a host; resolves with what it wrote. */
async function at(dir: string, host: string, ...argv: readonly string[]): Promise<string> {
  return (await run(SCRIPT, on(dir, host, argv))).stdout.trim()
}

/** Starts the balancer. */
async function balance(t: Test, dir: string, servers: object, logging: object = {}): Promise<void> {
  const config = join(dir, 'config.json')
  writeFileSync(config, JSON.stringify({ plane: 'native', logging, servers }))
  await start(t, dir, 'balancer', 'Initialized', [COMMAND, '-c', config])
}

const server = (bind: string, backend: string, tcp: object): object => ({
  bind,
  tcp,
  discovery: { kind: 'static', static_list: [backend] },
})

for (const way of ['iif', 'iptables', 'nft'])
  t.test(`answers come back by a rule for ${way}`, { skip: native.skip }, async (t) => {
    const { dir, absent } = await hosts(t, way)
    if (absent) return t.plan(0, absent)
    await start(t, dir, 'backend', 'ready', [process.execPath, '-e', BACKEND])
    const transparent = true
    await balance(t, dir, {
      four: server('10.200.0.1:3004', '10.201.0.2:4000', { transparent }),
      six: server('[fd00:200::1]:3006', '[fd00:201::2]:4000', { transparent }),
      both: server(':3010', '10.201.0.2:4000', { transparent }),
      plain: server(':3000', '10.201.0.2:4000', {}),
      marked: server(':3001', '10.202.0.2:4000', { mark: 7 }),
      unmarked: server(':3002', '10.202.0.2:4000', {}),
      fast: server(':3003', '10.201.0.2:4000', { fast_open: 16 }),
    })

    /** What a client hears that sends so many bytes. */
    const heard = async (
      host: string,
      port: number,
      bytes = 3,
      client = [process.execPath, '-e', CLIENT],
    ) => {
      const argv = on(dir, 'client', [...client, host, String(port), String(bytes)])
      return (await run(SCRIPT, argv)).stdout.trim()
    }

    t.equal(
      await heard('10.200.0.1', 3000),
      '10.201.0.1 3',
      'without transparent it is the balancer who dials',
    )
    t.equal(await heard('10.200.0.1', 3004), '10.200.0.2 3', 'with it, the client: IPv4')
    t.equal(await heard('fd00:200::1', 3006), 'fd00:200::2 3', 'IPv6')
    t.equal(await heard('10.200.0.1', 3010), '10.200.0.2 3', 'IPv4 on a bind for both')
    t.equal(await heard('fd00:200::1', 3010), '0', 'an IPv6 client is not dialled for by IPv4')
    t.equal(await heard('10.200.0.1', 3004, 5_000_000), '10.200.0.2 5000000', 'many bytes')
    t.equal(await heard('fd00:200::1', 3006, 5_000_000), 'fd00:200::2 5000000', 'many bytes, IPv6')

    t.equal(await heard('10.200.0.1', 3001), '10.201.0.1 3', 'a mark chooses the way')
    t.equal(await heard('10.200.0.1', 3002), '0', 'without the mark there is none')

    await t.test('bytes come with the SYN', async (t) => {
      const python = await run('python3', ['--version']).catch(() => undefined)
      if (!python) return t.plan(0, 'python3 is not installed')
      const client = ['python3', '-c', FAST_CLIENT]
      t.equal(await fastOpened(dir), 0)
      t.equal(await heard('10.200.0.1', 3003, 3, client), '10.201.0.1 3', 'the first client gets a cookie')
      t.equal(await heard('10.200.0.1', 3003, 3, client), '10.201.0.1 3')
      t.equal(await fastOpened(dir), 1, 'the second sends with its first packet')
      t.equal(await heard('10.200.0.1', 3000, 3, client), '10.201.0.1 3')
      t.equal(await fastOpened(dir), 1, 'a server that did not ask for it waits for the handshake')
    })
  })

t.test('clients on their way to others come in', { skip: native.skip }, async (t) => {
  const { dir, absent } = await hosts(t, 'iif')
  if (absent) return t.plan(0, absent)
  // What docs/native.md tells an operator to do, and a route that leads clients through the balancer.
  const families = [
    { iptables: 'iptables', family: '-4', gateway: '10.200.0.1', port: '3004' },
    { iptables: 'ip6tables', family: '-6', gateway: 'fd00:200::1', port: '3006' },
  ]
  for (const { iptables, family, gateway, port } of families) {
    const takesIn = ['-i', 'front', '-p', 'tcp', '--dport', '80', '-j', 'TPROXY', '--on-port', port]
    const rule = ['-t', 'mangle', '-A', 'PREROUTING', ...takesIn, '--tproxy-mark', '1']
    const able = await at(dir, 'balancer', iptables, ...rule).catch(() => undefined)
    if (able === undefined) return t.plan(0, `${iptables} has no TPROXY here`)
    await at(dir, 'balancer', 'ip', family, 'rule', 'add', 'fwmark', '1', 'lookup', '100')
    await at(dir, 'client', 'ip', family, 'route', 'add', 'default', 'via', gateway)
  }
  await start(t, dir, 'backend', 'ready', [process.execPath, '-e', BACKEND])
  const access = join(dir, 'access')
  const servers = {
    four: server('0.0.0.0:3004', '10.201.0.2:4000', { transparent: true }),
    six: server('[::]:3006', '[fd00:201::2]:4000', { transparent: true }),
  }
  await balance(t, dir, servers, { access, format: 'json' })

  const heard = (host: string, bytes = 3) =>
    at(dir, 'client', process.execPath, '-e', CLIENT, host, '80', String(bytes))
  t.equal(await heard('203.0.113.9'), '10.200.0.2 3', 'of an address nobody has')
  t.equal(await heard('10.201.0.2'), '10.200.0.2 3', 'of a host behind the balancer')
  t.equal(await heard('2001:db8::9'), 'fd00:200::2 3', 'IPv6')
  t.equal(await heard('203.0.113.9', 5_000_000), '10.200.0.2 5000000', 'many bytes')
  const flows = () => readFileSync(access, 'utf8').trim().split('\n')
  await until(() => flows().length === 4, 'four lines')
  t.same(
    flows().map((line) => (JSON.parse(line) as { local: string }).local),
    ['203.0.113.9:80', '10.201.0.2:80', '[2001:db8::9]:80', '203.0.113.9:80'],
    'where they wanted to is known',
  )
})

t.test('addresses of one link are listened on and dialled', { skip: native.skip }, async (t) => {
  const { dir, absent } = await hosts(t, 'iif')
  if (absent) return t.plan(0, absent)
  for (const [host, device, address] of [
    ['balancer', 'front', 'fe80::a/64'],
    ['balancer', 'back', 'fe80::b/64'],
    ['backend', 'eth0', 'fe80::c/64'],
  ] as const)
    await at(dir, host, 'ip', 'addr', 'add', address, 'dev', device, 'nodad')
  await start(t, dir, 'backend', 'ready', [process.execPath, '-e', BACKEND])
  await balance(t, dir, {
    named: server('[fe80::a%front]:3000', '[fe80::c%back]:4000', {}),
    elsewhere: server('[fe80::a%front]:3001', '[fe80::c%front]:4000', {}),
    source: server('[fe80::a%front]:3002', '[fe80::c%back]:4000', { source: 'fe80::b%back' }),
  })
  const heard = (port: number) =>
    at(dir, 'client', process.execPath, '-e', CLIENT, 'fe80::a%eth0', String(port), '3')
  t.match(await heard(3000), /^fe80:\S* 3$/)
  t.equal(await heard(3001), '0', 'the backend is not on that link')
  t.match(await heard(3002), /^fe80::b%eth0 3$/)
})

/** Clients of the balancer whose bytes came with their SYN. */
async function fastOpened(dir: string): Promise<number> {
  const { stdout } = await run(SCRIPT, on(dir, 'balancer', ['cat', '/proc/net/netstat']))
  const [names, values] = stdout.split('\n').map((line) => line.split(' '))
  return Number(values![names!.indexOf('TCPFastOpenPassive')])
}

// SRV discovery against Knot, which sends addresses along, and unbound, which does not.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Agent, createServer, get } from 'node:http'
import type { Server } from 'node:http'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { Test } from 'tap'
import { z } from 'zod'
import { addressText } from '../../src/core/address.ts'
import { realClock } from '../../src/core/clock.ts'
import type { Answer } from '../../src/discovery/discovery.ts'
import { srv } from '../../src/discovery/srv.ts'
import { whyNot } from '../support/component.ts'
import { folder } from '../support/folder.ts'
import { portOf, running } from '../support/running.ts'
import { freePorts, greeter, greeting } from '../support/spawned.ts'
import { until } from '../support/until.ts'

const script = fileURLToPath(new URL('../../scripts/components/dns.sh', import.meta.url))

async function run(args: readonly string[], input = '') {
  const child = spawn(script, args, { stdio: ['pipe', 'ignore', 'pipe'] })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  child.stdin.on('error', () => {}).end(input)
  const [status] = (await once(child, 'close')) as [number | null]
  return { status, stderr }
}

const dir = folder(t)
const [knotPort, unboundPort] = (await freePorts(2)) as [number, number]
const knot = `127.0.0.1:${knotPort}`
const unbound = `127.0.0.1:${unboundPort}`

t.teardown(() => run(['stop', dir]))
const zones = ['test.local', 'cluster.local', 'mesos', 'consul', 'gone.local']
const starts = [
  await run(['start', dir, `127.0.0.1@${knotPort}`, ...zones]),
  await run(['resolver', dir, `127.0.0.1@${unboundPort}`, `test.local=127.0.0.1@${knotPort}`]),
]
const skip = whyNot(...starts)

/** Does one thing with the servers. */
async function dns(...args: string[]): Promise<void> {
  const { status, stderr } = await run([args[0]!, dir, ...args.slice(1)])
  if (status !== 0) throw new Error(`dns.sh ${args.join(' ')}: ${stderr}`)
}

/** Adds records to a zone, a line each, all at once. */
async function add(zone: string, ...records: string[]): Promise<void> {
  const { status, stderr } = await run(['add', dir, zone], records.join('\n') + '\n')
  if (status !== 0) throw new Error(`dns.sh add ${zone}: ${stderr}`)
}

function ask(server: string, pattern: string, protocol = 'udp'): Promise<Answer> {
  const section = { srv_lookup_server: server, srv_lookup_pattern: pattern, srv_dns_protocol: protocol }
  const settings = z.object(srv.settings).parse(section)
  return srv.create(settings, { clock: realClock, transport: 'tcp' }).ask(new AbortController().signal)
}

const texts = ({ backends }: Answer) => backends.map(({ address }) => addressText(address)).sort()

t.test('dns', { skip }, async (t) => {
  t.comment('real: Knot, unbound')
  for (const { status, stderr } of starts) t.equal(status, 0, stderr)
  await add('test.local', 'be1 30 A 127.0.0.1', 'be2 20 AAAA ::1', 'be3 30 A 127.0.0.3', 'be3 30 AAAA ::3')

  t.test('Knot sends addresses along', async (t) => {
    await add(
      'test.local',
      '_web._tcp 30 SRV 1 10 81 be1',
      '_web._tcp 30 SRV 2 0 82 be2',
      '_web._tcp 30 SRV 3 5 83 be3',
    )
    for (const protocol of ['udp', 'tcp']) {
      const { backends, rejected, freshForMs } = await ask(knot, '_web._tcp.test.local.', protocol)
      t.match(backends, [
        { identity: '127.0.0.1:81 sni=be1.test.local', priority: 1, weight: 10 },
        { identity: '[::1]:82 sni=be2.test.local', priority: 2, weight: 0 },
        { identity: '127.0.0.3:83 sni=be3.test.local', priority: 3, weight: 5 },
      ])
      t.same(rejected, [])
      t.ok(freshForMs! > 19_000 && freshForMs! <= 20_000, `${freshForMs} ms, the least of the TTLs`)
    }
  })

  t.test('unbound does not: addresses are asked for, one by one', async (t) => {
    const expected = ['127.0.0.1:81', '127.0.0.3:83', '[::1]:82']
    for (const protocol of ['udp', 'tcp'])
      t.same(texts(await ask(unbound, '_web._tcp.test.local.', protocol)), expected)
    await dns('local', '_own._tcp.test.local. 30 SRV 1 1 80 nobody.test.local.')
    await dns('local', '_own._tcp.test.local. 30 SRV 1 1 84 be1.test.local.')
    const { backends, rejected } = await ask(unbound, '_own._tcp.test.local.')
    t.match(backends, [{ identity: '127.0.0.1:84 sni=be1.test.local' }])
    t.equal(backends.length, 1)
    t.same(rejected, ['target "nobody.test.local": has no address'])
  })

  t.test('200 records do not fit into a datagram and come whole', async (t) => {
    const numbers = Array.from({ length: 200 }, (_, i) => i)
    await add('test.local', ...numbers.map((i) => `_many._tcp 30 SRV 1 1 ${8000 + i} be${(i % 3) + 1}`))
    for (const server of [knot, unbound]) {
      const { backends, rejected } = await ask(server, '_many._tcp.test.local.')
      t.equal(backends.length, 200)
      t.same(rejected, [])
    }
  })

  t.test('no such name, and a name without SRV, are answers', async (t) => {
    for (const server of [knot, unbound])
      for (const name of ['_nobody._tcp.test.local.', 'be1.test.local.']) {
        const { backends, rejected, freshForMs } = await ask(server, name)
        t.same([backends, rejected], [[], []])
        t.ok(freshForMs! <= 1000, 'good for what the zone says')
      }
  })

  t.test('who cannot tell is an error with a name', async (t) => {
    await t.rejects(ask(knot, '_web._tcp.example.com.'), {
      message: `SRV _web._tcp.example.com: ${knot} answered REFUSED`,
    })
    await t.rejects(ask(unbound, '_web._tcp.example.com.'), { message: /answered REFUSED$/ })
    t.same(texts(await ask(knot, '_web._tcp.gone.local.')), [])
    await dns('expire', 'gone.local')
    await t.rejects(ask(knot, '_web._tcp.gone.local.'), {
      message: `SRV _web._tcp.gone.local: ${knot} answered SERVFAIL`,
    })
    await add('test.local', 'sub 5 NS ns.sub', 'ns.sub 5 A 127.0.0.1')
    await t.rejects(ask(knot, '_web._tcp.sub.test.local.'), { message: /answered that other servers know$/ })
  })

  t.test('aliases are followed', async (t) => {
    await add(
      'test.local',
      '_alias._tcp 30 CNAME _aliased._tcp',
      '_aliased._tcp 3 SRV 1 1 85 be4',
      'be4 30 CNAME be1',
    )
    await add('test.local', '_away._tcp 30 CNAME _x._tcp.cluster.local.')
    await add('cluster.local', '_x._tcp 30 SRV 1 1 86 x', 'x 30 A 10.2.0.1')
    for (const server of [knot, unbound]) {
      const answer = await ask(server, '_ALIAS._tcp.Test.local')
      t.same(texts(answer), ['127.0.0.1:85'])
      t.ok(answer.freshForMs! <= 3000)
    }
    t.same(texts(await ask(knot, '_away._tcp.test.local.')), ['10.2.0.1:86'])
  })

  t.test('the names of Kubernetes, Consul and Mesos-DNS', async (t) => {
    await add(
      'cluster.local',
      '_http._tcp.web.default.svc 5 SRV 0 50 80 web-0.web.default.svc',
      '_http._tcp.web.default.svc 5 SRV 0 50 80 web-1.web.default.svc',
      'web-0.web.default.svc 5 A 10.3.0.1',
      'web-1.web.default.svc 5 A 10.3.0.2',
    )
    await add(
      'consul',
      'web.service 0 SRV 1 1 8080 0a030003.addr.dc1',
      '_web._tcp.service 0 SRV 1 5 8080 0a030003.addr.dc1',
      '0a030003.addr.dc1 0 A 10.3.0.3',
    )
    await add(
      'mesos',
      '_nginx._tcp.marathon 60 SRV 0 0 31302 nginx-2x-s1.marathon.slave',
      '_nginx._tcp.marathon 60 SRV 0 0 31303 nginx-1p-s2.marathon.slave',
      'nginx-2x-s1.marathon.slave 60 A 10.0.3.51',
      'nginx-1p-s2.marathon.slave 60 A 10.0.3.52',
    )
    const expected = {
      '_http._tcp.web.default.svc.cluster.local.': [['10.3.0.1:80', '10.3.0.2:80'], 50],
      'web.service.consul': [['10.3.0.3:8080'], 1],
      '_web._tcp.service.consul.': [['10.3.0.3:8080'], 5],
      '_nginx._tcp.marathon.mesos': [['10.0.3.51:31302', '10.0.3.52:31303'], 0],
    } as const
    for (const [name, [addresses, weight]] of Object.entries(expected)) {
      const answer = await ask(knot, name)
      t.same(texts(answer), addresses, name)
      t.ok(answer.backends.every((each) => each.weight === weight))
    }
  })

  /** A server whose backends `_NAME._tcp.test.local` has. */
  const serving = async (t: Test, name: string, rest: object = {}) => {
    const discovery = {
      kind: 'srv',
      srv_lookup_server: knot,
      srv_lookup_pattern: `_${name}._tcp.test.local.`,
    }
    const manager = await running(t, {
      servers: { web: { bind: '127.0.0.1:0', protocol: 'tcp', discovery, ...rest } },
    })
    return portOf(manager, 'web')
  }

  t.test('a running server follows when a TTL is over, without an interval', async (t) => {
    const [one, two] = [await greeter(t, 'one'), await greeter(t, 'two')]
    await add('test.local', `_live._tcp 1 SRV 1 0 ${one.port} be1`)
    const port = await serving(t, 'live')
    await until(async () => (await greeting(t, { port })) === 'one', 'the first backend')
    const began = performance.now()
    await dns('remove', 'test.local', '_live._tcp', 'SRV')
    await add('test.local', `_live._tcp 1 SRV 1 0 ${two.port} be1`)
    await until(async () => (await greeting(t, { port })) === 'two', 'the second backend')
    const took = performance.now() - began
    t.comment(`seen after ${Math.round(took)} ms, TTL 1 s`)
    t.ok(took < 10_000)
  })

  const seconds = Number(process.env.FAIRLEAD_CHURN_SECONDS ?? 20)
  const times = { timeout: (seconds + 30) * 1000 }

  t.test('traffic while backends come and go in order: no request fails', times, async (t) => {
    const { ended, failures, changes } = await churn(t, 'calm', 700, seconds, (took, stop) => ({
      // Its record is gone; it serves until the TTL and a second have passed.
      at: took + 2000,
      stop,
    }))
    t.comment(`${ended} requests in ${seconds} s, ${changes} backends left, ${failures} failed`)
    t.ok(ended > 100)
    t.ok(changes > 1)
    t.equal(failures, 0)
  })

  t.test('traffic while backends end before their record does: the count of failures', times, async (t) => {
    const { ended, failures, changes } = await churn(t, 'rude', 1500, seconds / 2, (took, stop) => {
      stop()
      return { at: took, stop: () => {} }
    })
    t.comment(`${ended} requests in ${seconds / 2} s, ${changes} backends vanished, ${failures} failed`)
    t.ok(ended > 100)
    // Who cannot be reached is passed over: only the requests under way fail, one a client.
    t.ok(failures <= 4 * changes)
  })

  /** Four clients ask without a pause; every `everyMs` a backend comes, and the older of two leaves. */
  async function churn(
    t: Test,
    name: string,
    everyMs: number,
    seconds: number,
    leave: (now: number, stop: () => void) => { at: number; stop: () => void },
  ) {
    const record = (port: number) => ['_' + name + '._tcp', 'SRV', '1', '0', String(port), 'be1'] as const
    const begin = async () => {
      const server = createServer((_, response) => void response.end('hello'))
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
      const { port } = server.address() as { port: number }
      const [owner, ...rest] = record(port)
      await add('test.local', [owner, '1', ...rest].join(' '))
      return { server, port }
    }
    const stop = (server: Server) => {
      server.close()
      server.closeAllConnections()
    }
    const up = [await begin(), await begin()]
    const leaving: { at: number; stop: () => void }[] = []
    t.teardown(() => {
      for (const { server } of up) stop(server)
      for (const each of leaving) each.stop()
    })
    const port = await serving(t, name)
    await until(() => hello(port, new Agent()), 'a backend')

    const end = performance.now() + seconds * 1000
    let [ended, failures, changes] = [0, 0, 0]
    const client = async () => {
      while (performance.now() < end) {
        if (!(await hello(port, new Agent()))) failures++
        ended++
      }
    }
    const change = async () => {
      while (performance.now() < end) {
        await new Promise((resolve) => setTimeout(resolve, everyMs))
        up.push(await begin())
        const { server, port } = up.shift()!
        changes++
        leaving.push(
          leave(performance.now(), () => {
            stop(server)
          }),
        )
        await dns('remove', 'test.local', ...record(port))
        while (leaving[0] && leaving[0].at < performance.now()) leaving.shift()!.stop()
      }
    }
    await Promise.all([client(), client(), client(), client(), change()])
    return { ended, failures, changes }
  }
})

/** Whether a request on a connection of its own is answered. */
function hello(port: number, agent: Agent): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get({ port, host: '127.0.0.1', agent }, (response) => {
      response
        .resume()
        .on('end', () => resolve(response.statusCode === 200))
        .on('error', () => resolve(false))
    })
    request.on('error', () => resolve(false))
  })
}

// Consul itself: what it answers, how soon its changes are in the pool, and what clients notice of them.

import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { Test } from 'tap'
import { realClock } from '../../src/core/clock.ts'
import { discoverySettings } from '../../src/discovery/settings.ts'
import type { SourceSettings } from '../../src/discovery/settings.ts'
import { createDiscovery } from '../../src/discovery/sources.ts'
import type { Manager } from '../../src/manager/manager.ts'
import { whyNot } from '../support/component.ts'
import { folder } from '../support/folder.ts'
import { portOf, running } from '../support/running.ts'
import { freePort } from '../support/spawned.ts'
import { median, summary } from '../support/summary.ts'
import { until } from '../support/until.ts'

const SCRIPT = fileURLToPath(new URL('../../scripts/components/consul.sh', import.meta.url))
/** How long clients come while instances go and return. */
const CHURN_MS = 1_000 * Number(process.env.FAIRLEAD_CHURN_SECONDS ?? 20)
t.setTimeout(100_000 + 2 * CHURN_MS)

// Loopback addresses of this run alone, so that Consul has its own ports on each.
const below = (most: number) => Math.floor(Math.random() * most)
const net = `127.${100 + below(100)}.${1 + below(254)}`
const [open, closed] = [`${net}.1`, `${net}.2`]

const state = folder(t)
const file = (name: string, text = '') => {
  const path = join(state, name)
  if (text) writeFileSync(path, text)
  return path
}

const MASTER = '5f9d3b2c-0000-4000-8000-000000000001'
const socket = file('consul.sock')
const guarded = {
  CONSUL_HTTP_TOKEN: MASTER,
  CONSUL_MORE: file(
    'guarded.json',
    JSON.stringify({
      acl: { enabled: true, default_policy: 'deny', tokens: { master: MASTER } },
      addresses: { http: `${closed} unix://${socket}` },
      ports: { https: 8501 },
      ca_file: file('ca.pem'),
      cert_file: file('server.pem'),
      key_file: file('server.key'),
      verify_incoming_https: true,
    }),
  ),
}

function consul(verb: 'start' | 'stop', address: string, env: NodeJS.ProcessEnv = {}) {
  const { NODE_OPTIONS: _, ...inherited } = process.env
  return spawnSync(SCRIPT, [verb, join(state, address), address], {
    encoding: 'utf8',
    env: { ...inherited, ...env },
  })
}

/** A certificate of the authority in `ca.pem`, which makes itself. */
function certify(name: string, ...more: string[]): void {
  const by = name === 'ca' ? [] : ['-CA', file('ca.pem'), '-CAkey', file('ca.key')]
  const made = ['-keyout', file(`${name}.key`), '-out', file(`${name}.pem`), '-subj', `/CN=${name}`]
  const { status, stderr } = spawnSync(
    'openssl',
    ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', ...made, ...by, ...more],
    { encoding: 'utf8' },
  )
  if (status !== 0) throw new Error(stderr)
}

certify('ca')
certify('server', '-addext', `subjectAltName=IP:${closed}`)
certify('client', '-addext', 'extendedKeyUsage=clientAuth')

t.teardown(() => {
  consul('stop', open)
  consul('stop', closed)
})
const started = [consul('start', open), consul('start', closed, guarded)]
const skip = whyNot(...started)

/** Asks the agent; a path below `/v1/`. Throws unless it says 200. */
async function put(path: string, body?: unknown, address = open): Promise<string> {
  const answer = await fetch(`http://${address}:8500/v1/${path}`, {
    method: 'PUT',
    headers: { 'X-Consul-Token': MASTER, connection: 'close' },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  })
  const said = await answer.text()
  if (answer.status !== 200) throw new Error(`${path}: ${answer.status} ${said}`)
  return said
}

const register = (service: object, address?: string) => put('agent/service/register', service, address)

/** A check that is as it is told to be. */
const TOLD = { TTL: '1h', Status: 'passing' }
const flip = (id: string, to: 'pass' | 'warn' | 'fail') => put(`agent/check/${to}/service:${id}`)

/** What a section of kind `consul` lists: `identity weight=…` and what else is not as usual. */
async function listed(section: object): Promise<{ backends: string[]; rejected: readonly string[] }> {
  const settings = discoverySettings.parse({ kind: 'consul', consul_host: `${open}:8500`, ...section })
  const discovery = createDiscovery(settings as SourceSettings, { clock: realClock, transport: 'tcp' })
  const { backends, rejected = [] } = await discovery.ask(AbortSignal.timeout(5_000))
  const texts = backends.map(
    ({ identity, weight, priority, maxConnections, drain }) =>
      `${identity} weight=${weight} priority=${priority} max=${maxConnections}${drain ? ' drain' : ''}`,
  )
  return { backends: texts.sort(), rejected }
}

/** Its backends that may be elected, by identity. */
function electable(manager: Manager, name = 'web'): string[] {
  const { pool } = manager.servers.get(name)!
  return [...pool.backends].filter((each) => pool.live(each)).map(({ found }) => found.identity)
}

const serving = (service: string, more: object = {}) => ({
  bind: '127.0.0.1:0',
  discovery: {
    kind: 'consul',
    consul_host: `${open}:8500`,
    consul_service_name: service,
    consul_service_passing_only: true,
    ...more,
  },
})

t.test('consul', { skip }, async (t) => {
  t.comment('real: Consul')
  t.same(
    started.map(({ status, stderr }) => `${status} ${stderr}`),
    ['0 ', '0 '],
  )

  t.test('instances are backends with what their owners say of them', async (t) => {
    const shop = { Name: 'shop', Port: 80 }
    await register({ ...shop, ID: 's1', Address: '10.0.0.1', Weights: { Passing: 7, Warning: 3 } })
    await register({ ...shop, ID: 's2' })
    await register({
      ...shop,
      ID: 's3',
      Address: 'fd00::3',
      Tags: ['sni=a', 'v2', 'sni=b', 'fairlead.weight=4'],
    })
    const tags = ['fairlead.weight=4', 'fairlead.priority=2', 'fairlead.drain=true']
    const meta = { 'fairlead-weight': '5', fairlead_max_connections: '9', owner: 'me' }
    await register({
      ...shop,
      ID: 's4',
      Address: 'host',
      Tags: tags,
      Meta: meta,
      Weights: { Passing: 6, Warning: 1 },
    })
    await register({ ...shop, ID: 's5', Address: '10.0.0.5', Meta: { 'fairlead-weight': 'much' } })
    await register({ ...shop, ID: 's6', Address: '10.0.0.6', Port: 0 })
    t.same(await listed({ consul_service_name: 'shop' }), {
      backends: [
        `10.0.0.1:80 weight=7 priority=1 max=0`,
        `10.0.0.5:80 weight=1 priority=1 max=0`,
        `${open}:80 weight=1 priority=1 max=0`,
        `[fd00::3]:80 sni=b weight=4 priority=1 max=0`,
        `host:80 weight=5 priority=2 max=9 drain`,
      ].sort(),
      rejected: [
        'instance 5 "s5": fairlead-weight: expected a whole number, 0 to 2147483647, got "much"',
        'instance 6 "s6": expected an address and a port, got "10.0.0.6:0"',
      ],
    })
    t.same((await listed({ consul_service_name: 'shop', consul_service_tag: 'v2' })).backends, [
      '[fd00::3]:80 sni=b weight=4 priority=1 max=0',
    ])
  })

  t.test('checks decide who passes, and a warning has a weight of its own', async (t) => {
    const dns = { Name: 'dns', Port: 53, Weights: { Passing: 10, Warning: 2 }, Check: TOLD }
    for (const last of [1, 2, 3]) await register({ ...dns, ID: `d${last}`, Address: `10.0.1.${last}` })
    await flip('d2', 'warn')
    await flip('d3', 'fail')
    const weights = async (passing: boolean) => {
      const { backends } = await listed({ consul_service_name: 'dns', consul_service_passing_only: passing })
      return backends.map((each) => each.split(' ').slice(0, 2).join(' '))
    }
    await until(async () => (await weights(true)).length === 1, 'one that passes')
    t.same(await weights(true), ['10.0.1.1:53 weight=10'])
    t.same(await weights(false), ['10.0.1.1:53 weight=10', '10.0.1.2:53 weight=2', '10.0.1.3:53 weight=10'])
  })

  t.test('a service nobody has registered has no backends', async (t) => {
    t.same(await listed({ consul_service_name: 'nobody' }), { backends: [], rejected: [] })
  })

  t.test('the datacenter is asked for, by either name', async (t) => {
    const shop = { consul_service_name: 'shop' }
    t.equal((await listed({ ...shop, consul_datacenter: 'dc1' })).backends.length, 5)
    for (const key of ['consul_datacenter', 'consul_service_datacenter'])
      await t.rejects(listed({ ...shop, [key]: 'dc9' }), { message: /500: "No path to datacenter"$/ }, key)
    const both = {
      kind: 'consul',
      consul_host: 'a:1',
      ...shop,
      consul_datacenter: 'a',
      consul_service_datacenter: 'b',
    }
    t.match(discoverySettings.safeParse(both).error?.issues, [{ path: ['consul_service_datacenter'] }])
  })

  t.test('what ACLs hide is an error and not an empty list', async (t) => {
    await register({ Name: 'secret', ID: 'x', Address: '10.0.2.1', Port: 80 }, closed)
    const token = async (...rules: string[]) => {
      const Name = `p${below(1e9)}`
      await put('acl/policy', { Name, Rules: rules.join('\n') }, closed)
      return (JSON.parse(await put('acl/token', { Policies: [{ Name }] }, closed)) as { SecretID: string })
        .SecretID
    }
    const NODES = 'node_prefix "" { policy = "read" }'
    const reader = await token(
      'service "secret" { policy = "read" } service "none" { policy = "read" }',
      NODES,
    )
    const nodeless = await token('service "secret" { policy = "read" }')
    const stranger = await token('service "other" { policy = "read" }', NODES)
    const ask = (consul_acl_token?: string, consul_service_name = 'secret') =>
      listed({
        consul_host: `${closed}:8500`,
        consul_service_name,
        ...(consul_acl_token && { consul_acl_token }),
      })

    t.same((await ask(MASTER)).backends, ['10.0.2.1:80 weight=1 priority=1 max=0'])
    t.same((await ask(reader)).backends, ['10.0.2.1:80 weight=1 priority=1 max=0'])
    t.same((await ask(reader, 'none')).backends, [], 'one may read of nobody that there is nobody')
    const hidden = /^Consul lists nothing because its ACLs hide service "secret": consul_acl_token needs/
    await t.rejects(ask(), { message: hidden }, 'no token')
    await t.rejects(ask(stranger), { message: hidden }, 'of another service')
    await t.rejects(ask(nodeless), { message: hidden }, 'of no nodes')
    await t.rejects(ask('5f9d3b2c-0000-4000-8000-00000000000f'), {
      message: 'Consul answered 403: "ACL not found"; is consul_acl_token right?',
    })
  })

  t.test('over TLS both sides show who they are', async (t) => {
    const plain = { consul_host: `${closed}:8501`, consul_service_name: 'secret', consul_acl_token: MASTER }
    const section = {
      ...plain,
      consul_tls_enabled: true,
      consul_tls_cacert_path: file('ca.pem'),
      consul_tls_cert_path: file('client.pem'),
      consul_tls_key_path: file('client.key'),
    }
    t.equal((await listed(section)).backends.length, 1)
    const { consul_tls_cacert_path: _, ...trusting } = section
    await t.rejects(listed(trusting), { message: /^cannot ask Consul: .*certificate/ })
    const { consul_tls_cert_path: __, consul_tls_key_path: ___, ...anonymous } = section
    await t.rejects(listed(anonymous), { message: /^cannot ask Consul: .*certificate/ })
    await t.rejects(listed(plain), {
      message: /^Consul answered 400: "Client sent an HTTP request to an HTTPS/,
    })
  })

  t.test('a unix socket is an agent too', async (t) => {
    const section = { consul_service_name: 'secret', consul_acl_token: MASTER }
    t.equal((await listed({ ...section, consul_host: `unix://${socket}` })).backends.length, 1)
  })

  t.test('a check that flips is in or out of the electable backends at once', async (t) => {
    const services = ['f1', 'f2', 'f3', 'f4', 'f5']
    for (const [i, Name] of services.entries())
      await register({ Name, ID: Name, Address: `10.0.3.${i + 1}`, Port: 80, Check: TOLD })
    const servers = Object.fromEntries(services.map((each) => [each, serving(each)]))
    const manager = await running(t, { servers })
    const has = (name: string, count: number) => until(() => electable(manager, name).length === count, name)
    // Watches settle: a list comes with the first answer, and their first questions are over soon after.
    for (const name of services) await has(name, 1)

    const took = { out: [] as number[], in: [] as number[] }
    for (const to of ['fail', 'pass', 'fail', 'pass'] as const)
      for (const name of services) {
        const began = performance.now()
        await flip(name, to)
        await has(name, to === 'pass' ? 1 : 0)
        took[to === 'pass' ? 'in' : 'out'].push(performance.now() - began)
      }
    const all = [...took.out, ...took.in]
    t.comment(`flips: out ${summary(took.out)}; in ${summary(took.in)}; all ${summary(all)}`)
    t.equal(all.length, 20)
    t.ok(median(all) < 5_000)
  })

  t.test('an agent that restarts is found again, and the last list stays meanwhile', async (t) => {
    const db = { Name: 'db', Port: 5432 }
    await register({ ...db, ID: 'db1', Address: '10.0.4.1' })
    // One hears of changes by its watch alone, the other asks as well and so notices that it cannot.
    const manager = await running(t, {
      servers: { watching: serving('db'), asking: serving('db', { interval: '100ms' }) },
    })
    const lists = (...hosts: string[]) =>
      until(
        () =>
          ['watching', 'asking'].every(
            (name) => electable(manager, name).sort().join() === hosts.map((host) => `${host}:5432`).join(),
          ),
        hosts.join(),
        30_000,
      )
    const [source] = manager.servers.get('asking')!.sources()
    await lists('10.0.4.1')
    t.equal(source!.failing, false)

    consul('stop', open)
    await until(() => manager.servers.get('asking')!.sources()[0]!.failing, 'a failure')
    await lists('10.0.4.1')
    t.match(manager.servers.get('asking')!.sources()[0]!.lastError?.message, /^cannot ask Consul: /)

    t.equal(consul('start', open).status, 0)
    await register({ ...db, ID: 'db2', Address: '10.0.4.2' })
    const began = performance.now()
    await lists('10.0.4.1', '10.0.4.2')
    t.comment(`after the restart: ${Math.round(performance.now() - began)} ms`)
    await put('agent/service/deregister/db1')
    await lists('10.0.4.2')
  })

  t.test('clients notice nothing of instances that leave in order', async (t) => {
    const instances = await Promise.all([1, 2, 3].map((i) => Instance.start(t, 'orderly', `o${i}`)))
    const manager = await running(t, { servers: { web: serving('orderly', { interval: '10s' }) } })
    await until(() => electable(manager).length === 3, 'three')
    const crowd = new Crowd(portOf(manager, 'web'))
    const gone = (instance: Instance) =>
      until(() => !electable(manager).includes(instance.address), `${instance.address} to be out`)
    const back = (instance: Instance) =>
      until(() => electable(manager).includes(instance.address), `${instance.address} to be in`)

    let leaves = 0
    for (const ends = performance.now() + CHURN_MS; performance.now() < ends; leaves++) {
      const instance = instances[leaves % 3]!
      const removed = leaves % 2 === 1
      await (removed ? instance.deregister() : instance.maintain(true))
      await gone(instance)
      await until(() => instance.open === 0, 'its last client')
      await instance.stop()
      await instance.listen()
      await (removed ? instance.register() : instance.maintain(false))
      await back(instance)
    }
    await crowd.leave()
    t.comment(`${leaves} orderly leaves: ${crowd.served} served, ${crowd.failed} failed`)
    t.equal(crowd.failed, 0)
    t.ok(crowd.served > 100 && leaves > 3)
  })

  t.test('of instances that die, clients lose what these had in hand', async (t) => {
    const instances = await Promise.all([1, 2, 3].map((i) => Instance.start(t, 'mortal', `m${i}`)))
    const manager = await running(t, { servers: { web: serving('mortal', { interval: '10s' }) } })
    await until(() => electable(manager).length === 3, 'three')
    const crowd = new Crowd(portOf(manager, 'web'))
    let cut = 0
    let deaths = 0
    for (const ends = performance.now() + CHURN_MS / 2; performance.now() < ends; deaths++) {
      const instance = instances[deaths % 3]!
      await until(() => instance.open > 0, 'a client in its hand')
      cut += instance.open
      await instance.stop()
      // Nobody tells: the check of Consul finds out within its second.
      await until(() => !electable(manager).includes(instance.address), 'it to be out')
      await instance.listen()
      await until(() => electable(manager).includes(instance.address), 'it to be in')
    }
    await crowd.leave()
    t.comment(`${deaths} deaths with ${cut} flows: ${crowd.served} served, ${crowd.failed} failed`)
    t.ok(crowd.failed <= cut, 'no more than were cut')
    t.ok(crowd.served > 100 && deaths > 0)
  })
})

/** How long an instance takes for an answer, so that there is always one in its hand. */
const WORK_MS = 10

/** An instance of a service: registered with a check that dials it. */
class Instance {
  readonly #service: string
  readonly #id: string
  readonly #port: number
  readonly #sockets = new Set<Socket>()
  #server: Server | undefined

  static async start(t: Test, service: string, id: string): Promise<Instance> {
    const instance = new Instance(service, id, await freePort())
    await instance.listen()
    await instance.register()
    t.teardown(() => instance.stop())
    return instance
  }

  constructor(service: string, id: string, port: number) {
    this.#service = service
    this.#id = id
    this.#port = port
  }

  get address(): string {
    return `127.0.0.1:${this.#port}`
  }

  get open(): number {
    return this.#sockets.size
  }

  async listen(): Promise<void> {
    this.#server = createServer((socket) => {
      // The check says nothing and leaves; clients say something.
      socket.on('error', () => {}).on('close', () => this.#sockets.delete(socket))
      socket.once('data', () => {
        this.#sockets.add(socket)
        setTimeout(() => socket.end('done\n'), WORK_MS)
      })
    })
    this.#server.listen(this.#port, '127.0.0.1')
    await once(this.#server, 'listening')
  }

  /** Closes its port and drops what it has. */
  async stop(): Promise<void> {
    const server = this.#server
    if (!server) return
    this.#server = undefined
    const closed = once(server, 'close')
    server.close()
    for (const socket of this.#sockets) socket.destroy()
    await Promise.race([closed, new Promise(setImmediate)])
  }

  register(): Promise<string> {
    const check = { TCP: this.address, Interval: '1s', Timeout: '1s', Status: 'passing' }
    const [, port] = this.address.split(':')
    return register({
      Name: this.#service,
      ID: this.#id,
      Address: '127.0.0.1',
      Port: Number(port),
      Check: check,
    })
  }

  deregister(): Promise<string> {
    return put(`agent/service/deregister/${this.#id}`)
  }

  maintain(on: boolean): Promise<string> {
    return put(`agent/service/maintenance/${this.#id}?enable=${on}`)
  }
}

/** Clients that come one after the other, four at a time. */
class Crowd {
  served = 0
  failed = 0
  #leaving = false
  readonly #clients: Promise<void>[]

  constructor(port: number) {
    this.#clients = [1, 2, 3, 4].map(() => this.#client(port))
  }

  async leave(): Promise<void> {
    this.#leaving = true
    await Promise.all(this.#clients)
  }

  async #client(port: number): Promise<void> {
    while (!this.#leaving) {
      const socket = connect(port, '127.0.0.1').setEncoding('utf8')
      let text = ''
      socket.on('data', (chunk: string) => (text += chunk)).on('error', () => {})
      socket.write('do\n')
      await new Promise((resolve) => socket.on('close', resolve))
      if (text === 'done\n') this.served++
      else this.failed++
    }
  }
}

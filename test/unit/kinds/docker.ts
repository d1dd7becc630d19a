import t from 'tap'
import type { Test } from 'tap'
import { addressText } from '../../../src/core/address.ts'
import type { Answer, Watcher } from '../../../src/discovery/discovery.ts'
import { discoverySettings, sourceSettings } from '../../../src/discovery/settings.ts'
import { createDiscovery } from '../../../src/discovery/sources.ts'
import { container, engine, listing } from '../../contract/discovery/docker.ts'
import { FakeClock } from '../../support/clock.ts'
import { until } from '../../support/until.ts'

type Keys = Record<string, unknown>

function made(endpoint: string, keys: Keys = {}, transport: 'tcp' | 'udp' = 'tcp', clock = new FakeClock()) {
  const settings = sourceSettings.parse({ kind: 'docker', docker_endpoint: endpoint, ...keys })
  return createDiscovery(settings, { clock, transport })
}

const never = new AbortController().signal

/** What an engine's list comes to, with private port 80 unless `keys` say otherwise. */
async function answer(t: Test, list: object[], keys: Keys = {}, transport?: 'tcp' | 'udp'): Promise<Answer> {
  const { endpoint } = await listing(t, list)
  return made(endpoint, { docker_container_private_port: 80, ...keys }, transport).ask(never)
}

async function texts(t: Test, list: object[], keys?: Keys, transport?: 'tcp' | 'udp'): Promise<string[]> {
  return (await answer(t, list, keys, transport)).backends.map(({ address }) => addressText(address)).sort()
}

const port = (PrivatePort: number, PublicPort?: number, IP?: string, Type = 'tcp') => ({
  PrivatePort,
  Type,
  ...(PublicPort && { PublicPort }),
  ...(IP && { IP }),
})

const web = (Ports: object[] | null, more: object = {}) => ({ ...container('web', 1), Ports, ...more })

t.test('a port on every address is reached at the host of the engine', async (t) => {
  t.same(await texts(t, [web([port(80, 22001, '0.0.0.0'), port(80, 22001, '::')])]), ['127.0.0.1:22001'])
  t.same(await texts(t, [web([port(80, 22001, '::')])]), ['127.0.0.1:22001'])
  t.same(await texts(t, [web([port(80, 22001)])]), ['127.0.0.1:22001'], 'an engine that says no address')
})

t.test('a port on one address is reached there, at the IPv4 one of several', async (t) => {
  t.same(await texts(t, [web([port(80, 22001, '10.0.0.5')])]), ['10.0.0.5:22001'])
  t.same(await texts(t, [web([port(80, 9, '2001:db8::5'), port(80, 22001, '10.0.0.5')])]), ['10.0.0.5:22001'])
  t.same(await texts(t, [web([port(80, 9, '2001:db8::5')])]), ['[2001:db8::5]:9'])
})

t.test('a container port published twice is one backend, the same whatever the order', async (t) => {
  const both = [port(80, 22002, '0.0.0.0'), port(80, 22001, '0.0.0.0')]
  t.same(await texts(t, [web(both)]), ['127.0.0.1:22001'])
  t.same(await texts(t, [web(both.reverse())]), ['127.0.0.1:22001'])
})

t.test('only mappings of the server’s protocol and of the private port count', async (t) => {
  const ports = [port(53, 5301), port(53, 5302, '0.0.0.0', 'udp'), port(80, 8080)]
  t.same(await texts(t, [web(ports)], { docker_container_private_port: 53 }, 'tcp'), ['127.0.0.1:5301'])
  t.same(await texts(t, [web(ports)], { docker_container_private_port: 53 }, 'udp'), ['127.0.0.1:5302'])
  t.same(await texts(t, [web(ports)], { docker_container_private_port: 81 }), [])
  const udpOnly = [port(53, 5302, '0.0.0.0', 'udp')]
  t.same(await texts(t, [web(udpOnly)], { docker_container_private_port: 53 }, 'tcp'), [])
})

t.test(
  'private port 0 is every published port, and of a container without one every exposed port',
  async (t) => {
    const all = { docker_container_private_port: 0 }
    t.same(await texts(t, [web([port(80, 1), port(443, 2), port(8080)])], all), [
      '127.0.0.1:1',
      '127.0.0.1:2',
    ])
    t.same(await texts(t, [web([port(80), port(443)])], all), ['172.17.0.2:443', '172.17.0.2:80'])
    t.same(await texts(t, [web([])], all), [])
  },
)

t.test('a port that is not published is reached at the container’s own address', async (t) => {
  t.same(await texts(t, [web([port(80)])]), ['172.17.0.2:80'])
  t.same(await texts(t, [web([])]), ['172.17.0.2:80'], 'an image that says nothing of its ports')
  t.same(await texts(t, [web(null)]), ['172.17.0.2:80'])
  t.same(await texts(t, [web([port(443, 22001)])]), [], 'one that publishes others serves no such port')
})

t.test('docker_network takes the address in that network, published or not', async (t) => {
  const networks = (Networks: object) => ({ NetworkSettings: { Networks } })
  const both = networks({ a: { IPAddress: '10.1.0.2' }, shop: { IPAddress: '10.2.0.2' } })
  const keys = { docker_network: 'shop' }
  t.same(await texts(t, [web([port(80, 22001)], both)], keys), ['10.2.0.2:80'])
  t.same(await texts(t, [web([port(443, 22001)], both)], keys), ['10.2.0.2:80'])
  t.same(await texts(t, [web([], both)]), ['10.1.0.2:80'], 'without it, the first by name')
  t.same(await texts(t, [web([])], keys), [], 'who is not in it is no backend')
  const six = networks({ shop: { IPAddress: '', GlobalIPv6Address: '2001:db8::2' } })
  t.same(await texts(t, [web([], six)], keys), ['[2001:db8::2]:80'])
  t.same(await texts(t, [web([], networks({ host: { IPAddress: '' } }))]), ['127.0.0.1:80'], 'the host’s own')
})

t.test('a container that can be reached nowhere is named', async (t) => {
  const { backends, rejected } = await answer(t, [web([], { NetworkSettings: { Networks: { none: {} } } })])
  t.same(backends, [])
  t.same(rejected, ['container web: expected a published port or an address in a network, got neither'])
})

t.test('labels set what a backend is; a wrong one is named and has no effect', async (t) => {
  const labels = {
    sni: 'a.example',
    'fairlead.weight': '5',
    'fairlead.priority': '2',
    'fairlead.drain': 'true',
  }
  const { backends } = await answer(t, [{ ...container('web', 1, labels) }])
  t.match(backends, [{ weight: 5, priority: 2, drain: true, sni: 'a.example' }])
  const own = await answer(t, [container('web', 1, { sni: 'a.example', 'fairlead.sni': 'b.example' })])
  t.match(own.backends, [{ sni: 'b.example' }])
  const wrong = await answer(t, [
    container('web', 1, { 'fairlead.weight': 'much', 'fairlead.colour': 'red' }),
  ])
  t.match(wrong.backends, [{ weight: 1 }])
  t.match(wrong.rejected, [
    /^container web: fairlead.weight: expected .*"much"$/,
    /fairlead.colour: expected/,
  ])
})

t.test('with docker_healthy_only those stay that have no HEALTHCHECK or pass it', async (t) => {
  const list = ['', ' (healthy)', ' (unhealthy)', ' (health: starting)'].map((said, i) => ({
    ...container(`web${i}`, i + 1),
    Status: `Up 2 minutes${said}`,
  }))
  t.equal((await texts(t, list)).length, 4)
  t.same(await texts(t, list, { docker_healthy_only: true }), ['127.0.0.1:1', '127.0.0.1:2'])
  const said = ['none', 'healthy', 'unhealthy', 'starting'].map((Status, i) => ({
    ...container(`web${i}`, i + 1),
    Health: { Status, FailingStreak: 0 },
  }))
  t.same(await texts(t, said, { docker_healthy_only: true }), ['127.0.0.1:1', '127.0.0.1:2'])
})

t.test('two containers in one place are one backend, described by the first', async (t) => {
  const twice = [container('web1', 22001, { 'fairlead.weight': '3' }), container('web2', 22001)]
  t.match((await answer(t, twice)).backends, [{ weight: 3, identity: '127.0.0.1:22001' }])
})

t.test('classic Swarm’s containers, named by their node and published at its address', async (t) => {
  const swarm = {
    ...web([port(80, 22001, '10.0.0.21')]),
    Names: ['/node1/web'],
    Labels: { 'fairlead.weight': 'x' },
  }
  const { backends, rejected } = await answer(t, [swarm])
  t.equal(addressText(backends[0]!.address), '10.0.0.21:22001')
  t.match(rejected, [/^container node1\/web: /])
})

t.test('the engine is asked for running containers with the label', async (t) => {
  const { endpoint, asked } = await listing(t, [])
  await made(endpoint, { docker_container_label: 'service=region-1.nginx' }).ask(never)
  await made(endpoint).ask(never)
  t.same(asked, [
    '/containers/json?filters={"status":["running"],"label":["service=region-1.nginx"]}',
    '/containers/json?filters={"status":["running"]}',
  ])
})

t.test('an environment variable names the host; it is read once for each container', async (t) => {
  const envs: Record<string, string[] | null> = {
    one: ['PATH=/bin', 'HOST=10.9.9.1'],
    two: ['HOST='],
    three: null,
    four: ['HOST=not a host'],
    five: ['HOST=2001:db8::9'],
  }
  const names = Object.keys(envs)
  const { endpoint, asked } = await engine(t, (request, response) => {
    const id = /^\/containers\/id-(\w+)\/json/.exec(request.url!)?.[1]
    if (id === 'six') return response.writeHead(404).end('{"message":"No such container"}')
    if (id) return response.end(JSON.stringify({ Config: { Env: envs[id] } }))
    response.end(JSON.stringify([...names, 'six'].map((name, i) => container(name, i + 1))))
  })
  const discovery = made(endpoint, {
    docker_container_host_env_var: 'HOST',
    docker_container_private_port: 80,
  })
  const { backends, rejected } = await discovery.ask(never)
  t.same(backends.map(({ address }) => addressText(address)).sort(), [
    '10.9.9.1:1',
    '127.0.0.1:2',
    '127.0.0.1:3',
    '127.0.0.1:6',
    '[2001:db8::9]:5',
  ])
  t.same(rejected, ['container four: expected a host, got "not a host"'])
  t.equal(asked.length, 7)
  await discovery.ask(never)
  t.equal(asked.length, 8, 'the list alone')
})

t.test('one container that cannot be inspected is named, and the others are used', async (t) => {
  const standIn = await engine(t, (request, response) => {
    if (request.url!.startsWith('/containers/json'))
      return response.end(JSON.stringify(Array.from({ length: 20 }, (_, i) => container(`web${i}`, i + 1))))
    if (request.url!.includes('id-web7')) return response.writeHead(500).end('{"message":"disk"}')
    if (request.url!.includes('id-web8')) return response.end(' '.repeat(300 * 1024))
    response.end('{"Config":{"Env":["HOST=h"]}}')
  })
  const discovery = made(standIn.endpoint, { docker_container_host_env_var: 'HOST' })
  const { backends, rejected } = await discovery.ask(never)
  t.equal(backends.length, 18)
  t.match(rejected, [
    /^container web7: .* with status 500: disk$/,
    /^container web8: .* more than 262144 bytes$/,
  ])
  await until(() => standIn.open() === 0)
})

t.test('an engine that is gone between the list and the inspection fails the question', async (t) => {
  const standIn = await engine(t, (request, response) => {
    if (request.url!.startsWith('/containers/json'))
      return response.end(JSON.stringify(Array.from({ length: 20 }, (_, i) => container(`web${i}`, i + 1))))
    request.socket.destroy()
  })
  const discovery = made(standIn.endpoint, { docker_container_host_env_var: 'HOST' })
  await t.rejects(discovery.ask(never), { message: /the Docker engine at / })
  await until(() => standIn.open() === 0)
})

t.test('a hundred bad entries are named and the rest is counted', async (t) => {
  const { rejected } = await answer(
    t,
    Array.from({ length: 150 }, () => ({})),
  )
  t.equal(rejected!.length, 101)
  t.equal(rejected!.at(-1), 'and 50 more')
})

/** A watch on an engine that lists one container; `say` sends an event. */
async function watched(t: Test, keys: Keys = {}) {
  const clock = new FakeClock()
  let stream: { write(text: string): void } | undefined
  const { endpoint } = await engine(t, (request, response) => {
    if (!request.url!.startsWith('/events')) return response.end(JSON.stringify([container('web', 1)]))
    stream = response
    response.flushHeaders()
  })
  const discovery = made(endpoint, keys, 'tcp', clock)
  const heard = { connects: 0, hints: 0, losses: [] as string[] }
  const watcher: Watcher = {
    connected: () => heard.connects++,
    hint: () => heard.hints++,
    lost: (why) => heard.losses.push(why),
  }
  const watching = new AbortController()
  t.teardown(() => watching.abort(new Error('enough')))
  discovery.watch!(watching.signal, watcher)
  await until(() => heard.connects === 1, 'the stream')
  const say = (event: object) => stream!.write(`${JSON.stringify(event)}\n`)
  const container1 = (Action: string, Attributes?: object, ID = 'id-web') =>
    say({ Type: 'container', Action, Actor: { ID, ...(Attributes && { Attributes }) } })
  const listed = async () => (await discovery.ask(never)).backends.length
  return { clock, heard, say, write: (text: string) => stream!.write(text), tell: container1, listed }
}

t.test('a container that died is gone although the list still has it, until it starts again', async (t) => {
  const { heard, tell, listed, clock } = await watched(t)
  t.equal(await listed(), 1)
  tell('die')
  await until(() => heard.hints === 1)
  t.equal(await listed(), 0)
  tell('start')
  await until(() => heard.hints === 2)
  t.equal(await listed(), 1)
  tell('pause')
  await until(() => heard.hints === 3)
  t.equal(await listed(), 0)
  await clock.advance(10_001)
  t.equal(await listed(), 1, 'not for ever')
})

t.test('events of others and of programs in a container are passed over', async (t) => {
  const { heard, tell } = await watched(t, { docker_container_label: 'app=web' })
  tell('exec_start: /bin/true', { app: 'web' })
  tell('health_status: healthy', { app: 'web' })
  tell('start', { app: 'other' })
  tell('start', { name: 'web' })
  tell('start', { app: 'web' })
  await until(() => heard.hints > 0)
  t.equal(heard.hints, 1)
})

t.test('with docker_healthy_only what a HEALTHCHECK says is told of', async (t) => {
  const { heard, tell } = await watched(t, { docker_healthy_only: true })
  tell('health_status: unhealthy')
  await until(() => heard.hints === 1)
  t.equal(heard.hints, 1)
})

t.test('a change of networks is asked about once the list has it', async (t) => {
  const { heard, say, tell, clock } = await watched(t)
  say({ Type: 'network', Action: 'connect', Actor: { ID: 'n', Attributes: { container: 'id-web' } } })
  tell('start', undefined, 'id-other')
  await until(() => heard.hints === 1)
  await clock.advance(500)
  t.equal(heard.hints, 2)
  say({ Type: 'network', Action: 'connect', Actor: { ID: 'n', Attributes: { container: 'id-web' } } })
  tell('start')
  await until(() => heard.hints === 3)
  await clock.advance(2_000)
  t.equal(heard.hints, 3, 'not once more for one that was heard of since')
})

t.test(
  'an event of more than a million characters, or one that is not JSON, ends the connection',
  async (t) => {
    const long = await watched(t)
    for (let i = 0; i < 20; i++) long.write('x'.repeat(65_536))
    await until(() => long.heard.losses.length > 0)
    t.match(long.heard.losses[0], /sent an event of more than 1048576 characters/)
    const junk = await watched(t)
    junk.write('<html>\n')
    await until(() => junk.heard.losses.length > 0)
    t.match(junk.heard.losses[0], /sent an event that is not JSON/)
  },
)

t.test('what is no event is passed over', async (t) => {
  const { heard, write, tell } = await watched(t)
  write('7\n\nnull\n[]\n{"Action":7}\n{"Actor":{"Attributes":{"a":{}}}}\n')
  tell('start')
  await until(() => heard.hints > 0)
  t.same([heard.hints, heard.losses.length], [1, 0])
})

t.test('an endpoint is a path, or a host with or without scheme and port', async (t) => {
  const wrong = (docker_endpoint: string, more: Keys = {}) =>
    (discoverySettings.safeParse({ kind: 'docker', docker_endpoint, ...more }).error?.issues ?? []).map(
      ({ path, message }) => `${path.join('.')}: ${message}`,
    )
  for (const good of [
    'unix:///run/d.sock',
    'unix:/run/d.sock',
    'tcp://[::1]:2375',
    'https://a.example',
    'a:2375',
    'http://a:1/',
  ])
    t.same(wrong(good), [], good)
  for (const bad of [
    'unix://run',
    'ssh://a',
    'http://',
    'tcp://a:99999',
    'http://me:secret@a',
    'http://a/b',
    'a b',
  ])
    t.match(wrong(bad), [/^docker_endpoint: an address such as/], bad)
})

t.test('a client certificate comes with its key', async (t) => {
  const issues = (keys: Keys) =>
    discoverySettings
      .safeParse({ kind: 'docker', docker_endpoint: 'https://a', ...keys })
      .error?.issues.map(({ path, message }) => `${path.join('.')}: ${message}`)
  t.same(issues({ docker_tls_cert_path: 'c' }), [
    'docker_tls_key_path: a file, as docker_tls_cert_path names one',
  ])
  t.same(issues({ docker_tls_key_path: 'k' }), [
    'docker_tls_cert_path: a file, as docker_tls_key_path names one',
  ])
  t.equal(issues({ docker_tls_cert_path: 'c', docker_tls_key_path: 'k' }), undefined)
})

t.test('what DOCKER_HOST says is not asked', async (t) => {
  const { DOCKER_HOST } = process.env
  process.env.DOCKER_HOST = 'tcp://127.0.0.1:1'
  t.teardown(() => {
    if (DOCKER_HOST === undefined) delete process.env.DOCKER_HOST
    else process.env.DOCKER_HOST = DOCKER_HOST
  })
  t.same(await texts(t, [web([port(80, 22001)])]), ['127.0.0.1:22001'])
  await t.rejects(made(`unix://${t.testdirName}.sock`).ask(never), { message: /connect ENOENT/ })
})

// A Docker engine itself: what it lists, how soon its containers are in the pool, and what clients notice of them.

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { realClock } from '../../src/core/clock.ts'
import { DockerApi } from '../../src/discovery/docker/api.ts'
import { sourceSettings } from '../../src/discovery/settings.ts'
import { createDiscovery } from '../../src/discovery/sources.ts'
import type { Manager } from '../../src/manager/manager.ts'
import { whyNot } from '../support/component.ts'
import { folder } from '../support/folder.ts'
import { portOf, running } from '../support/running.ts'
import { freePort, freePorts } from '../support/spawned.ts'
import { median, summary } from '../support/summary.ts'
import { until } from '../support/until.ts'

const SCRIPT = fileURLToPath(new URL('../../scripts/components/docker.sh', import.meta.url))

/** How long clients come while containers go and return. */
const CHURN_MS = 1_000 * Number(process.env.FAIRLEAD_CHURN_SECONDS ?? 20)
t.setTimeout(180_000 + 2 * CHURN_MS)

const state = folder(t)
const name = Math.random().toString(36).slice(2, 10)
const securePort = await freePort()
const SOCKET = `unix://${state}/docker.sock`

async function component(...args: string[]): Promise<{ status: number | null; stderr: string }> {
  const child = spawn(SCRIPT, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const [status] = (await once(child, 'close')) as [number | null]
  return { status, stderr }
}

t.teardown(() => component('stop', state))
const started = await component('start', state, name, String(securePort))
const skip = whyNot(started)

/** Options of a container whose HEALTHCHECK fails as soon as it has a file /tmp/leaving. */
const LEAVES = ['--health-cmd', 'test ! -e /tmp/leaving', '--health-interval', '1s', '--health-retries', '1']

/** What the client of Docker prints. */
async function docker(...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)('docker', ['-H', SOCKET, ...args])
  return stdout.trim()
}

const SERVE = 'rm -f /tmp/leaving; hostname >/www/index.html; exec httpd -f -p 80 -h /www'

/** Starts a web server called `called`, which tells its name; its id. It does not heed the signal to stop. */
function serve(called: string, ...options: string[]): Promise<string> {
  const common = ['--name', called, '--hostname', called, '--stop-timeout', '1']
  return docker('run', '-d', ...common, ...options, 'tools', 'sh', '-c', SERVE)
}

const published = (port: number, label: string) => ['-p', `${port}:80`, '-l', label]

const section = (keys: object = {}) => ({
  kind: 'docker',
  docker_endpoint: SOCKET,
  docker_container_private_port: 80,
  ...keys,
})

function made(keys: object, transport: 'tcp' | 'udp' = 'tcp') {
  const discovery = createDiscovery(sourceSettings.parse(section(keys)), { clock: realClock, transport })
  return async () => {
    const { backends, rejected = [] } = await discovery.ask(AbortSignal.timeout(5_000))
    return [...backends.map(({ identity, weight }) => `${identity} ${weight}`).sort(), ...rejected]
  }
}

const listed = (keys: object, transport?: 'tcp' | 'udp') => made(keys, transport)()

const serving = (keys: object) => ({ bind: '127.0.0.1:0', discovery: section(keys) })

/** Its backends that may be elected, by identity. */
function electable(manager: Manager): string[] {
  const { pool } = manager.servers.get('web')!
  return [...pool.backends].filter((each) => pool.live(each)).map(({ found }) => found.identity)
}

const becomes = (manager: Manager, ports: readonly number[], limitMs?: number) =>
  until(
    () => electable(manager).sort().join() === ports.map((port) => `127.0.0.1:${port}`).join(),
    `electable ${ports.join()}`,
    limitMs,
  )

t.test('docker', { skip }, async (t) => {
  t.comment('real: Docker')
  t.equal(started.status, 0, started.stderr)
  t.equal((await component('image', state)).status, 0)
  const ports = (await freePorts(6)).sort((a, b) => a - b) as [number, number, number, number, number, number]

  t.test('running containers with the label are listed, with what their labels say', async (t) => {
    await serve('list1', ...published(ports[0], 'fairlead.weight=5'), '-l', 'app=list')
    await serve('list2', ...published(ports[1], 'app=list'))
    await serve('other', ...published(ports[2], 'app=other'))
    await serve('paused', ...published(ports[3], 'app=list'))
    await docker('pause', 'paused')
    await docker('create', '-l', 'app=list', 'tools', 'true')
    const both = [`127.0.0.1:${ports[0]} 5`, `127.0.0.1:${ports[1]} 1`]
    t.same(await listed({ docker_container_label: 'app=list' }), both)
    t.same(await listed({ docker_container_label: 'app=none' }), [])
    t.equal((await listed({ docker_container_label: 'app' })).length, 3)
    t.same(await listed({ docker_container_label: 'app=list', docker_container_private_port: 0 }), both)
    t.same(await listed({ docker_container_label: 'app=list', docker_container_private_port: 81 }), [])
    await docker('rm', '-f', 'list1', 'list2', 'other', 'paused')
  })

  t.test('the mapping has the protocol of the server', async (t) => {
    const [tcp, udp] = ports
    await serve('dns', '-l', 'app=dns', '-p', `${tcp}:53/tcp`, '-p', `${udp}:53/udp`)
    const keys = { docker_container_label: 'app=dns', docker_container_private_port: 53 }
    t.same(await listed(keys, 'tcp'), [`127.0.0.1:${tcp} 1`])
    t.same(await listed(keys, 'udp'), [`127.0.0.1:${udp} 1`])
    await docker('rm', '-f', 'dns')
  })

  t.test('a port on every address of both families is one backend', async (t) => {
    await serve('twins', '-l', 'app=twins', '-p', `0.0.0.0:${ports[0]}:80`, '-p', `[::]:${ports[0]}:80`)
    t.same(await listed({ docker_container_label: 'app=twins' }), [`127.0.0.1:${ports[0]} 1`])
    await docker('rm', '-f', 'twins')
  })

  t.test('without a published port the container’s own address serves, or that in a network', async (t) => {
    const address = async (network: string) =>
      docker('inspect', '-f', `{{(index .NetworkSettings.Networks "${network}").IPAddress}}`, 'own')
    await serve('own', '-l', 'app=own')
    await docker('network', 'create', 'shop')
    const keys = { docker_container_label: 'app=own' }
    const bridge = await address('bridge')
    t.same(await listed(keys), [`${bridge}:80 1`])
    t.same(await listed({ ...keys, docker_network: 'shop' }), [])

    const manager = await running(t, { servers: { web: serving({ ...keys, docker_network: 'shop' }) } })
    await docker('network', 'connect', 'shop', 'own')
    const shop = await address('shop')
    await until(() => electable(manager).join() === `${shop}:80`, 'the address in the network')
    t.equal(await ask(portOf(manager, 'web')), 'own')
    await docker('network', 'disconnect', 'shop', 'own')
    await until(() => electable(manager).length === 0, 'none')
    await docker('rm', '-f', 'own')
    await docker('network', 'rm', 'shop')
  })

  t.test('an environment variable of the container is the host', async (t) => {
    await serve('env', ...published(ports[0], 'app=env'), '-e', 'PUBLIC_HOST=10.9.8.7')
    const keys = { docker_container_label: 'app=env', docker_container_host_env_var: 'PUBLIC_HOST' }
    t.same(await listed(keys), [`10.9.8.7:${ports[0]} 1`])
    await docker('rm', '-f', 'env')
  })

  t.test('a container whose HEALTHCHECK fails is left out as soon as it does', async (t) => {
    await serve('sick', ...published(ports[0], 'app=sick'), ...LEAVES)
    const keys = { docker_container_label: 'app=sick', docker_healthy_only: true }
    t.same(await listed(keys), [], 'not known yet')
    const manager = await running(t, { servers: { web: serving(keys) } })
    await becomes(manager, [ports[0]])
    await docker('exec', 'sick', 'touch', '/tmp/leaving')
    await becomes(manager, [])
    t.same(await listed({ ...keys, docker_healthy_only: false }), [`127.0.0.1:${ports[0]} 1`])
    await docker('exec', 'sick', 'rm', '/tmp/leaving')
    await becomes(manager, [ports[0]])
    await docker('rm', '-f', 'sick')
  })

  t.test('over TLS, both sides show certificates; renewed ones are noticed', async (t) => {
    await serve('tls', ...published(ports[0], 'app=tls'))
    const tls = (cert: string, ca = 'ca.pem') => ({
      docker_endpoint: `tcp://127.0.0.1:${securePort}`,
      docker_container_label: 'app=tls',
      docker_tls_enabled: true,
      docker_tls_cacert_path: ca && join(state, ca),
      ...(cert && {
        docker_tls_cert_path: join(state, `${cert}.pem`),
        docker_tls_key_path: join(state, `${cert}.key`),
      }),
    })
    const found = [`127.0.0.1:${ports[0]} 1`]
    t.same(await listed(tls('client')), found)
    t.same(await listed(tls('client', '')), found, 'without an authority the engine is not verified')
    await t.rejects(listed(tls('')), { message: /cannot ask the Docker engine at tcp:.*certificate/ })
    await t.rejects(listed(tls('other')), { message: /cannot ask the Docker engine/ })
    await t.rejects(listed(tls('client', 'other.pem')), { message: /cannot ask .*certificate/ })
    await t.rejects(listed({ ...tls('client'), docker_tls_enabled: false }), {
      message: /status 400: .*HTTPS/,
    })

    const renew = (from: string) => {
      for (const kind of ['pem', 'key'])
        copyFileSync(join(state, `${from}.${kind}`), join(state, `mine.${kind}`))
    }
    renew('other')
    const mine = made(tls('mine'))
    await t.rejects(mine())
    renew('client')
    t.same(await mine(), found)

    const manager = await running(t, { servers: { web: serving(tls('mine')) } })
    await becomes(manager, [ports[0]])
    await docker('rm', '-f', 'tls')
    await becomes(manager, [])
  })

  t.test('a container that starts or stops is soon in or out of the electable backends', async (t) => {
    const id = await serve('timed', ...published(ports[0], 'app=timed'))
    const manager = await running(t, { servers: { web: serving({ docker_container_label: 'app=timed' }) } })
    await becomes(manager, [ports[0]])
    const listening = new AbortController()
    t.teardown(() => listening.abort(new Error('enough')))
    const told = events(id, listening.signal)
    const took = { in: [] as number[], out: [] as number[] }
    for (let i = 0; i < 10; i++)
      for (const to of ['out', 'in'] as const) {
        // No faster than hints may ask for long: one a second.
        await new Promise((resolve) => setTimeout(resolve, 1_100))
        const seen = until(() => (electable(manager).length === 0) === (to === 'out')).then(now)
        await (to === 'out' ? docker('stop', '-t', '0', 'timed') : docker('start', 'timed'))
        const action = to === 'out' ? 'die' : 'start'
        const at = await seen
        await until(() => told.get(action)?.length === i + 1, 'the event')
        took[to].push(Math.max(0, at - told.get(action)![i]!))
      }
    const all = [...took.in, ...took.out]
    t.comment(`from the event: in ${summary(took.in)}; out ${summary(took.out)}; all ${summary(all)}`)
    t.equal(all.length, 20)
    t.ok(median(all) < 5_000)
    await docker('rm', '-f', 'timed')
  })

  t.test('an engine that restarts is found again, and its list is right', async (t) => {
    const keys = { docker_container_label: 'app=again' }
    await serve('stays', '--restart', 'always', ...published(ports[0], 'app=again'))
    await serve('ends', ...published(ports[1], 'app=again'))
    const manager = await running(t, { servers: { web: serving(keys) } })
    await becomes(manager, [ports[0], ports[1]])
    t.equal((await component('halt', state)).status, 0)
    t.equal((await component('start', state, name, String(securePort))).status, 0)
    await becomes(manager, [ports[0]], 30_000)
    await serve('comes', ...published(ports[2], 'app=again'))
    await becomes(manager, [ports[0], ports[2]])
    await docker('rm', '-f', 'stays', 'ends', 'comes')
    await becomes(manager, [])
  })

  // What makes it orderly is that the container says so first: its HEALTHCHECK fails while it still serves, and it
  // is stopped once the balancer has dropped it. No label can change while a container runs.
  t.test('clients notice nothing of containers that leave in order', async (t) => {
    const names = ['calm1', 'calm2', 'calm3']
    for (const [i, each] of names.entries()) await serve(each, ...published(ports[i]!, 'app=calm'), ...LEAVES)
    const keys = { docker_container_label: 'app=calm', docker_healthy_only: true }
    const manager = await running(t, { servers: { web: serving(keys) } })
    await becomes(manager, ports.slice(0, 3))
    const crowd = new Crowd(portOf(manager, 'web'))
    let leaves = 0
    for (const ends = now() + CHURN_MS; now() < ends; leaves++) {
      const leaving = names[leaves % 3]!
      await docker('exec', leaving, 'touch', '/tmp/leaving')
      await until(() => electable(manager).length === 2, 'it to be out')
      // It does not heed the signal, so that what it has in hand is done within the second it is given.
      await docker('stop', '-t', '1', leaving)
      await docker('start', leaving)
      await until(() => electable(manager).length === 3, 'it to be in')
    }
    await crowd.leave()
    t.comment(`${leaves} orderly leaves: ${crowd.served} served, ${crowd.failed} failed`)
    t.equal(crowd.failed, 0)
    t.equal(crowd.met.size, 3)
    await docker('rm', '-f', ...names)
  })

  t.test('of containers that are killed, clients lose what was on its way', async (t) => {
    const names = ['wild1', 'wild2', 'wild3']
    for (const [i, each] of names.entries()) await serve(each, ...published(ports[i]!, 'app=wild'))
    const manager = await running(t, { servers: { web: serving({ docker_container_label: 'app=wild' }) } })
    await becomes(manager, ports.slice(0, 3))
    const crowd = new Crowd(portOf(manager, 'web'))
    let kills = 0
    for (const ends = now() + CHURN_MS / 2; now() < ends; kills++) {
      await docker('kill', '-s', 'KILL', names[kills % 3]!)
      await until(() => electable(manager).length === 2, 'it to be out')
      await docker('start', names[kills % 3]!)
      await until(() => electable(manager).length === 3, 'it to be in')
    }
    await crowd.leave()
    t.comment(`${kills} kills: ${crowd.served} served, ${crowd.failed} failed`)
    t.ok(crowd.served > crowd.failed && kills > 0)
    await docker('rm', '-f', ...names)
  })
})

/** Milliseconds since 1970 with their fractions, as the engine counts. */
function now(): number {
  return performance.timeOrigin + performance.now()
}

/** When the engine says that a container died or started, in the order of its events. */
function events(id: string, signal: AbortSignal): Map<string, number[]> {
  const times = new Map<string, number[]>()
  const filters = { container: [id], event: ['die', 'start'] }
  const hear = async () => {
    for await (const event of new DockerApi(SOCKET).events(filters, signal, () => {})) {
      const { Action, timeNano } = event as { Action: string; timeNano: number }
      times.set(Action, [...(times.get(Action) ?? []), timeNano / 1e6])
    }
  }
  hear().catch(() => {})
  return times
}

/** The one line that a new client of a web server is told; rejects when it is told none. */
async function ask(port: number): Promise<string> {
  const socket = connect({ host: '127.0.0.1', port })
  let text = ''
  let fault: Error | undefined
  socket.setEncoding('latin1').on('data', (chunk: string) => (text += chunk))
  socket.on('error', (error) => (fault = error)).setTimeout(10_000, () => socket.destroy())
  socket.write('GET / HTTP/1.0\r\n\r\n')
  await new Promise((resolve) => socket.on('close', resolve))
  const line = /^HTTP\/1\.[01] 200 [^]*\r\n\r\n(.+)\n$/.exec(text)?.[1]
  if (line === undefined) throw fault ?? new Error(`told ${JSON.stringify(text)}`)
  return line
}

/** Clients that come one after another, four at a time, until they are told to leave. */
class Crowd {
  readonly met = new Set<string>()
  served = 0
  failed = 0
  #leaving = false
  readonly #clients: Promise<void>[]

  constructor(port: number) {
    this.#clients = Array.from({ length: 4 }, () => this.#come(port))
  }

  /** Resolves when the last client has its answer. */
  async leave(): Promise<void> {
    this.#leaving = true
    await Promise.all(this.#clients)
  }

  async #come(port: number): Promise<void> {
    while (!this.#leaving) {
      await ask(port).then(
        (line) => this.met.add(line) && this.served++,
        () => this.failed++,
      )
      // The machine is there for others too.
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }
}

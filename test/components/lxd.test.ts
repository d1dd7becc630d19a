// The lxd discovery against real LXD and Incus. Each is started in a network namespace of its own; this file then
// runs once more inside of it, where containers and their server can be reached.

import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import type { Test } from 'tap'
import { addressText } from '../../src/core/address.ts'
import { realClock } from '../../src/core/clock.ts'
import { configureLogging } from '../../src/core/log.ts'
import type { Answer } from '../../src/discovery/discovery.ts'
import { sourceSettings } from '../../src/discovery/settings.ts'
import { createDiscovery } from '../../src/discovery/sources.ts'
import type { Manager } from '../../src/manager/manager.ts'
import { whyNot } from '../support/component.ts'
import { FakeClock } from '../support/clock.ts'
import { folder } from '../support/folder.ts'
import { portOf, running } from '../support/running.ts'
import { median } from '../support/summary.ts'
import { until } from '../support/until.ts'

const run = promisify(execFile)
const SCRIPT = fileURLToPath(new URL('../../scripts/components/lxd.sh', import.meta.url))

/** How long traffic flows while containers come and go, and how long their changes are timed. */
const SECONDS = Number(process.env.FAIRLEAD_CHURN_SECONDS ?? 20)

/** Three hints a round, and a hint in a second is answered at once for as long as one likes. */
const ROUND_MS = 3_000
const MOST_ROUNDS = 20

configureLogging({ level: 'panic', output: 'stderr', format: 'text' })
t.setTimeout((60 + 4 * SECONDS) * 1_000)

const DIR = process.env.FAIRLEAD_LXD_DIR
const FLAVOUR = process.env.FAIRLEAD_LXD_FLAVOUR

if (DIR === undefined) both()
else {
  everywhere(DIR)
  if (FLAVOUR === 'lxd') lxdAlone(DIR)
}

function both(): void {
  for (const flavour of ['lxd', 'incus'])
    t.test(flavour, async (t) => {
      // The path of a unix socket is 107 bytes at most.
      const dir = mkdtempSync(join(tmpdir(), 'fl-'))
      t.teardown(async () => {
        await run(SCRIPT, ['stop', dir])
        rmSync(dir, { recursive: true, force: true })
      })
      const began = performance.now()
      const absent = await start(dir, flavour)
      if (absent) return t.plan(0, absent)
      t.comment(`real: ${flavour}`)
      t.comment(`${flavour} started in ${Math.round(performance.now() - began)} ms`)
      const again = [process.execPath, ...process.execArgv, fileURLToPath(import.meta.url)]
      const env = { ...process.env, FAIRLEAD_LXD_DIR: dir, FAIRLEAD_LXD_FLAVOUR: flavour }
      await t.spawn(SCRIPT, ['exec', dir, ...again], { env }, `in the network of ${flavour}`)
    })
}

/** Why it cannot be started here; false when it runs. */
async function start(dir: string, flavour: string): Promise<string | false> {
  try {
    await run(SCRIPT, ['start', dir, flavour])
    return false
  } catch (error) {
    const { code, stderr } = error as { code: number; stderr: string }
    return whyNot({ status: code, stderr })
  }
}

/** Runs the client of LXD or Incus: what it printed. */
async function lxc(...args: string[]): Promise<string> {
  const running = run(FLAVOUR === 'incus' ? 'incus' : 'lxc', args)
  // It would read a configuration from there.
  running.child.stdin!.end()
  return (await running).stdout.trim()
}

/** Starts a container, gone with the test; resolves when it has its address. */
async function container(
  t: Test,
  dir: string,
  name: string,
  config: Record<string, string>,
): Promise<string> {
  t.teardown(() => lxc('delete', '-f', name))
  await lxc(
    'launch',
    'lab',
    name,
    ...Object.entries(config).flatMap(([key, value]) => ['-c', `${key}=${value}`]),
  )
  return addressed(dir, name)
}

/** The file in which a container says its address, when it has one. */
const addressFile = (dir: string, name: string) =>
  join(dir, 'storage-pools/default/containers', name, 'rootfs/address')

async function addressed(dir: string, name: string): Promise<string> {
  const file = addressFile(dir, name)
  await until(() => existsSync(file) && readFileSync(file, 'utf8') !== '', `the address of ${name}`)
  return readFileSync(file, 'utf8').trim()
}

type Section = Record<string, unknown>

const unix = (dir: string, section: Section = {}): Section => ({
  kind: 'lxd',
  lxd_server_address: `unix://${dir}/unix.socket`,
  ...section,
})

const https = (folder: string, section: Section = {}): Section => ({
  kind: 'lxd',
  lxd_server_address: 'https://127.0.0.1:8443',
  lxd_config_directory: folder,
  lxd_container_port: 80,
  ...section,
})

function ask(section: Section, clock = realClock): Promise<Answer> {
  const discovery = createDiscovery(sourceSettings.parse(section), { clock, transport: 'tcp' })
  return discovery.ask(new AbortController().signal)
}

const texts = ({ backends }: Answer) => backends.map(({ address }) => addressText(address)).sort()

/** A server whose backends are the containers with the label `web`. */
const web = (dir: string): object => ({
  bind: '127.0.0.1:0',
  discovery: unix(dir, { lxd_container_label_key: 'user.web', lxd_container_port: 80 }),
})

/** The backends that take new flows. */
function electable(manager: Manager): string[] {
  const { pool } = manager.servers.get('web')!
  return [...pool.backends].filter((each) => pool.live(each)).map(({ found }) => addressText(found.address))
}

/** Resolves with the time when `address` is electable, or no longer. */
async function seen(manager: Manager, address: string, expected: boolean): Promise<number> {
  await until(() => electable(manager).includes(address) === expected, `${address} electable: ${expected}`)
  return Date.now()
}

function everywhere(dir: string): void {
  t.test('containers are listed by label, port, interface, name and options from their keys', async (t) => {
    const a = await container(t, dir, 'a', {
      'user.role': 'web',
      'user.port': '8080',
      'user.name': 'a.test',
      'user.fairlead.weight': '5',
      'user.fairlead.colour': 'red',
    })
    const b = await container(t, dir, 'b', { 'user.role': 'web', 'user.nic': 'eth0' })
    await container(t, dir, 'c', { 'user.role': 'db' })
    const keys = {
      lxd_container_label_key: 'user.role',
      lxd_container_label_value: 'web',
      lxd_container_port_key: 'user.port',
      lxd_container_sni_key: 'user.name',
      lxd_container_interface_key: 'user.nic',
    }
    const { backends, rejected } = await ask(unix(dir, keys))
    t.match(backends, [{ address: { host: a, port: 8080 }, weight: 5, sni: 'a.test' }])
    t.same(rejected, [
      'container "a": fairlead.colour: expected one of weight, priority, max_connections, sni, drain',
      'container "b": expected its port in user.port, or lxd_container_port',
    ])
    const whole = await ask(unix(dir, { ...keys, lxd_container_port: 80, lxd_container_interface: 'eth7' }))
    t.same(texts(whole), [`${b}:80`])
    const role = await ask(unix(dir, { lxd_container_label_key: 'user.role', lxd_container_port: 80 }))
    t.equal(role.backends.length, 3)
    await lxc('stop', '-f', 'b')
    t.equal((await ask(unix(dir, { lxd_container_port: 80 }))).backends.length, 2, 'stopped')
  })

  t.test('a container without the wanted address is named once it has had the time to get it', async (t) => {
    await container(t, dir, 'a', {})
    const clock = new FakeClock()
    const settings = unix(dir, { lxd_container_port: 80, lxd_container_address_type: 'IPv6' })
    const discovery = createDiscovery(sourceSettings.parse(settings), { clock, transport: 'tcp' })
    const first = await discovery.ask(new AbortController().signal)
    t.same([first.backends, first.rejected], [[], []], 'its link-local address is none')
    await clock.advance(15_000)
    const { rejected } = await discovery.ask(new AbortController().signal)
    t.same(rejected, ['container "a": has no IPv6 address on "eth0"'])
  })

  t.test('over https, a token makes the server trust a certificate that was made', async (t) => {
    const address = await container(t, dir, 'a', {})
    const home = folder(t)
    const token = (await lxc('config', 'trust', 'add', ...tokenArguments())).split('\n').at(-1)!
    const first = { lxd_generate_client_certs: true, lxd_accept_server_cert: true }
    t.same(texts(await ask(https(home, { ...first, lxd_server_remote_password: token }))), [`${address}:80`])
    t.same(texts(await ask(https(home))), [`${address}:80`], 'and then nothing more is needed')
    const used = ask(https(folder(t), { ...first, lxd_server_remote_password: token }))
    await t.rejects(used, { message: /does not trust us: lxd_server_remote_password is not/ })
    const other = btoa(JSON.stringify({ fingerprint: '00', secret: 'x' }))
    await t.rejects(ask(https(folder(t), { ...first, lxd_server_remote_password: other })), {
      message: /the token is for another server than this one/,
    })
  })

  t.test('containers that start, drain and stop are in and out of the electable backends', async (t) => {
    const manager = await running(t, { servers: { web: web(dir) } })
    const address = `${await container(t, dir, 'a', { 'user.web': 'yes' })}:80`
    await seen(manager, address, true)
    await lxc('config', 'set', 'a', 'user.fairlead.drain=true')
    await seen(manager, address, false)
    await lxc('config', 'unset', 'a', 'user.fairlead.drain')
    await seen(manager, address, true)
    await lxc('stop', '-f', 'a')
    await seen(manager, address, false)
  })
}

const tokenArguments = () =>
  FLAVOUR === 'incus' ? ['fairlead', '--quiet'] : ['--name', 'fairlead', '--quiet']

function lxdAlone(dir: string): void {
  t.test('over https, a trust password is needed once, and then the certificates are', async (t) => {
    const address = await container(t, dir, 'a', {})
    await lxc('config', 'set', 'core.trust_password', 'open sesame')
    const home = join(folder(t), 'made/too')
    await t.rejects(ask(https(home)), {
      message: /its certificate is unknown \(SHA-256 .*lxd_accept_server_cert/,
    })
    await t.rejects(ask(https(home, { lxd_accept_server_cert: true })), {
      message: /does not trust us: there is no .*client.crt; .*lxd_generate_client_certs$/,
    })
    await t.rejects(ask(https(home, { lxd_generate_client_certs: true })), {
      message:
        /does not trust us: run `lxc config trust add .*client.crt` there, or set lxd_server_remote_password$/,
    })
    await t.rejects(ask(https(home, { lxd_server_remote_password: 'wrong horse' })), {
      message:
        /lxd_server_remote_password is not its trust password, nor .* \(LXD at .* answered 403: [^()]*\)$/,
    })
    t.same(texts(await ask(https(home, { lxd_server_remote_password: 'open sesame' }))), [`${address}:80`])
    t.equal(statSync(join(home, 'client.key')).mode & 0o777, 0o600)
    t.same(texts(await ask(https(home))), [`${address}:80`])

    const manager = await running(t, { servers: { web: { bind: '127.0.0.1:0', discovery: https(home) } } })
    await until(() => manager.servers.get('web')!.sources()[0]?.push === 'connected', 'its events')
    await lxc('stop', '-f', 'a')
    await seen(manager, `${address}:80`, false)

    writeFileSync(join(home, 'servercerts/local.crt'), readFileSync(join(home, 'client.crt')))
    await t.rejects(ask(https(home, { lxd_accept_server_cert: true })), {
      message: /it shows another certificate than .*servercerts\/local.crt/,
    })
  })

  t.test('after the server was restarted, changes are heard of again', async (t) => {
    const manager = await running(t, { servers: { web: web(dir) } })
    const address = `${await container(t, dir, 'a', { 'user.web': 'yes' })}:80`
    await seen(manager, address, true)
    await run(SCRIPT, ['restart', dir])
    t.same(electable(manager), [address], 'nothing was lost meanwhile')
    await until(() => manager.servers.get('web')!.sources()[0]!.push === 'connected', 'its events', 20_000)
    await lxc('stop', '-f', 'a')
    await seen(manager, address, false)
  })

  t.test('a change is seen soon', async (t) => {
    const manager = await running(t, { servers: { web: web(dir) } })
    const address = `${await container(t, dir, 'a', { 'user.web': 'yes' })}:80`
    await seen(manager, address, true)
    const starts: number[] = []
    const stops: number[] = []
    const end = performance.now() + SECONDS * 1_000
    while (performance.now() < end && starts.length < MOST_ROUNDS) {
      const round = performance.now()
      const gone = seen(manager, address, false)
      await lxc('stop', '-f', 'a')
      const stopped = Date.now()
      stops.push((await gone) - stopped)
      rmSync(addressFile(dir, 'a'))
      await lxc('start', 'a')
      t.equal(`${await addressed(dir, 'a')}:80`, address)
      const back = await seen(manager, address, true)
      starts.push(back - statSync(addressFile(dir, 'a')).mtimeMs)
      await until(() => performance.now() - round > ROUND_MS)
    }
    const all = (list: readonly number[]) => list.map(Math.round).join(' ')
    t.comment(`${starts.length} rounds, median and all, in ms; below 0 is before the command has returned`)
    t.comment(`from \`lxc stop -f\`’s return to not electable: ${median(stops).toFixed(0)} (${all(stops)})`)
    t.comment(`from its address to electable: ${median(starts).toFixed(0)} (${all(starts)})`)
    t.ok(median(stops) < 10_000)
    t.ok(median(starts) < 10_000)
  })

  t.test('clients notice nothing of containers that drain before they stop', async (t) => {
    const names = ['a', 'b', 'c']
    const addresses = await Promise.all(names.map((name) => container(t, dir, name, { 'user.web': 'yes' })))
    const manager = await running(t, { servers: { web: web(dir) } })
    for (const address of addresses) await seen(manager, `${address}:80`, true)
    const orderly = await churn(manager, names, SECONDS, async (name) => {
      await lxc('config', 'set', name, 'user.fairlead.drain=true')
      const address = `${await addressed(dir, name)}:80`
      await seen(manager, address, false)
      await until(() => flows(manager, address) === 0, `the last flow of ${name}`)
      await lxc('stop', '-f', name)
      await lxc('config', 'unset', name, 'user.fairlead.drain')
      await restart(name)
    })
    t.comment(`orderly: ${text(orderly)}`)
    t.equal(orderly.failed, 0)
    t.ok(orderly.changes > 0)
    t.comment(
      `stopped amid their flows: ${text(
        await churn(manager, names, SECONDS / 4, async (name) => {
          await lxc('stop', '-f', name)
          await restart(name)
        }),
      )}`,
    )

    async function restart(name: string): Promise<void> {
      rmSync(addressFile(dir, name))
      await lxc('start', name)
      await seen(manager, `${await addressed(dir, name)}:80`, true)
    }
  })
}

/** Flows that backend holds. */
function flows(manager: Manager, address: string): number {
  const { pool } = manager.servers.get('web')!
  const backend = [...pool.backends].find(({ found }) => addressText(found.address) === address)
  return backend ? pool.columns.slots[backend.row]! : 0
}

interface Churned {
  readonly good: number
  readonly failed: number
  readonly changes: number
}

const text = ({ good, failed, changes }: Churned) =>
  `${failed} of ${good + failed} requests failed, ${changes} changes`

/** Four clients ask again and again, each time over a new connection, while one container after another changes. */
async function churn(
  manager: Manager,
  names: readonly string[],
  seconds: number,
  change: (name: string) => Promise<void>,
): Promise<Churned> {
  let over = false
  let good = 0
  let failed = 0
  let changes = 0
  const client = async () => {
    while (!over)
      if (await asks(portOf(manager, 'web'), names)) good++
      else failed++
  }
  const clients = Array.from({ length: 4 }, client)
  const end = performance.now() + seconds * 1_000
  while (performance.now() < end) await change(names[changes++ % names.length]!)
  over = true
  await Promise.all(clients)
  return { good, failed, changes }
}

/** Whether one of the containers answers with its name. */
function asks(port: number, names: readonly string[]): Promise<boolean> {
  return new Promise((resolve) => {
    const asking = request({ host: '127.0.0.1', port, agent: false, timeout: 10_000 }, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (chunk: string) => (body += chunk))
      response.on('error', () => resolve(false))
      response.on('end', () => resolve(names.includes(body.trim())))
    })
    asking.on('timeout', () => asking.destroy())
    asking.on('error', () => resolve(false))
    asking.end()
  })
}

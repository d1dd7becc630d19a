// A real Consul cluster of three behind the example, asked by clients of every network it names.

import { spawnSync } from 'node:child_process'
import { get } from 'node:http'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { whyNot } from '../../test/support/component.ts'
import { folder } from '../../test/support/folder.ts'
import { spawnFairlead } from '../../test/support/spawned.ts'
import { until } from '../../test/support/until.ts'

const here = (name: string) => fileURLToPath(new URL(name, import.meta.url))
const consul = (...args: string[]) =>
  spawnSync(here('../../scripts/components/consul.sh'), args, { encoding: 'utf8' })

// Loopback addresses of this run alone, so that Consul has its own port 8500 on each.
const net = `127.94.${1 + (process.pid % 254)}`
const servers = [`${net}.1`, `${net}.2`, `${net}.3`]

const state = folder(t)
t.teardown(() => consul('stop', state))
const started = consul('start', state, ...servers)
const missing = ['curl', 'jq'].filter((tool) => spawnSync('which', [tool]).status !== 0)
const skip = whyNot(started) || (missing.length > 0 && `missing: ${missing.join(', ')}`)

t.test('consul-front', { skip }, async (t) => {
  t.equal(started.status, 0, started.stderr)
  const fairlead = await spawnFairlead(
    t,
    new URL('fairlead.toml', import.meta.url),
    {
      '10.0.0.1:8500': '127.0.0.1:0',
      '99.99.99.1/24': '127.99.99.1/24',
      '199.199.199.1/24': '127.199.199.1/24',
      '200.200.200.200/32': '127.200.200.200/32',
      '99.99.98.1/32': '127.99.98.1/32',
      '/etc/fairlead/consul_node_discovery.sh': here('consul_node_discovery.sh'),
      '"10s"': '"200ms"',
    },
    { CONSUL_HTTP_ADDR: `${servers[0]}:8500` },
  )
  const port = fairlead.port('consul')
  const stats = async () => (await fairlead.api('GET', '/servers/consul/stats')).body
  const listed = async () => {
    const { backends } = await stats()
    return backends.map(({ host, port }: { host: string; port: string }) => `${host}:${port}`).sort()
  }
  const everyServer = servers.map((address) => `${address}:8500`)

  t.test('the servers the cluster names are the backends', async (t) => {
    await until(async () => (await listed()).length === 3, 'three backends')
    t.same(await listed(), everyServer)
  })

  t.test('clients of the four allowed ranges reach the API of Consul', async (t) => {
    const leader = new RegExp(`^"${net}\\.[123]:8300"$`)
    await until(async () => leader.test(await ask(port, '127.99.99.200', '/v1/status/leader')), 'a leader')
    for (const from of ['127.99.99.200', '127.199.199.7', '127.200.200.200', '127.99.98.1'])
      t.match(await ask(port, from, '/v1/status/leader'), leader, from)
  })

  t.test('everybody else is closed and counted', async (t) => {
    const before = (await stats()).refusals?.access ?? 0
    for (const from of ['127.99.97.1', '127.200.200.201', '127.99.98.2', '127.0.0.1'])
      await t.rejects(ask(port, from, '/v1/status/leader'), { code: 'ECONNRESET' }, from)
    t.equal((await stats()).refusals.access - before, 4)
  })

  t.test('a client keeps its server', async (t) => {
    const nodes = new Set<string>()
    for (let i = 0; i < 5; i++)
      nodes.add(JSON.parse(await ask(port, '127.99.99.42', '/v1/agent/self')).Config.NodeName)
    t.equal(nodes.size, 1)
  })

  t.test('the last list stays while the script fails, and clients are served from it', async (t) => {
    consul('stop', state, servers[0]!)
    await fairlead.says('the last list of 3 stays')
    await fairlead.says('consul_node_discovery.sh exited with status 7: curl: (7)')
    t.same(await listed(), everyServer)
    for (let last = 1; last <= 9; last++)
      t.match(await ask(port, `127.99.99.${last}`, '/v1/agent/self'), '"server-', `127.99.99.${last}`)
  })

  t.test('SIGTERM ends it with status 0', async (t) => t.equal(await fairlead.stop(), 0))
})

/** What Consul answers to a client with the address `from`, on a connection of its own. */
function ask(port: number, from: string, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = get({ port, path, host: '127.0.0.1', localAddress: from, agent: false }, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (chunk: string) => (body += chunk))
      response.on('end', () => resolve(body)).on('error', reject)
    })
    request.on('error', reject)
  })
}

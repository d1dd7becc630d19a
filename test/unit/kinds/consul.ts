// Consul as the wire sees it: what is asked of an agent, how often, and what answers of every sort become.

import { once } from 'node:events'
import { createServer } from 'node:http'
import type { IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import type { Test } from 'tap'
import { addressText } from '../../../src/core/address.ts'
import type { Clock } from '../../../src/core/clock.ts'
import { realClock } from '../../../src/core/clock.ts'
import { discoverySettings } from '../../../src/discovery/settings.ts'
import type { SourceSettings } from '../../../src/discovery/settings.ts'
import { createDiscovery } from '../../../src/discovery/sources.ts'
import { NO_IPV6 } from '../../support/ipv6.ts'
import { FakeClock } from '../../support/clock.ts'
import { until } from '../../support/until.ts'

interface Asked {
  readonly url: URL
  readonly headers: IncomingHttpHeaders
}

/** What an agent says to a question: a status other than 200, an index, instances; nothing keeps it open. */
type Says = { status?: number; index?: number; list?: unknown[] } | undefined

async function agent(t: Test, answer: (count: number) => Says, host = '127.0.0.1') {
  const asked: Asked[] = []
  const server = createServer(({ url, headers }, response) => {
    asked.push({ url: new URL(url!, 'http://agent'), headers })
    const says = answer(asked.length)
    if (!says) return
    response.writeHead(says.status ?? 200, { 'X-Consul-Index': String(says.index ?? 7) })
    response.end(JSON.stringify(says.list ?? []))
  })
  server.listen(0, host)
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  const { port } = server.address() as AddressInfo
  const open = () => new Promise<number>((resolve) => server.getConnections((_, count) => resolve(count)))
  return { asked, open, consul_host: `${host.includes(':') ? `[${host}]` : host}:${port}` }
}

function made(section: object, clock: Clock = realClock) {
  const settings = discoverySettings.parse({ kind: 'consul', consul_service_name: 'web', ...section })
  return createDiscovery(settings as SourceSettings, { clock, transport: 'tcp' })
}

const ask = (section: object) => made(section).ask(AbortSignal.timeout(5_000))

/** A watch, and how often it said what; ended with the test. */
function watching(t: Test, section: object, clock: Clock) {
  const heard = { connects: 0, hints: 0, losses: [] as string[] }
  const ending = new AbortController()
  t.teardown(() => ending.abort())
  made(section, clock).watch!(ending.signal, {
    connected: () => void heard.connects++,
    hint: () => void heard.hints++,
    lost: (why) => void heard.losses.push(why),
  })
  return heard
}

const at = (host: string, more: object = {}, rest: object = {}) => ({
  Service: { ID: host, Address: host, Port: 80, ...more },
  ...rest,
})

t.test('only what is set is asked for and shown', async (t) => {
  const { asked, consul_host } = await agent(t, () => ({ list: [at('a')] }))
  await ask({ consul_host, consul_auth_password: 'unused' })
  const { url, headers } = asked[0]!
  t.equal(url.href, 'http://agent/v1/health/service/web')
  t.notOk('authorization' in headers || 'x-consul-token' in headers)

  await ask({
    consul_host,
    consul_service_name: 'a/b c',
    consul_service_tag: 'v 2',
    consul_service_passing_only: true,
    consul_service_datacenter: 'dc2',
    consul_acl_token: 'secret',
    consul_auth_username: 'me',
    consul_auth_password: 'päss',
  })
  const full = asked[1]!
  t.equal(full.url.pathname, '/v1/health/service/a%2Fb%20c')
  t.same(Object.fromEntries(full.url.searchParams), { tag: 'v 2', passing: 'true', dc: 'dc2' })
  t.match(full.headers, {
    'x-consul-token': 'secret',
    authorization: `Basic ${Buffer.from('me:päss').toString('base64')}`,
  })
})

t.test('an empty list is asked about once more, a list is not, and no connection is left', async (t) => {
  const { asked, open, consul_host } = await agent(t, (count) => ({ list: count === 1 ? [at('a')] : [] }))
  await ask({ consul_host })
  t.equal(asked.length, 1)
  await ask({ consul_host, consul_datacenter: 'dc2', consul_acl_token: 'secret' })
  t.same(
    asked
      .slice(1)
      .map(({ url, headers }) => `${url.pathname}${url.search} ${String(headers['x-consul-token'])}`),
    ['/v1/health/service/web?dc=dc2 secret', '/v1/internal/acl/authorize?dc=dc2 secret'],
  )
  await until(async () => (await open()) === 0, 'the end of its connections', 1_000)
})

t.test('an agent may have an IPv6 address', { skip: NO_IPV6 }, async (t) => {
  const { consul_host } = await agent(t, () => ({ list: [at('a')] }), '::1')
  t.equal((await ask({ consul_host })).backends.length, 1)
})

t.test('no error and no source tells a secret', async (t) => {
  const { consul_host } = await agent(t, () => ({ status: 403 }))
  const section = {
    consul_host,
    consul_acl_token: 's3cret',
    consul_auth_username: 'me',
    consul_auth_password: 's3cret',
  }
  const error = await ask(section).then(
    () => undefined,
    (error: Error) => error,
  )
  const { inspect } = await import('node:util')
  t.match(error?.message, /^Consul answered 403/)
  t.notMatch(inspect(error, { depth: 10, showHidden: true }), /s3cret/)
})

t.test('metadata counts before tags, tags before weights, and of equal instances the later', async (t) => {
  const warning = { Checks: [{ Status: 'passing' }, { Status: 'warning' }] }
  const critical = { Checks: [{ Status: 'critical' }, { Status: 'warning' }] }
  const Weights = { Passing: 9, Warning: 0 }
  const list = [
    at('twice', { Weights }),
    at('warning', { Weights }, warning),
    at('critical', { Weights }, critical),
    at('tags', { Weights, Tags: ['fairlead.weight=3', 'weight=8', 'fairlead.weight=4'] }, warning),
    at('meta', { Weights, Tags: ['fairlead.weight=3'], Meta: { fairlead_weight: '2' } }),
    at('twice', { Weights: { Passing: 5, Warning: 1 } }),
  ]
  const { consul_host } = await agent(t, () => ({ list }))
  const { backends } = await ask({ consul_host })
  t.same(
    backends.map(({ address, weight }) => `${addressText(address)} ${weight}`),
    ['twice:80 5', 'warning:80 0', 'critical:80 9', 'tags:80 4', 'meta:80 2'],
  )
})

t.test('instances that cannot be read are named with what is wrong, a hundred of them', async (t) => {
  const odd = [
    at('a b'),
    at('', {}, { Node: { Address: '' } }),
    at('c', { Port: '80' }),
    at('d', { Tags: [7] }),
    at('e', { Weights: { Passing: -1, Warning: 1 } }),
    at('f', { Meta: { 'fairlead-wait': '1' } }),
    at('g', { Address: 'g', ID: 'x'.repeat(2_000_000) }),
  ]
  const list = [...odd, ...Array.from({ length: 200 }, () => null)]
  const { consul_host } = await agent(t, () => ({ list }))
  const { backends, rejected } = await ask({ consul_host })
  t.same(backends.length, 1)
  t.match(rejected, [
    'instance 1 "a b": expected an address and a port, got "a b:80"',
    'instance 2: expected an address and a port, got ":80"',
    'instance 3: Service.Port: expected a number',
    'instance 4: Service.Tags.0: expected a string',
    'instance 5: Service.Weights.Passing: expected a whole number, 0 to 65535',
    /^instance 6 "f": fairlead-wait: expected one of weight, priority/,
    /^instance 7: expected at most 1048576 bytes, got 2000/,
    'instance 8: expected an object',
  ])
  t.same([rejected!.length, rejected!.at(-1)], [101, 'and 107 more'])
})

t.test('a server that does not keep questions open is asked once a second', async (t) => {
  const clock = new FakeClock()
  const { asked, consul_host } = await agent(t, () => ({ list: [at('a')] }))
  const heard = watching(t, { consul_host }, clock)
  // The first question has no index, the second has; only then it is known not to block.
  for (let count = 2; count < 6; count++) {
    await until(() => clock.pending > 0, 'a pause')
    t.equal(asked.length, count)
    await clock.advance(999)
    t.equal(asked.length, count)
    await clock.advance(1)
  }
  t.same(heard, { connects: 1, hints: 0, losses: [] })
  t.match(asked[1]!.url.search, '?index=7&wait=30s')
})

t.test('a list that is always new is followed for a while, then once a second', async (t) => {
  const clock = new FakeClock()
  const { asked, consul_host } = await agent(t, (index) => ({ index, list: [at(`a${index}`)] }))
  const heard = watching(t, { consul_host }, clock)
  await until(() => clock.pending > 0, 'a pause')
  t.same([asked.length, heard.hints], [5, 4])
  await clock.advance(1_000)
  await until(() => clock.pending > 0, 'a pause')
  t.same([asked.length, heard.hints], [6, 5])
})

t.test('an index that goes back begins anew', async (t) => {
  const indexes = [900, 901, 3, 4]
  const { asked, consul_host } = await agent(t, (count) => {
    const index = indexes[count - 1]
    return index === undefined ? undefined : { index, list: [at(`a${index}`)] }
  })
  const heard = watching(t, { consul_host }, realClock)
  await until(() => asked.length === 5, 'five questions')
  t.same(
    asked.map(({ url }) => url.searchParams.get('index')),
    [null, '900', '901', null, '4'],
  )
  t.same(heard, { connects: 1, hints: 3, losses: [] })
})

t.test('a watch goes on after an answer that would end the one of the library', async (t) => {
  const { asked, consul_host } = await agent(t, (count) =>
    count === 2 ? { status: 400 } : count < 4 ? { index: count, list: [] } : undefined,
  )
  const heard = watching(t, { consul_host }, realClock)
  await until(() => heard.connects === 2 && asked.length === 4, 'the second connection')
  t.equal(heard.losses.length, 1)
  t.match(heard.losses[0], /^Consul answered 400/)
})

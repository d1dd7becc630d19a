// The calls of the README, against a balancer that starts without servers.

import { readFileSync } from 'node:fs'
import t from 'tap'
import { freePort, greeter, greeting, rewritten, spawnFairlead } from '../../test/support/spawned.ts'
import { until } from '../../test/support/until.ts'

const file = (name: string) => new URL(name, import.meta.url)

t.test('region-entrypoints', async (t) => {
  const port = await freePort()
  const first = await greeter(t, 'host1')
  const second = await greeter(t, 'host2')
  const fairlead = await spawnFairlead(t, file('fairlead.toml'), {})
  const { api } = fairlead

  const body = rewritten(file('r1nginx.json'), {
    '127.0.0.1:8001': `127.0.0.1:${port}`,
    '127.0.0.1:22001': first.address,
    '127.0.0.1:22002': second.address,
    '"2s"': '"100ms"',
  })

  t.test('it starts with an empty list of servers', async (t) => {
    t.same(await api('GET', '/servers'), { status: 200, body: {} })
  })

  t.test('one call makes an entrypoint, numbers in quotes included', async (t) => {
    t.match(await api('POST', '/servers/r1nginx', body), { status: 200, body: null })
    t.match(await api('GET', '/servers/r1nginx'), {
      body: {
        bind: `127.0.0.1:${port}`,
        balance: 'weight',
        max_connections: 0,
        healthcheck: { kind: 'ping' },
      },
    })
    const met = new Set<string | undefined>()
    await until(async () => met.add(await greeting(t, { port })).size === 2, 'both hosts')
    t.same([...met].sort(), ['host1', 'host2'])
  })

  t.test('a host that does not answer is left out', async (t) => {
    await second.stop()
    await fairlead.says(`backend ${second.address} is unhealthy`)
    for (let i = 0; i < 5; i++) t.equal(await greeting(t, { port }), 'host1')
  })

  t.test('a name that is taken, a wrong body and an unknown kind leave the rest as it is', async (t) => {
    t.match(await api('POST', '/servers/r1nginx', body), { status: 409, body: /already exists/ })
    t.match(await api('POST', '/servers/r2nginx', body.replace('"0",', '"0"')), { status: 400 })
    const unknown = { ...JSON.parse(body), bind: '127.0.0.1:0', discovery: { kind: 'dockers' } }
    t.match(await api('POST', '/servers/r2nginx', unknown), {
      status: 409,
      body: /servers\.r2nginx\.discovery\.kind: expected one of .*docker.*, got "dockers"/,
    })
    t.same(Object.keys((await api('GET', '/servers')).body), ['r1nginx'])
    t.equal(await greeting(t, { port }), 'host1')
  })

  t.test('a deleted entrypoint gives its port back at once', async (t) => {
    for (let i = 0; i < 3; i++) {
      t.match(await api('DELETE', '/servers/r1nginx'), { status: 200, body: null })
      t.match(await api('POST', '/servers/r1nginx', body), { status: 200, body: null })
    }
    t.equal(await greeting(t, { port }), 'host1')
  })

  t.test('the README shows the file it sends', async (t) => {
    t.ok(readFileSync(file('README.md'), 'utf8').includes('--data-binary @r1nginx.json'))
  })
})

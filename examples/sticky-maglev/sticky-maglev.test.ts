// Networks of clients, two balancers, and a backend that goes away.

import t from 'tap'
import { greeter, greeting, spawnFairlead } from '../../test/support/spawned.ts'
import type { Greeter } from '../../test/support/spawned.ts'

const NETWORKS = Array.from({ length: 24 }, (_, i) => `127.60.${i + 1}`)

t.test('sticky-maglev', async (t) => {
  const backends = await Promise.all(['a', 'b', 'c'].map((name) => greeter(t, name)))
  const [one, other] = await Promise.all([balancer(t, backends), balancer(t, backends)])
  const from = (port: number, address: string) => greeting(t, { port, localAddress: address })
  const everybody = async () =>
    new Map(await Promise.all(NETWORKS.map(async (net) => [net, await from(one.port, `${net}.1`)] as const)))
  const before = await everybody()

  t.test('every backend has its networks', async (t) => {
    t.same([...new Set(before.values())].sort(), ['a', 'b', 'c'])
  })

  t.test('all addresses of a network meet the same backend, on either balancer', async (t) => {
    for (const net of NETWORKS) {
      t.equal(await from(one.port, `${net}.77`), before.get(net), net)
      t.equal(await from(other.port, `${net}.200`), before.get(net), net)
    }
  })

  t.test('when a backend goes only its own clients move, but for a few', async (t) => {
    await backends[0]!.stop()
    await one.fairlead.says(`backend ${backends[0]!.address} is unhealthy`)
    const after = await everybody()
    const stayed = NETWORKS.filter((net) => before.get(net) !== 'a')
    t.notOk([...after.values()].includes('a'))
    t.ok(stayed.filter((net) => after.get(net) !== before.get(net)).length <= stayed.length / 4)
  })

  t.test('and they are back when it is', async (t) => {
    await greeter(t, 'a', backends[0]!.port)
    await one.fairlead.says(`backend ${backends[0]!.address} is healthy`)
    t.same(await everybody(), before)
  })
})

async function balancer(t: Parameters<typeof greeter>[0], [a, b, c]: readonly Greeter[]) {
  const fairlead = await spawnFairlead(t, new URL('fairlead.toml', import.meta.url), {
    '127.0.0.1:8080': '127.0.0.1:0',
    '10.0.3.10:8080': a!.address,
    '10.0.3.11:8080': b!.address,
    '10.0.3.12:8080': c!.address,
    '"2s"': '"100ms"',
  })
  const port = fairlead.port('sessions')
  return { port, fairlead }
}

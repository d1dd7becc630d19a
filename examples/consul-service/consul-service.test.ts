// A real Consul agent behind the example: instances that register, go into maintenance, die and are removed.

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { whyNot } from '../../test/support/component.ts'
import { folder } from '../../test/support/folder.ts'
import { greeter, greeting, rewritten, spawnFairlead } from '../../test/support/spawned.ts'
import { until } from '../../test/support/until.ts'

const consul = (...args: string[]) =>
  spawnSync(fileURLToPath(new URL('../../scripts/components/consul.sh', import.meta.url)), args, {
    encoding: 'utf8',
  })

// A loopback address of this run alone, so that Consul has its own port 8500.
const agent = `127.93.${1 + (process.pid % 254)}.1`
const state = folder(t)
t.teardown(() => consul('stop', state))
const started = consul('start', state, agent)
const skip = whyNot(started)

async function put(path: string, body?: string): Promise<void> {
  const answer = await fetch(`http://${agent}:8500/v1/agent/service/${path}`, {
    method: 'PUT',
    headers: { connection: 'close' },
    ...(body && { body }),
  })
  if (answer.status !== 200) throw new Error(`${path}: ${answer.status} ${await answer.text()}`)
}

t.test('consul-service', { skip }, async (t) => {
  t.equal(started.status, 0, started.stderr)
  const one = await greeter(t, 'shop-1')
  const two = await greeter(t, 'shop-2')
  const published = (file: string, from: string, to: { port: number }) =>
    rewritten(new URL(file, import.meta.url), {
      [`${from}:8080`]: `127.0.0.1:${to.port}`,
      [`"${from}"`]: '"127.0.0.1"',
      '"Port": 8080': `"Port": ${to.port}`,
      '"2s"': '"1s"',
    })
  const fairlead = await spawnFairlead(t, new URL('fairlead.toml', import.meta.url), {
    '127.0.0.1:8080': '127.0.0.1:0',
    '127.0.0.1:8500': `${agent}:8500`,
  })
  const port = fairlead.port('shop')
  const of = async (clients: number) => {
    const met: (string | undefined)[] = []
    for (let i = 0; i < clients; i++) met.push(await greeting(t, { port }))
    return met.sort()
  }
  const listed = async () => {
    const { body } = await fairlead.api('GET', '/servers/shop/stats')
    return body.backends.map(
      ({ host, port }: { host: string; port: string }) => `${host}:${port}`,
    ) as string[]
  }
  const only = (name: string) =>
    until(async () => (await of(4)).every((each) => each === name), `only ${name}`)

  t.test('nobody has registered, and nobody is served', async (t) => t.same(await of(1), [undefined]))

  t.test('instances are served once their checks pass, by the weights they have', async (t) => {
    await put('register', published('shop-1.json', '10.0.3.11', one))
    await put('register', published('shop-2.json', '10.0.3.12', two))
    await fairlead.says(`added ${one.address}`)
    await fairlead.says(two.address)
    t.same(await of(8), [...Array<string>(6).fill('shop-1'), 'shop-2', 'shop-2'])
  })

  t.test('maintenance takes one out and lets it in again', async () => {
    await put('maintenance/shop-1?enable=true')
    await only('shop-2')
    await put('maintenance/shop-1?enable=false')
    await until(async () => (await of(4)).includes('shop-1'), 'shop-1 again')
  })

  t.test(
    'one that dies is out when its check has noticed, and clients meet the other before that',
    async (t) => {
      await one.stop()
      t.same(await of(4), Array<string>(4).fill('shop-2'))
      await until(async () => !(await listed()).includes(one.address), 'shop-1 to be out')
    },
  )

  t.test('the last list stays while there is no agent', async (t) => {
    t.same(await listed(), [two.address])
    consul('stop', state)
    await fairlead.says('not heard of')
    t.same(await of(2), ['shop-2', 'shop-2'])
  })

  t.test('SIGTERM ends it with status 0', async (t) => t.equal(await fairlead.stop(), 0))
})

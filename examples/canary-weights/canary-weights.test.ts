// The share of the canary, before and after its file changes.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { folder } from '../../test/support/folder.ts'
import { place } from '../../test/support/place.ts'
import { greeter, greeting, spawnFairlead } from '../../test/support/spawned.ts'

t.test('canary-weights', async (t) => {
  const stable = await greeter(t, 'stable')
  const canary = await greeter(t, 'canary')
  const list = join(folder(t), 'shop.backends')
  const published = readFileSync(new URL('shop.backends', import.meta.url), 'utf8')
    .replace('10.0.2.10:8080', stable.address)
    .replace('10.0.2.20:8080', canary.address)
  const publish = (text: string) => place(list, text)
  publish(published)
  const fairlead = await spawnFairlead(t, new URL('fairlead.toml', import.meta.url), {
    '127.0.0.1:8080': '127.0.0.1:0',
    '/etc/fairlead/shop.backends': list,
    '"2s"': '"100ms"',
  })
  const port = fairlead.port('shop')
  const ofClients = async (count: number) => {
    let canaries = 0
    for (let i = 0; i < count; i++) if ((await greeting(t, { port })) === 'canary') canaries++
    return canaries
  }

  t.test('one client in twenty meets the canary', async (t) => t.equal(await ofClients(60), 3))

  t.test('another weight in the file is another share', async (t) => {
    publish(published.replace('weight=19', 'weight=1'))
    await fairlead.says(`backends: changed ${stable.address}`)
    t.equal(await ofClients(10), 5)
  })

  t.test('weight 0 takes the canary out', async (t) => {
    publish(published.replace('weight=1\n', 'weight=0\n'))
    await fairlead.says(`changed ${stable.address}, ${canary.address}`)
    t.equal(await ofClients(20), 0)
  })

  t.test('a slip in the file costs its line only, and is named', async (t) => {
    publish(published.replace('weight=1\n', 'wieght=1\n'))
    await fairlead.says('line 2: expected one of weight=')
    t.equal(await ofClients(5), 0)
  })
})

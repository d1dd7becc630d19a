// Each port of the range meets its twin, and the socket file comes and goes with the balancer.

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { folder } from '../../test/support/folder.ts'
import { freePort, freePorts, greeter, greeting, spawnFairlead } from '../../test/support/spawned.ts'

t.test('many-binds', async (t) => {
  const ports = await freePorts(4)
  const tcp = await freePort()
  const path = join(folder(t), 'cache.sock')
  const cache = await greeter(t, 'cache')
  // Backends on the same ports, on another address of this machine.
  for (const port of ports) await greeter(t, `room ${port}`, port, '127.0.4.10')
  const fairlead = await spawnFairlead(t, new URL('fairlead.toml', import.meta.url), {
    '127.0.0.1:8001-8004': `127.0.0.1:${ports[0]}-${ports[3]}`,
    '10.0.4.10:*': '127.0.4.10:*',
    '/run/fairlead/cache.sock': path,
    '127.0.0.1:6379': `127.0.0.1:${tcp}`,
    '10.0.4.20:6379': cache.address,
  })

  t.test('a client of a port of the range meets the same port of the backend', async (t) => {
    for (const port of ports) t.equal(await greeting(t, { port }), `room ${port}`)
  })

  t.test('a unix socket and a port are two doors of one server', async (t) => {
    t.equal(await greeting(t, { path }), 'cache')
    t.equal(await greeting(t, { port: tcp }), 'cache')
  })

  t.test('the socket file is gone when the balancer is', async (t) => {
    t.ok(existsSync(path))
    t.equal(await fairlead.stop(), 0)
    t.notOk(existsSync(path))
  })
})

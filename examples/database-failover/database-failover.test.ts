// The primary goes away and comes back.

import t from 'tap'
import { call, greeter, greeting, spawnFairlead } from '../../test/support/spawned.ts'
import { until } from '../../test/support/until.ts'

t.test('database-failover', async (t) => {
  const primary = await greeter(t, 'primary')
  const standby = await greeter(t, 'standby')
  const fairlead = await spawnFairlead(t, new URL('fairlead.toml', import.meta.url), {
    '127.0.0.1:5432': '127.0.0.1:0',
    '10.0.1.10:5432': primary.address,
    '10.0.1.11:5432': standby.address,
    '"2s"': '"100ms"',
  })
  const port = fairlead.port('database')

  t.test('the primary has every client while it answers', async (t) => {
    for (let i = 0; i < 6; i++) t.equal(await greeting(t, { port }), 'primary')
  })

  t.test('the standby takes over, at first for those whose dial fails', async (t) => {
    await primary.stop()
    t.equal(await greeting(t, { port }), 'standby')
    await fairlead.says(`backend ${primary.address} is unhealthy`)
    t.equal(await greeting(t, { port }), 'standby')
  })

  t.test('the primary has new clients again when it has answered three times', async (t) => {
    const { line, socket } = await call(t, { port })
    t.equal(line, 'standby')
    await greeter(t, 'primary', primary.port)
    await fairlead.says(`backend ${primary.address} is healthy`)
    t.equal(await greeting(t, { port }), 'primary')
    t.notOk(socket.destroyed, 'who is on the standby stays there')

    await standby.stop()
    await until(() => socket.destroyed, 'the end of who was on the standby')
  })
})

t.test('flows of a backend that stops answering are closed', async (t) => {
  const primary = await greeter(t, 'primary')
  const standby = await greeter(t, 'standby')
  const fairlead = await spawnFairlead(t, new URL('fairlead.toml', import.meta.url), {
    '127.0.0.1:5432': '127.0.0.1:0',
    '10.0.1.10:5432': primary.address,
    '10.0.1.11:5432': standby.address,
    '"2s"': '"100ms"',
  })
  const port = fairlead.port('database')
  const { line, socket } = await call(t, { port })
  t.equal(line, 'primary')
  primary.refuse()
  await until(() => socket.destroyed, 'the end of who was on the primary')
  await fairlead.says(`backend ${primary.address} is unhealthy`)
  t.equal(await greeting(t, { port }), 'standby')
})

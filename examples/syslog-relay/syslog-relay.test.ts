// One sender, two collectors, and one of them down for a while.

import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import type { Test } from 'tap'
import { talker } from '../../test/support/datagrams.ts'
import { spawnFairlead } from '../../test/support/spawned.ts'
import { until } from '../../test/support/until.ts'

/** A collector on `host`: what it was sent over UDP, and its health over HTTP on `port` or a free one. */
async function collector(t: Test, host: string, port = 0) {
  const state = { well: true }
  const { heard, port: udp } = await talker(t, { host })
  const http = createServer((_, response) => response.writeHead(state.well ? 200 : 503).end())
  http.listen(port, host)
  await once(http, 'listening')
  t.teardown(() => {
    http.closeAllConnections()
    http.close()
  })
  return { state, heard, address: `${host}:${udp}`, health: (http.address() as AddressInfo).port }
}

t.test('syslog-relay', async (t) => {
  const one = await collector(t, '127.0.0.1')
  const two = await collector(t, '127.0.0.2', one.health)
  const fairlead = await spawnFairlead(t, new URL('fairlead.toml', import.meta.url), {
    '127.0.0.1:3514': '127.0.0.1:0',
    '10.0.6.10:514': one.address,
    '10.0.6.11:514': two.address,
    '"2s"': '"100ms"',
    'check_port = 8686': `check_port = ${one.health}`,
  })
  const port = fairlead.port('syslog')
  const sender = await talker(t)
  const counts = () => [one.heard.length, two.heard.length] as const
  /** Sends messages one by one and waits until all have arrived. */
  const send = async (count: number) => {
    const before = counts()
    for (let i = 0; i < count; i++) await sender.say(port, `<13>message ${i}`)
    await until(() => counts()[0] + counts()[1] === before[0] + before[1] + count, 'all messages')
    return counts().map((each, i) => each - before[i]!)
  }

  t.test('messages of one sender are spread by weight', async (t) => {
    t.same(await send(30), [20, 10])
  })

  t.test('a collector that is not well is sent nothing', async (t) => {
    one.state.well = false
    await fairlead.says(`backend ${one.address} is unhealthy`)
    t.same(await send(10), [0, 10])
  })

  t.test('each message is a session, and nothing came back', async (t) => {
    const stats = async () => (await fairlead.api('GET', '/servers/syslog/stats')).body
    await until(async () => (await stats()).endings['max-requests'] === 40, 'the end of all sessions')
    t.match(await stats(), { requests_total: 40, responses_total: 0, active_connections: 0 })
  })
})

// Two resolvers, clients that ask over UDP, and a resolver that falls silent.

import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect } from 'node:net'
import { decode, encode, streamDecode, streamEncode } from 'dns-packet'
import t from 'tap'
import type { Test } from 'tap'
import { a, nameserver } from '../../test/support/nameserver.ts'
import { spawnFairlead } from '../../test/support/spawned.ts'

/** A client with a port of its own, which asks again until it is answered. */
function client(t: Test, port: number) {
  const socket = createSocket('udp4')
  t.teardown(() => socket.close())
  let id = 0
  return async (): Promise<string> => {
    const question = encode({ type: 'query', id: ++id, questions: [{ type: 'A', name: 'www.example.com' }] })
    const ask = () => socket.send(question, port, '127.0.0.1')
    ask()
    const again = setInterval(ask, 200)
    for (;;) {
      const [bytes] = (await once(socket, 'message')) as [Buffer]
      const answer = decode(bytes)
      if (answer.id !== id) continue
      clearInterval(again)
      return String((answer.answers![0] as { data: string }).data)
    }
  }
}

t.test('dns-resolvers', async (t) => {
  const silent = new Set<string>()
  const resolver = (data: string) =>
    nameserver(t, ({ name }) => (silent.has(data) ? undefined : { answers: [a(name, data)] }))
  const [one, two] = await Promise.all([resolver('192.0.2.1'), resolver('192.0.2.2')])
  const fairlead = await spawnFairlead(t, new URL('fairlead.toml', import.meta.url), {
    '127.0.0.1:3053': '127.0.0.1:0',
    '10.0.5.10:53': one.address,
    '10.0.5.11:53': two.address,
    '"2s"': '"100ms"',
  })
  const port = fairlead.port('dns')

  t.test('clients are spread, and each stays with the resolver it has', async (t) => {
    const clients = Array.from({ length: 4 }, () => client(t, port))
    const first = []
    for (const ask of clients) first.push(await ask())
    t.same([...first].sort(), ['192.0.2.1', '192.0.2.1', '192.0.2.2', '192.0.2.2'])
    for (const [i, ask] of clients.entries()) t.equal(await ask(), first[i])
  })

  t.test('a client whose resolver falls silent is answered by the other', async (t) => {
    const ask = client(t, port)
    const mine = await ask()
    silent.add(mine)
    await fairlead.says(`dns: backend ${mine === '192.0.2.1' ? one.address : two.address} is unhealthy`)
    t.not(await ask(), mine)
    const { body } = await fairlead.api('GET', '/servers/dns/stats')
    t.ok(body.endings.moved >= 1)
    t.ok(body.requests_total >= 10)
    t.ok(body.responses_total >= 10)
  })

  t.test('TCP is there too', async (t) => {
    silent.clear() // Its own checks may not have noticed.
    const socket = connect(fairlead.port('dns-tcp'), '127.0.0.1')
    t.teardown(() => socket.destroy())
    socket.write(streamEncode({ type: 'query', id: 7, questions: [{ type: 'A', name: 'www.example.com' }] }))
    const [bytes] = (await once(socket, 'data')) as [Buffer]
    t.equal(streamDecode(bytes).id, 7)
  })
})

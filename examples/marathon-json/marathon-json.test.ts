// The example against a small stand-in for Marathon and Mesos-DNS: a server with the documents that they would serve.

import t from 'tap'
import type { Test } from 'tap'
import { documents, saying } from '../../test/support/documents.ts'
import { greeter, greeting, spawnFairlead } from '../../test/support/spawned.ts'
import type { Greeter } from '../../test/support/spawned.ts'
import { until } from '../../test/support/until.ts'

/** A task as Marathon lists it. */
function task({ port }: Greeter, id: string): object {
  return {
    appId: '/nginx',
    host: '127.0.0.1',
    id: `nginx.${id}`,
    ipAddresses: [{ ipAddress: '172.17.0.5', protocol: 'IPv4' }],
    ports: [port, port + 1],
    servicePorts: [10_000, 10_001],
    slaveId: '6fb6a2f5-S1',
    startedAt: '2016-08-30T19:02:11.173Z',
    version: '2016-08-30T19:02:08.771Z',
  }
}

/** The same as Mesos-DNS has it; of nobody it has an element that is empty. */
function service(tasks: readonly Greeter[]): object[] {
  if (tasks.length === 0) return [{ service: '', host: '', ip: '', port: '' }]
  return tasks.map(({ port }, i) => ({
    service: '_nginx._tcp.marathon.mesos',
    host: `nginx-${i}-s0.marathon.mesos.`,
    ip: '127.0.0.1',
    port: String(port),
  }))
}

t.test('marathon-json', async (t) => {
  const [one, two] = [await greeter(t, 'one'), await greeter(t, 'two')]
  let tasks = [one]
  let marathon: object | undefined
  const mesos = await documents(t, (request, response) => {
    if (request.url === '/v1/services/_nginx._tcp.marathon.mesos')
      return saying(200, JSON.stringify(service(tasks)))(request, response)
    if (request.url !== '/v2/apps/nginx/tasks') return saying(404, '')(request, response)
    const listed = marathon ?? { tasks: tasks.map((each, i) => task(each, String(i))) }
    saying(200, JSON.stringify(listed), { 'content-type': 'application/json' })(request, response)
  })
  const fairlead = await spawnFairlead(t, new URL('fairlead.toml', import.meta.url), {
    '10.0.3.61:80': '127.0.0.1:0',
    '10.0.3.61:81': '127.0.0.1:0',
    'http://10.0.3.11:8080': mesos.origin,
    'http://10.0.3.60:8123': mesos.origin,
    '"2s"': '"100ms"',
    '"5s"': '"100ms"',
  })
  const servers = ['nginx', 'nginx-by-dns']
  const answering = async (server: string) => {
    const names: (string | undefined)[] = []
    for (let i = 0; i < 4; i++) names.push(await greeting(t, { port: fairlead.port(server) }))
    return names.sort().join(' ')
  }
  const answer = async (t: Test, server: string, names: string) => {
    await until(async () => (await answering(server)) === names, `${names} behind ${server}`)
    t.pass(server)
  }

  t.test('clients come to the task', async (t) => {
    for (const server of servers) await answer(t, server, 'one one one one')
  })

  t.test('a second task shares them', async (t) => {
    tasks = [one, two]
    for (const server of servers) await answer(t, server, 'one one two two')
  })

  t.test('a task that has not listened yet gets no clients', async (t) => {
    await one.stop()
    for (const server of servers) await answer(t, server, 'two two two two')
  })

  t.test('a task without ports is named, and the others are used', async (t) => {
    marathon = { tasks: [task(two, 'a'), { ...task(one, 'b'), ports: [] }] }
    await fairlead.says('nginx: tasks[1]: expected a port at "ports.[0]", got nothing')
    t.equal(await answering('nginx'), 'two two two two')
  })

  t.test('a Marathon that answers otherwise is no news', async (t) => {
    marathon = { message: "App '/nginx' does not exist" }
    await fairlead.says('expected a list at "tasks", got nothing there')
    t.equal(await answering('nginx'), 'two two two two')
  })

  t.test('a service without tasks has no backends', async (t) => {
    tasks = []
    await fairlead.says('nginx-by-dns: backends: removed')
    await until(async () => (await answering('nginx-by-dns')).trim() === '', 'nobody')
    t.pass()
  })

  t.test('SIGTERM ends it with status 0', async (t) => t.equal(await fairlead.stop(), 0))
})

// The example against Knot, which has the records that Mesos-DNS would write.

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { whyNot } from '../../test/support/component.ts'
import { folder } from '../../test/support/folder.ts'
import { freePort, greeter, greeting, spawnFairlead } from '../../test/support/spawned.ts'
import type { Greeter } from '../../test/support/spawned.ts'
import { until } from '../../test/support/until.ts'

const script = fileURLToPath(new URL('../../scripts/components/dns.sh', import.meta.url))
const state = folder(t)
const dns = (command: string, ...args: string[]) =>
  spawnSync(script, [command, state, ...args], { encoding: 'utf8' })

t.teardown(() => dns('stop'))
const mesosDns = await freePort()
const started = dns('start', `127.0.0.1@${mesosDns}`, 'mesos')
const skip = whyNot(started)

/** The records of a task, as Mesos-DNS writes them. */
function task({ port }: Greeter, name: string, command: 'add' | 'remove' = 'add'): void {
  const ttl = command === 'add' ? ['60'] : []
  const target = `${name}.marathon.mesos.`
  const host = ['mesos', `${name}.marathon`, ...ttl, 'A', '127.0.0.1']
  const service = ['mesos', '_nginx._tcp.marathon', ...ttl, 'SRV', '0', '0', String(port), target]
  for (const record of [host, service]) {
    const { status, stderr } = dns(command, ...record)
    if (status !== 0) throw new Error(stderr)
  }
}

t.test('mesos-srv', { skip }, async (t) => {
  t.equal(started.status, 0, started.stderr)
  const one = await greeter(t, 'one')
  const two = await greeter(t, 'two')
  const three = await greeter(t, 'three')
  task(one, 'nginx-9g7b9-s0')
  const fairlead = await spawnFairlead(t, new URL('fairlead.toml', import.meta.url), {
    '10.0.3.61:80': '127.0.0.1:0',
    '10.0.3.60:53': `127.0.0.1:${mesosDns}`,
    '"5s"': '"300ms"',
    '"2s"': '"100ms"',
  })
  const port = fairlead.port('nginx')
  /** Who answers, of as many clients as there are tasks. */
  const answering = async (tasks: number) => {
    const names: (string | undefined)[] = []
    for (let i = 0; i < tasks; i++) names.push(await greeting(t, { port }))
    return names.sort().join(' ')
  }

  t.test('clients come to the task', async (t) => {
    await fairlead.says(`added ${one.address}`)
    await until(async () => (await answering(2)) === 'one one')
    t.pass()
  })

  t.test('a second task shares them, though both have the weight 0', async (t) => {
    task(two, 'nginx-1x2y3-s1')
    await fairlead.says(`added ${two.address}`)
    await until(async () => (await answering(4)) === 'one one two two')
    t.pass()
  })

  t.test('a task that does not answer gets no clients, though Mesos-DNS has it still', async (t) => {
    await one.stop()
    await until(async () => (await answering(4)) === 'two two two two')
    const { body } = await fairlead.api('GET', '/servers/nginx/stats')
    t.equal(body.backends.length, 2)
  })

  t.test('Marathon starts another in its place', async (t) => {
    task(one, 'nginx-9g7b9-s0', 'remove')
    task(three, 'nginx-4a5b6-s2')
    await fairlead.says(`added ${three.address}`)
    await until(async () => (await answering(4)) === 'three three two two')
    t.pass()
  })

  t.test('no Mesos-DNS, no news: the tasks known last stay', async (t) => {
    dns('stop')
    await fairlead.says('ECONNREFUSED; retrying')
    t.equal(await answering(4), 'three three two two')
  })

  t.test('SIGTERM ends it with status 0', async (t) => t.equal(await fairlead.stop(), 0))
})

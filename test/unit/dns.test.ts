import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { realClock } from '../../src/core/clock.ts'
import { configureLogging } from '../../src/core/log.ts'
import { Hosts, parseHosts } from '../../src/dns/hosts.ts'
import { Names } from '../../src/dns/names.ts'
import type { NameServices } from '../../src/dns/source.ts'
import { FakeClock } from '../support/clock.ts'
import { pass } from '../support/pass.ts'
import { until } from '../support/until.ts'

configureLogging({ level: 'panic', output: 'stderr', format: 'text' })

type Reply = string[] | string

/** Name services that say what they are told to: addresses, or an error's code. */
class Script {
  file: Record<string, string[]> = {}
  a: Reply = 'ENOTFOUND'
  aaaa: Reply = 'ENODATA'
  system: Reply = 'ENOTFOUND'
  ttl = 60
  asked: string[] = []
  running = { dns: 0, system: 0 }
  most = { dns: 0, system: 0 }

  services(): NameServices {
    const records = (reply: Reply) => this.#read(reply).map((address) => ({ address, ttl: this.ttl }))
    return {
      hosts: async (host) => this.file[host],
      resolve4: (host) => this.#turn('dns', `a ${host}`, () => records(this.a)),
      resolve6: async () => records(this.aaaa),
      lookup: (host) => this.#turn('system', `lookup ${host}`, () => records(this.system)),
    }
  }

  #read(reply: Reply): string[] {
    if (typeof reply === 'string') throw Object.assign(new Error(`query ${reply}`), { code: reply })
    return reply
  }

  async #turn<T>(kind: 'dns' | 'system', what: string, answer: () => T): Promise<T> {
    this.asked.push(what)
    this.most[kind] = Math.max(this.most[kind], ++this.running[kind])
    await new Promise(setImmediate)
    this.running[kind]--
    return answer()
  }
}

function scripted() {
  const script = new Script()
  const clock = new FakeClock()
  const names = new Names(clock, script.services())
  const heard: string[] = []
  const hear = (ips: readonly string[]) => void heard.push(ips.join(' '))
  return { script, clock, names, heard, hear }
}

t.test('an IP address is told at once and never asked for', async (t) => {
  const { script, names, heard, hear } = scripted()
  names.watch('10.0.0.1', hear)()
  names.watch('::1', hear)()
  t.same(heard, ['10.0.0.1', '::1'])
  t.same(script.asked, [])
  t.equal(names.size, 0)
})

t.test('all addresses are told, IPv4 first, in an order that does not depend on the answer', async (t) => {
  const { script, clock, names, heard, hear } = scripted()
  script.a = ['10.0.0.2', '10.0.0.1', '10.0.0.3']
  script.aaaa = ['2001:db8::2', '2001:db8::1']
  names.watch('web.example', hear)
  await pass(clock, 0)
  t.same(heard, ['10.0.0.1 10.0.0.2 10.0.0.3 2001:db8::1 2001:db8::2'])
  script.a = ['10.0.0.3', '10.0.0.2', '10.0.0.1']
  await pass(clock, 60_000)
  t.equal(script.asked.length, 2, 'asked again when the TTL was over')
  t.equal(heard.length, 1, 'the same addresses are not told twice')
  script.a = ['10.0.0.9']
  await pass(clock, 60_000)
  t.equal(heard[1], '10.0.0.9 2001:db8::1 2001:db8::2')
})

t.test('a TTL is bounded by a second and an hour', async (t) => {
  for (const [ttl, waitMs] of [
    [0, 1_000],
    [100_000, 3_600_000],
  ] as const) {
    const { script, clock, names, hear } = scripted()
    script.a = ['10.0.0.1']
    script.ttl = ttl
    names.watch('web.example', hear)
    await pass(clock, 0)
    await pass(clock, waitMs - 1)
    t.equal(script.asked.length, 1)
    await pass(clock, 1)
    t.equal(script.asked.length, 2)
  }
})

t.test('watchers share a name, a late one is told at once, and the last one ends it', async (t) => {
  const { script, clock, names, heard, hear } = scripted()
  script.a = ['10.0.0.1']
  const first = names.watch('web.example', hear)
  const second = names.watch('WEB.example', hear)
  await pass(clock, 0)
  t.equal(heard.length, 2)
  t.equal(script.asked.length, 1)
  const third = names.watch('web.example', hear)
  t.equal(heard.length, 3, 'told before watch returned')
  first()
  first()
  second()
  t.equal(names.size, 1)
  third()
  t.equal(names.size, 0)
  t.equal(clock.pending, 0)
})

t.test('nothing is told after cancelling, even when an answer is on its way', async (t) => {
  const { script, clock, names, heard, hear } = scripted()
  script.a = ['10.0.0.1']
  names.watch('web.example', hear)()
  await pass(clock, 100_000)
  t.same(heard, [])
  t.equal(clock.pending, 0)
})

t.test('the hosts file wins over DNS', async (t) => {
  const { script, clock, names, heard, hear } = scripted()
  script.a = ['10.0.0.1']
  script.file['web.example'] = ['192.0.2.1']
  names.watch('web.example.', hear)
  await pass(clock, 0)
  t.same(heard, ['192.0.2.1'])
  t.same(script.asked, [])
})

t.test('a name without a dot is asked of the system, again every 30 s', async (t) => {
  const { script, clock, names, heard, hear } = scripted()
  script.system = ['::1', '127.0.0.1']
  names.watch('localhost', hear)
  await pass(clock, 0)
  t.same(heard, ['127.0.0.1 ::1'])
  t.same(script.asked, ['lookup localhost'])
  await pass(clock, 30_000)
  t.equal(script.asked.length, 2)
})

t.test(
  'a name DNS does not have is asked of the system before it is believed to have no address',
  async (t) => {
    const { script, clock, names, heard, hear } = scripted()
    script.system = ['10.0.0.7']
    names.watch('svc.space', hear)
    await pass(clock, 0)
    t.same(heard, ['10.0.0.7'])
    script.system = 'ENOTFOUND'
    await pass(clock, 30_000)
    t.same(heard, ['10.0.0.7', ''])
    script.a = ['10.0.0.8']
    await pass(clock, 5_000)
    t.same(heard, ['10.0.0.7', '', '10.0.0.8'])
  },
)

t.test('the last good answer stays while DNS fails, and retries slow down', async (t) => {
  const { script, clock, names, heard, hear } = scripted()
  script.a = ['10.0.0.1']
  names.watch('web.example', hear)
  await pass(clock, 0)
  script.a = 'ESERVFAIL'
  await pass(clock, 60_000)
  const before = script.asked.length
  await pass(clock, 600_000, 2_000)
  t.same(heard, ['10.0.0.1'], 'a system that finds nothing is not believed either')
  const tries = (script.asked.length - before) / 2
  t.ok(tries >= 10 && tries <= 30, `${tries} tries in ten minutes`)
  script.a = ['10.0.0.2']
  await pass(clock, 60_000)
  t.same(heard, ['10.0.0.1', '10.0.0.2'])
})

t.test('a family that cannot be asked for keeps its addresses while the other changes', async (t) => {
  const { script, clock, names, heard, hear } = scripted()
  script.a = ['10.0.0.1']
  script.aaaa = ['2001:db8::1']
  names.watch('web.example', hear)
  await pass(clock, 0)
  script.a = ['10.0.0.2']
  script.aaaa = 'ETIMEOUT'
  await pass(clock, 60_000)
  t.equal(heard[1], '10.0.0.2 2001:db8::1')
})

t.test('a name nobody could answer for gives no call', async (t) => {
  const { script, clock, names, heard, hear } = scripted()
  script.a = 'ETIMEOUT'
  script.system = 'EAI_AGAIN'
  names.watch('web.example', hear)
  await pass(clock, 20_000, 200)
  t.same(heard, [])
  t.ok(script.asked.length > 4)
})

t.test('ten thousand names are asked for, only so many at once', async (t) => {
  const script = new Script()
  script.system = ['10.0.0.1']
  const names = new Names(realClock, script.services())
  let heard = 0
  const cancels: (() => void)[] = []
  for (let i = 0; i < 10_000; i++) {
    const host = i % 100 ? `b${i}.example` : `b${i}`
    cancels.push(names.watch(host, () => heard++))
  }
  script.a = ['10.0.0.1']
  await until(() => heard === 10_000)
  t.ok(script.most.dns <= 64, `${script.most.dns} of DNS`)
  t.ok(script.most.system <= 2, `${script.most.system} of the system`)
  for (const cancel of cancels) cancel()
  t.equal(names.size, 0)
})

t.test('localhost is resolved on this machine', async (t) => {
  const names = new Names()
  const ips: string[] = []
  const cancel = names.watch('localhost', (all) => ips.push(...all))
  t.teardown(cancel)
  await until(() => ips.length > 0)
  t.match(ips[0], /^(127\.|::1)/)
})

t.test('a hosts file is read: comments, several names, several addresses, any case', async (t) => {
  const names = await parseHosts(
    '# none\n127.0.0.1\tlocalhost  Box # here\n\n::1 localhost\n127.0.0.1 box\nnot-an-address x\n',
  )
  t.same(Object.fromEntries(names), { localhost: ['127.0.0.1', '::1'], box: ['127.0.0.1'] })
})

t.test('a hosts file that changes is read again, and one that is missing has no names', async (t) => {
  const dir = t.testdir({ hosts: '10.0.0.1 web\n' })
  const clock = new FakeClock()
  const hosts = new Hosts(clock, join(dir, 'hosts'))
  t.same(await hosts.find('web'), ['10.0.0.1'])
  writeFileSync(join(dir, 'hosts'), '10.0.0.22 web\n')
  await pass(clock, 5_000)
  t.same(await hosts.find('web'), ['10.0.0.22'])
  t.equal(await new Hosts(clock, join(dir, 'none')).find('web'), undefined)
})

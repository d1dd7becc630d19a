import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { realClock } from '../../src/core/clock.ts'
import { configureLogging } from '../../src/core/log.ts'
import { readLine } from '../../src/discovery/reading/line.ts'
import { discoverySettings } from '../../src/discovery/settings.ts'
import type { DiscoverySettings } from '../../src/discovery/settings.ts'
import { Sources } from '../../src/discovery/sources.ts'
import { State } from '../../src/discovery/state.ts'
import { FakeClock } from '../support/clock.ts'
import { place } from '../support/place.ts'
import { running } from '../support/running.ts'
import { script } from '../support/scripts.ts'
import { until } from '../support/until.ts'

configureLogging({ level: 'panic', output: 'stderr', format: 'text' })

const found = (line: string) => {
  const read = readLine(line)
  if ('wrong' in read) throw new Error(read.wrong)
  return read
}

/** A section that lists what stands in a file, which fails without one. */
function listing(dir: string, more: object = {}): { section: DiscoverySettings; list: string } {
  const list = join(dir, 'list')
  const command = script(dir, 'print', `cat ${list}`)
  const written = { kind: 'exec', exec_command: [command], interval: '100ms', ...more }
  return { section: discoverySettings.parse(written), list }
}

function subscribed(sources: Sources, section: DiscoverySettings) {
  const lists: unknown[] = []
  const subscription = sources.subscribe(section, {
    name: 'web',
    transport: 'tcp',
    publish: ({ backends }) => void lists.push(backends),
  })
  return { lists, subscription, status: () => subscription.sources()[0]! }
}

const identities = (list: unknown) => (list as { identity: string }[]).map(({ identity }) => identity)

t.test('the last good list survives a restart, until the source answers', async (t) => {
  const dir = t.testdir()
  const { section, list } = listing(dir)
  place(list, 'a:1 weight=2 priority=3 max_connections=4 sni=x drain=true\nb:1\n[::1]:80\nunix:/x\n')

  const state = new State(join(dir, 'state'), realClock)
  const first = subscribed(new Sources(realClock, state), section)
  await until(() => first.lists.length === 1)
  first.subscription.cancel()
  await state.settled()

  rmSync(list)
  const again = new State(join(dir, 'state'), realClock)
  const second = subscribed(new Sources(realClock, again), section)
  await until(() => second.lists.length === 1)
  t.same(second.lists, first.lists, 'with every setting')
  t.match(second.status(), { restored: true, lastSuccess: undefined })
  await until(() => second.status().failures > 0)
  t.equal(second.lists.length, 1, 'a failure leaves it')

  place(list, 'c:1\n')
  await until(() => second.lists.length === 2)
  t.same(identities(second.lists[1]), ['c:1'])
  t.equal(second.status().restored, false)
  second.subscription.cancel()
  await again.settled()
  t.match(readdirSync(join(dir, 'state')), [/^[0-9a-f]{32}\.json$/], 'one file, nothing half written')
})

t.test('what setempty publishes while a source fails is not what is kept', async (t) => {
  const dir = t.testdir()
  const { section, list } = listing(dir, { failpolicy: 'setempty' })
  place(list, 'a:1\n')
  const state = new State(join(dir, 'state'), realClock)
  const { lists, subscription } = subscribed(new Sources(realClock, state), section)
  await until(() => lists.length === 1)
  rmSync(list)
  await until(() => lists.length === 2)
  t.same(lists[1], [])
  subscription.cancel()
  await state.settled()
  const [name] = readdirSync(join(dir, 'state'))
  const kept = JSON.parse(readFileSync(join(dir, 'state', name!), 'utf8')) as { backends: string[] }
  t.same(kept.backends, ['a:1'])
})

t.test('a list is as old as the last answer that said the same', async (t) => {
  const dir = t.testdir()
  const clock = new FakeClock()
  const keeper = new State(dir, clock).of('key', 'a source')
  keeper.keep([found('a:1')])
  await until(() => readdirSync(dir).some((name) => name.endsWith('.json')))
  const path = join(dir, readdirSync(dir)[0]!)
  await clock.advance(60_000)
  keeper.confirm()
  await until(() => Math.abs(statSync(path).mtimeMs - clock.date()) < 1)
  await clock.advance(5_000)
  t.ok(Math.abs((await keeper.load())!.ageMs - 5_000) < 1)
  keeper.confirm()
  await clock.advance(10)
  t.ok((await keeper.load())!.ageMs > 5_000, 'the time is not set all the time')
})

t.test('what cannot be read is as good as nothing, and bad lines are left out', async (t) => {
  const dir = t.testdir()
  const state = new State(dir, realClock)
  t.equal(await state.of('none', 'a source').load(), undefined)
  state.of('key', 'a source').keep([found('a:1')])
  await state.settled()
  const path = join(dir, readdirSync(dir)[0]!)
  for (const garbage of ['', '{', 'null', '[]', '{"backends":"a:1"}', '{"backends":[1]}', '\0\0']) {
    writeFileSync(path, garbage)
    t.equal(await state.of('key', 'a source').load(), undefined, JSON.stringify(garbage))
  }
  writeFileSync(path, '{"backends":["a:1","junk","b:1"]}')
  t.same(identities((await state.of('key', 'a source').load())!.backends), ['a:1', 'b:1'])
})

t.test('an answer of nobody replaces what an earlier run kept', async (t) => {
  const dir = t.testdir()
  const { section, list } = listing(dir, { max_staleness: '1ms' })
  const state = new State(join(dir, 'state'), realClock)
  place(list, 'a:1\n')
  const first = subscribed(new Sources(realClock, state), section)
  await until(() => first.lists.length === 1)
  first.subscription.cancel()
  await state.settled()
  place(list, '')
  const again = new State(join(dir, 'state'), realClock)
  const second = subscribed(new Sources(realClock, again), section)
  await until(() => second.status().lastSuccess !== undefined && second.status().revision > 0)
  second.subscription.cancel()
  await again.settled()
  const [name] = readdirSync(join(dir, 'state'))
  t.same(JSON.parse(readFileSync(join(dir, 'state', name!), 'utf8')).backends, [])
})

t.test('after a failed write it is the new list that is confirmed, not the old file', async (t) => {
  const dir = t.testdir()
  const clock = new FakeClock()
  const keeper = new State(join(dir, 'state'), clock).of('key', 'a source')
  keeper.keep([found('a:1')])
  // Not the draft it is written to first.
  const written = () => readdirSync(join(dir, 'state')).find((name) => name.endsWith('.json'))
  await until(() => existsSync(join(dir, 'state')) && written() !== undefined)
  const name = written()
  rmSync(join(dir, 'state'), { recursive: true })
  writeFileSync(join(dir, 'state'), '')
  await clock.advance(2_000)
  keeper.keep([found('b:1')])
  for (let turn = 0; turn < 20; turn++) await clock.advance(1)
  rmSync(join(dir, 'state'))
  await clock.advance(60_000)
  keeper.confirm()
  await until(() => existsSync(join(dir, 'state', name!)))
  t.same(identities((await keeper.load())!.backends), ['b:1'])
})

t.test('a folder that cannot be written to keeps nothing and harms nobody', async (t) => {
  const dir = t.testdir({ file: '' })
  const state = new State(join(dir, 'file'), realClock)
  state.of('key', 'a source').keep([found('a:1')])
  await state.settled()
  t.ok(statSync(join(dir, 'file')).isFile())
})

t.test('a server that is deleted leaves nothing, one that is stopped leaves its list', async (t) => {
  const dir = t.testdir()
  const folder = join(dir, 'state')
  const state = new State(folder, realClock)
  const server = (address: string) => ({
    bind: '127.0.0.1:0',
    discovery: { kind: 'static', static_list: [address] },
  })
  // No names: where there is no network at all, nothing would keep the test alive meanwhile.
  const servers = { one: server('127.0.0.1:1'), two: server('127.0.0.1:2') }
  const manager = await running(t, { servers }, { sources: new Sources(realClock, state) })
  const files = () => (existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('.json')) : [])
  await until(() => files().length === 2)
  await manager.remove('one')
  await until(() => files().length === 1)
  await manager.stop(0, 'shutdown')
  await state.settled()
  t.equal(files().length, 1)
})

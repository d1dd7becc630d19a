import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { addressText } from '../../src/core/address.ts'
import { realClock } from '../../src/core/clock.ts'
import { configureLogging } from '../../src/core/log.ts'
import type { Answer, Discovery, Watcher } from '../../src/discovery/discovery.ts'
import * as kinds from '../../src/discovery/kinds.ts'
import { discoverySettings, sourceSettings } from '../../src/discovery/settings.ts'
import type { DiscoveryName } from '../../src/discovery/settings.ts'
import { createDiscovery } from '../../src/discovery/sources.ts'
import { hasEnded, script } from '../support/scripts.ts'
import { until } from '../support/until.ts'
import type { Fixture, Section } from './discovery/fixture.ts'

configureLogging({ level: 'panic', output: 'stderr', format: 'text' })

async function made(kind: DiscoveryName, section: Section): Promise<Discovery> {
  const settings = sourceSettings.parse({ kind, ...section })
  return createDiscovery(settings, { clock: realClock, transport: 'tcp' })
}

const ask = (discovery: Discovery, signal = new AbortController().signal) => discovery.ask(signal)

function problems(section: unknown): string[] {
  const { error } = discoverySettings.safeParse(section)
  return (error?.issues ?? []).map(({ path, message }) => `${path.join('.')}: ${message}`)
}

function texts({ backends }: Answer): string[] {
  return backends.map(({ address, weight }) => `${addressText(address)} ${weight}`).sort()
}

/** Counts what a watch says. */
function watcher(): Watcher & { connects: number; hints: number; losses: string[] } {
  const heard = {
    connects: 0,
    hints: 0,
    losses: [] as string[],
    connected: () => void heard.connects++,
    hint: () => void heard.hints++,
    lost: (why: string) => void heard.losses.push(why),
  }
  return heard
}

/** A kind without one is a test that fails. */
async function fixtureOf(kind: DiscoveryName): Promise<Fixture | undefined> {
  try {
    return ((await import(`./discovery/${kind}.ts`)) as { fixture: Fixture }).fixture
  } catch (error) {
    t.fail(`${kind} has its fixture`, { error: String(error) })
    return undefined
  }
}

const LISTED = ['a:80 2', 'b:81 1'] as const

for (const kind of Object.keys(kinds) as DiscoveryName[]) {
  const fixture = await fixtureOf(kind)
  if (!fixture) continue
  const { listed = LISTED } = fixture

  t.test(`${kind}: lists backends with their settings`, async (t) => {
    const answer = await ask(await made(kind, await fixture.lists(t)))
    t.same(texts(answer), listed)
    t.same(answer.rejected ?? [], [])
  })

  t.test(`${kind}: an empty list is an answer`, async (t) => {
    const { backends, rejected = [] } = await ask(await made(kind, await fixture.empty(t)))
    t.same(backends, [])
    t.same(rejected, [])
  })

  t.test(`${kind}: bad entries are named and the good ones used`, async (t) => {
    if (typeof fixture.garbage === 'string') return void t.pass(`does not apply: ${fixture.garbage}`)
    const garbage = await fixture.garbage(t)
    const answer = await ask(await made(kind, garbage.section))
    t.same(texts(answer), [listed[0]])
    t.match(answer.rejected, garbage.rejected)
    t.equal(answer.rejected?.length, 2)
  })

  t.test(`${kind}: answers again when it is asked again`, async (t) => {
    const discovery = await made(kind, await fixture.lists(t))
    t.same(texts(await ask(discovery)), texts(await ask(discovery)))
  })

  t.test(`${kind}: an error is not an empty list`, async (t) => {
    if (typeof fixture.fails === 'string') return void t.pass(`does not apply: ${fixture.fails}`)
    for (const { section, message } of await fixture.fails(t))
      await t.rejects(ask(await made(kind, section)), { message })
  })

  for (const what of ['hangs', 'slow'] as const) {
    const make = fixture[what]
    t.test(`${kind}: ${what}, and stops what it started when aborted`, async (t) => {
      if (typeof make === 'string') return void t.pass(`does not apply: ${make}`)
      const { section, begun, over } = await make(t)
      const aborting = new AbortController()
      const asked = ask(await made(kind, section), aborting.signal)
      await Promise.race([until(begun, 'the question'), asked])
      aborting.abort(new Error('enough'))
      await t.rejects(asked, { message: 'enough' })
      await until(over, 'its end')
    })
  }

  t.test(`${kind}: aborted before it begins, it starts nothing`, async (t) => {
    if (typeof fixture.hangs === 'string') return void t.pass(`does not apply: ${fixture.hangs}`)
    const { section, begun } = await fixture.hangs(t)
    const aborted = AbortSignal.abort(new Error('enough'))
    await t.rejects(ask(await made(kind, section), aborted), { message: 'enough' })
    t.notOk(begun())
  })

  t.test(`${kind}: an answer of hostile size is refused, and let go of`, async (t) => {
    if (typeof fixture.huge === 'string') return void t.pass(`does not apply: ${fixture.huge}`)
    const { section, message, over } = await fixture.huge(t)
    await t.rejects(ask(await made(kind, section)), { message })
    await until(over, 'its end')
  })

  t.test(`${kind}: a change is told of, also after the connection was cut`, async (t) => {
    if (typeof fixture.changes === 'string') return void t.pass(`does not apply: ${fixture.changes}`)
    const { section, change, cut, over } = await fixture.changes(t)
    const discovery = await made(kind, section)
    t.same(texts(await ask(discovery)), listed)
    const watching = new AbortController()
    const heard = watcher()
    discovery.watch!(watching.signal, heard)
    t.same([heard.connects, heard.hints, heard.losses.length], [0, 0, 0], 'nothing before it returns')
    await until(() => heard.connects === 1, 'the first connection')
    if (cut) {
      await cut()
      await until(() => heard.losses.length > 0, 'the loss')
      await until(() => heard.connects === 2, 'the second connection')
    }
    const { hints } = heard
    await change()
    await until(() => heard.hints > hints, 'a hint')
    await until(async () => (await ask(discovery)).backends.length === 3, 'the third backend')
    watching.abort(new Error('enough'))
    await until(over, 'the end of the watch')
  })

  t.test(`${kind}: a watch that is ended at once says nothing and leaves nothing`, async (t) => {
    if (typeof fixture.changes === 'string') return void t.pass(`does not apply: ${fixture.changes}`)
    const { section, change, over } = await fixture.changes(t)
    const watching = new AbortController()
    const heard = watcher()
    const discovery = await made(kind, section)
    discovery.watch!(watching.signal, heard)
    watching.abort(new Error('enough'))
    await change()
    await until(over, 'the end of the watch')
    t.same([heard.connects, heard.hints, heard.losses.length], [0, 0, 0])
  })

  t.test(`${kind}: what is wrong in its section is named, key by key`, async (t) => {
    const found = problems({ kind, ...(await fixture.lists(t)), ...fixture.wrong })
    const keys = new Set(found.map((each) => each.split(/[:.]/)[0]))
    t.same([...keys].sort(), Object.keys(fixture.wrong).sort())
  })
}

t.test('a section has gobetween’s defaults', async (t) => {
  t.same(discoverySettings.parse({ kind: 'static', static_list: [] }), {
    kind: 'static',
    failpolicy: 'keeplast',
    interval: 0,
    max_staleness: 0,
    stale_policy: 'setempty',
    min_backends: 0,
    removal_hold: 30_000,
    readmit_delay: 0,
    static_list: [],
  })
  t.match(
    discoverySettings.parse({ kind: 'json', json_endpoint: 'http://x', interval: '2s', timeout: '500ms' }),
    {
      interval: 2000,
      timeout: 500,
      json_host_pattern: 'host',
      json_max_connections_pattern: 'max_connections',
    },
  )
})

t.test(
  'all that is wrong in a section is said at once, and an unknown kind leaves the rest unjudged',
  async (t) => {
    const all = [...Object.keys(kinds), 'multi'].join(', ')
    t.same(problems({ kind: 'k8s', interval: 'x', foo: 1 }), [`kind: one of ${all}`])
    t.same(problems({ kind: '__proto__' }), [`kind: one of ${all}`])
    t.same(problems({}), [`kind: one of ${all}`])
    t.same(problems('static'), [': a table'])
    t.same(problems({ kind: 'exec', exec_command: [], interval: '2 sec', failpolicy: 'keep' }), [
      'failpolicy: one of keeplast, setempty',
      'interval: a duration such as "2s"',
      'exec_command: a list of strings: a program and its arguments',
    ])
    t.same(problems({ kind: 'exec', exec_command: ['/bin/echo', 2] }), ['exec_command.1: a string'])
    const { error } = discoverySettings.safeParse({ kind: 'static', static_list: [], intervall: '2s' })
    t.match(error?.issues, [{ code: 'unrecognized_keys', keys: ['intervall'], path: [] }])
  },
)

function command(dir: string, body: string): Section {
  return { exec_command: [script(dir, 'list', body)] }
}

const exec = (t: Test, body: string) => made('exec', command(t.testdir(), body))

t.test('exec: arguments are passed as they are, without a shell', async (t) => {
  const path = script(t.testdir(), 'list', 'test "$#" = 2 && test "$2" = \'$HOME; x\' && echo "$1:80"')
  const { backends } = await ask(await made('exec', { exec_command: [path, 'web', '$HOME; x'] }))
  t.equal(addressText(backends[0]!.address), 'web:80')
})

t.test('exec: a program that does not exist, may not run or dies is an error that says so', async (t) => {
  const missing = await made('exec', { exec_command: [join(t.testdir(), 'none')] })
  await t.rejects(ask(missing), { message: /cannot run .*none: no such file/ })
  await t.rejects(ask(await made('exec', { exec_command: ['/etc/passwd'] })), {
    message: /permission denied/,
  })
  await t.rejects(ask(await made('exec', { exec_command: ['a\0b'] })), { message: /null bytes/ })
  await t.rejects(ask(await exec(t, 'kill -TERM $$')), { message: /was ended by SIGTERM$/ })
})

t.test('exec: a program that closes its output and stays is killed when aborted', async (t) => {
  const dir = t.testdir()
  const closed = await made('exec', command(dir, 'exec >&- 2>&-; echo $$ > $dir/self; exec sleep 60'))
  const aborting = new AbortController()
  const asked = ask(closed, aborting.signal)
  await until(() => existsSync(join(dir, 'self')))
  aborting.abort(new Error('enough'))
  await t.rejects(asked, { message: 'enough' })
  await until(() => hasEnded(join(dir, 'self')))
})

t.test('exec: a descendant that holds the output does not keep it waiting', async (t) => {
  const dir = t.testdir()
  const held = await made('exec', command(dir, 'sleep 60 & echo $! > $dir/child; echo a:80'))
  const began = performance.now()
  const { backends } = await ask(held)
  t.equal(backends.length, 1)
  t.ok(performance.now() - began < 30_000, 'it would hold the output for a minute')
  await until(() => hasEnded(join(dir, 'child')), 'the descendant’s end')
})

t.test('exec: what a descendant writes soon after the program’s own end belongs to the list', async (t) => {
  // Longer than the grace in all, and each silence far below it: starting a `sleep` takes its time too.
  const later = 'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 0.02; echo b$i:80; done'
  const { backends } = await ask(await exec(t, `(${later}) & echo a:80`))
  t.equal(backends.length, 13)
})

t.test('exec: a large list comes whole', async (t) => {
  const { backends } = await ask(
    await exec(t, 'i=0; while [ $i -lt 3000 ]; do echo "host$i:80"; i=$((i+1)); done'),
  )
  t.equal(backends.length, 3000)
})

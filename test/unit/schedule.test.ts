import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { configureLogging } from '../../src/core/log.ts'
import type { Answer, Discovery, Watcher } from '../../src/discovery/discovery.ts'
import { lineReader, readLine } from '../../src/discovery/reading/line.ts'
import { startSchedule } from '../../src/discovery/schedule.ts'
import type { Listed, Publish } from '../../src/discovery/roster.ts'
import type { ScheduleSettings } from '../../src/discovery/schedule.ts'
import { discoverySettings } from '../../src/discovery/settings.ts'
import { Sources } from '../../src/discovery/sources.ts'
import { FakeClock } from '../support/clock.ts'
import { pass } from '../support/pass.ts'
import { until } from '../support/until.ts'

const { signal } = new AbortController()
const readLines = (text: string) => lineReader()(Buffer.from(text), signal)

configureLogging({ level: 'panic', output: 'stderr', format: 'text' })

type Step = Answer | Error | 'hang'

const lists = (...lines: string[]): Answer => ({
  backends: lines.map((line) => line && backend(line)) as never,
})
const backend = (line: string) => {
  const read = readLine(line)
  if ('wrong' in read) throw new Error(read.wrong)
  return read
}

/** A discovery that does what it is told; `step` is what it does next. */
function scripted(first: Step) {
  const source = {
    step: first,
    asks: 0,
    running: 0,
    aborted: 0,
    hint: () => {},
    watcher: undefined as Watcher | undefined,
    watching: undefined as AbortSignal | undefined,
  }
  const discovery: Discovery = {
    async ask(signal) {
      source.asks++
      source.running++
      signal.addEventListener('abort', () => source.aborted++)
      try {
        if (source.step === 'hang') return await new Promise<never>(() => {})
        await new Promise(setImmediate)
        if (source.step instanceof Error) throw source.step
        return source.step
      } finally {
        source.running--
      }
    },
    watch(signal, watcher) {
      source.watching = signal
      source.hint = () => watcher.hint()
      source.watcher = watcher
    },
  }
  return { source, discovery }
}

function started(first: Step, settings: Partial<ScheduleSettings> = {}) {
  const { source, discovery } = scripted(first)
  const clock = new FakeClock()
  const heard: Listed[] = []
  const all: ScheduleSettings = {
    name: () => 'web',
    intervalMs: 0,
    timeoutMs: 0,
    failpolicy: 'keeplast',
    maxStalenessMs: 0,
    stalePolicy: 'setempty',
    minBackends: 0,
    maxRemoval: undefined,
    removalHoldMs: 30_000,
    readmitDelayMs: 0,
    ...settings,
  }
  const schedule = startSchedule(discovery, all, clock, (listed) => void heard.push(listed))
  const hosts = () =>
    heard.map(({ backends }) => backends.map(({ address }) => 'host' in address && address.host).join())
  return { source, clock, heard, hosts, schedule }
}

const failed = new Error('no route')

/** The lines logged while `work` ran. */
async function logged(t: Test, work: () => Promise<void>): Promise<string[]> {
  const output = join(t.testdir(), 'log')
  configureLogging({ level: 'info', output, format: 'text' })
  await work()
  await configureLogging({ level: 'panic', output: 'stderr', format: 'text' })
  return readFileSync(output, 'utf8').trim().split('\n').filter(Boolean)
}

t.test('an interval of 0 asks until it has worked once', async (t) => {
  const { source, clock, hosts, schedule } = started(failed)
  await pass(clock, 0)
  t.same(hosts(), [])
  source.step = lists('a:1')
  await pass(clock, 2_000)
  t.same(hosts(), ['a'])
  await pass(clock, 3_600_000)
  t.equal(source.asks, 2)
  t.equal(clock.pending, 0)
  schedule.stop()
})

t.test('an interval is waited for between an answer and the next question', async (t) => {
  const { source, clock, hosts } = started(lists('a:1'), { intervalMs: 10_000 })
  await pass(clock, 9_999)
  t.equal(source.asks, 1)
  source.step = lists('b:1')
  await pass(clock, 1)
  t.same(hosts(), ['a', 'b'])
})

t.test(
  'an answer that is fresh for less than the interval is asked for again when that is over',
  async (t) => {
    const { source, clock } = started({ ...lists('a:1'), freshForMs: 3_000 }, { intervalMs: 10_000 })
    await pass(clock, 2_999)
    t.equal(source.asks, 1)
    await pass(clock, 1)
    t.equal(source.asks, 2)
    source.step = { ...lists('a:1'), freshForMs: 0 }
    await pass(clock, 3_000)
    const before = source.asks
    await pass(clock, 999)
    t.equal(source.asks, before, 'but not more than once a second')
    source.step = { ...lists('a:1'), freshForMs: 60_000 }
    await pass(clock, 1)
    await pass(clock, 10_000)
    t.equal(source.asks, before + 2, 'nor later than the interval')
  },
)

t.test('keeplast publishes nothing while the source fails', async (t) => {
  const { source, clock, hosts } = started(lists('a:1'), { intervalMs: 1_000 })
  await pass(clock, 0)
  source.step = failed
  await pass(clock, 60_000, 600)
  t.same(hosts(), ['a'])
})

t.test('setempty publishes an empty list once, until the source works again', async (t) => {
  const { source, clock, hosts } = started(lists('a:1'), { intervalMs: 1_000, failpolicy: 'setempty' })
  await pass(clock, 0)
  source.step = failed
  await pass(clock, 60_000, 600)
  t.same(hosts(), ['a', ''])
  source.step = lists('b:1')
  await pass(clock, 1_000)
  t.same(hosts(), ['a', '', 'b'])
})

t.test('retries wait longer and longer, with chance in it, up to a minute', async (t) => {
  const { source, clock } = started(failed)
  const waits: number[] = []
  for (let asks = 1, at = clock.now(); asks < 10;) {
    await pass(clock, 50)
    if (source.asks === asks) continue
    asks = source.asks
    waits.push(clock.now() - at)
    at = clock.now()
  }
  for (const [i, wait] of waits.entries()) {
    const whole = Math.min(2_000 * 2 ** i, 60_000)
    t.ok(wait >= whole / 2 && wait <= whole + 50, `${i}: ${wait} of ${whole}`)
  }
})

t.test('retries never wait longer than the interval', async (t) => {
  const { source, clock } = started(failed, { intervalMs: 5_000 })
  await pass(clock, 60_000, 1_200)
  t.ok(source.asks >= 12, `${source.asks} questions in a minute`)
})

t.test('a question that never settles is given up after the timeout, and asked again', async (t) => {
  const { source, clock, hosts, schedule } = started('hang', { timeoutMs: 3_000 })
  await pass(clock, 2_999)
  t.equal(source.aborted, 0)
  await pass(clock, 1)
  t.equal(source.aborted, 1)
  t.match(schedule.status().lastError, { message: 'no answer within 3s' })
  source.step = lists('a:1')
  await pass(clock, 2_000)
  t.same(hosts(), ['a'])
})

t.test('hints ask at once, and never while a question is open', async (t) => {
  const { source, clock } = started(lists('a:1'))
  await pass(clock, 5_000)
  for (let i = 0; i < 10; i++) source.hint()
  await pass(clock, 0)
  t.equal(source.asks, 2, 'at once, and ten hints are one')
  source.hint()
  await pass(clock, 20)
  t.equal(source.asks, 3, 'another change is learnt of at once too')
  source.step = 'hang'
  source.hint()
  await pass(clock, 20)
  source.hint()
  await pass(clock, 5_000)
  t.equal(source.running, 1)
  t.equal(source.asks, 4)
})

t.test('a hint during a question asks once more when it is over', async (t) => {
  const { source, clock } = started(lists('a:1'))
  source.hint()
  await pass(clock, 0)
  t.equal(source.asks, 1)
  await pass(clock, 20)
  t.equal(source.asks, 2)
})

t.test('a source that hints without end is asked four times a second', async (t) => {
  const { source, clock } = started(lists('a:1'))
  await pass(clock, 10_000)
  const before = source.asks
  for (let i = 0; i < 600; i++) {
    source.hint()
    await pass(clock, 100)
  }
  const asked = source.asks - before
  t.ok(asked >= 240 && asked <= 246, `${asked} questions in a minute`)
})

t.test('nothing is published after stop, and the open question is aborted', async (t) => {
  const { source, clock, heard, schedule } = started(lists('a:1'), { intervalMs: 1_000 })
  schedule.stop()
  schedule.stop()
  await pass(clock, 10_000)
  t.same(heard, [])
  t.equal(source.aborted, 1)
  t.equal(source.watching?.aborted, true)
  source.hint()
  await pass(clock, 10_000)
  t.equal(source.asks, 1)
  t.equal(clock.pending, 0)
})

t.test('the status says how the source is doing', async (t) => {
  const answer: Answer = { ...lists('a:1', 'b:1'), rejected: ['line 3: expected host:port, got "x"'] }
  const { source, clock, schedule } = started(answer, { intervalMs: 1_000 })
  t.match(schedule.status(), { asks: 1, failures: 0, lastSuccess: undefined, freshnessMs: undefined })
  await pass(clock, 0)
  const good = schedule.status()
  t.match(good, { asks: 1, failing: false, revision: 1, backends: 2, rejected: answer.rejected })
  t.equal(good.lastSuccess, clock.date())
  source.step = failed
  await pass(clock, 1_500)
  const bad = schedule.status()
  t.match(bad, { failing: true, failures: 1, revision: 1, backends: 2, lastError: { message: 'no route' } })
  t.equal(bad.freshnessMs, 1_500)
})

t.test('a failure is logged when it begins and when it ends', async (t) => {
  const lines = await logged(t, async () => {
    const { source, clock } = started(failed, { intervalMs: 1_000 })
    await pass(clock, 30_000, 300)
    source.step = lists('a:1')
    await pass(clock, 5_000, 50)
  })
  t.equal(lines.length, 2)
  t.match(lines[0], /web: no route; retrying in .*, there are no backends meanwhile/)
  t.match(lines[1], /web: answers again after \d+ failures/)
})

t.test('rejected entries are logged one by one, others at most once a minute', async (t) => {
  const lines = await logged(t, async () => {
    const answer = await readLines('a:1\nfoo\nb:2 colour=red\n')
    const { source, clock } = started(answer, { intervalMs: 1_000 })
    await pass(clock, 5_000, 5)
    source.step = await readLines('a:1\nfoo')
    await pass(clock, 60_000, 60)
  })
  t.equal(lines.length, 3)
  t.match(lines[0], /web: line 2: expected host:port.*, got "foo"/)
  t.match(lines[1], /web: line 3: expected one of weight=.*, got "colour=red"/)
})

t.test('an answer that is fresh for a while is asked for again also without an interval', async (t) => {
  const { source, clock } = started({ ...lists('a:1'), freshForMs: 3_000 })
  await pass(clock, 2_999)
  t.equal(source.asks, 1)
  await pass(clock, 1)
  t.equal(source.asks, 2)
})

t.test('a list that has not changed is not published again', async (t) => {
  const { source, clock, hosts, schedule } = started(lists('a:1', 'b:1'), { intervalMs: 1_000 })
  await pass(clock, 5_000, 5)
  source.step = lists('b:1', 'a:1')
  await pass(clock, 1_000)
  t.same(hosts(), ['a,b'])
  source.step = lists('a:1', 'b:1 weight=2')
  await pass(clock, 1_000)
  t.same(hosts(), ['a,b', 'a,b'])
  t.match(schedule.status().lastChange, {
    added: { count: 0 },
    removed: { count: 0 },
    changed: { count: 1, first: ['b:1'] },
  })
})

t.test('what changed last is told, by name up to a hundred', async (t) => {
  const many = Array.from({ length: 150 }, (_, i) => `h${i}:1`)
  const { source, clock, schedule } = started(lists('a:1', 'b:1'), { intervalMs: 1_000 })
  await pass(clock, 0)
  source.step = lists('b:1', ...many)
  await pass(clock, 1_000)
  const { lastChange, revision } = schedule.status()
  t.match(lastChange, { at: clock.date(), added: { count: 150 }, removed: { count: 1, first: ['a:1'] } })
  t.equal(lastChange!.added.first.length, 100)
  t.equal(revision, 2)
})

const six = ['a:1', 'b:1', 'c:1', 'd:1', 'e:1', 'f:1']
const half = { intervalMs: 1_000, maxRemoval: 0.5, removalHoldMs: 30_000 }

t.test('max_removal holds an answer that drops too much, and asks again before it is believed', async (t) => {
  const { source, clock, hosts, schedule } = started(lists(...six), { ...half, intervalMs: 3_600_000 })
  await pass(clock, 0)
  source.step = lists('a:1')
  source.hint()
  await pass(clock, 20)
  t.same(hosts(), ['a,b,c,d,e,f'])
  t.match(schedule.status(), { held: { backends: 5 }, counts: { held: 1 } })
  await pass(clock, 29_900)
  t.same(hosts().length, 1, 'still held')
  await pass(clock, 200)
  t.equal(source.asks, 3, 'asked again although the interval is an hour')
  t.same(hosts(), ['a,b,c,d,e,f', 'a'])
  t.match(schedule.status(), { held: undefined, counts: { held: 1 } })
})

t.test('what a held answer adds or changes is used at once', async (t) => {
  const { source, clock, heard } = started(lists(...six), half)
  await pass(clock, 0)
  source.step = lists('a:1 weight=9', 'new:1')
  await pass(clock, 1_000)
  const listed = heard.at(-1)!.backends
  t.same(listed.map(({ identity }) => identity).sort(), [...six, 'new:1'])
  t.equal(listed.find(({ identity }) => identity === 'a:1')!.weight, 9)
})

t.test(
  'a source that names others all the time does not fill the list while its removals are held',
  async (t) => {
    const { source, clock, heard } = started(lists(...six), half)
    await pass(clock, 0)
    for (let i = 0; i < 20; i++) {
      source.step = lists(`x${i}:1`, `y${i}:1`)
      await pass(clock, 1_000)
    }
    t.equal(heard.at(-1)!.backends.length, six.length + 2, 'what was trusted, and the last answer')
  },
)

t.test('an answer waits for the list of an earlier run, and is judged by it', async (t) => {
  const { source, clock, hosts, schedule } = started(lists(), half)
  let loaded: (kept: { backends: Answer['backends']; ageMs: number }) => void = () => {}
  void schedule.restore(new Promise((resolve) => (loaded = resolve)))
  await pass(clock, 100)
  t.same(hosts(), [], 'the answer is there, the list is not')
  loaded({ backends: lists(...six).backends, ageMs: 1_000 })
  await pass(clock, 0)
  t.same(hosts(), ['a,b,c,d,e,f'], 'an empty source does not empty it at once')
  t.match(schedule.status(), { held: { backends: 6 }, restored: false })
  t.equal(source.asks, 1)
  schedule.stop()
})

t.test('a list of an earlier run that cannot be read keeps answers waiting for a second only', async (t) => {
  const { clock, hosts, schedule } = started(lists('a:1'))
  void schedule.restore(new Promise(() => {}))
  await pass(clock, 999)
  t.same(hosts(), [])
  await pass(clock, 1)
  t.same(hosts(), ['a'])
})

t.test('a hold ends when the missing are back, and the next one begins anew', async (t) => {
  const { source, clock, hosts, schedule } = started(lists(...six), half)
  await pass(clock, 0)
  source.step = lists()
  await pass(clock, 20_000, 20)
  source.step = lists(...six)
  await pass(clock, 1_000)
  t.equal(schedule.status().held, undefined)
  source.step = lists()
  await pass(clock, 29_000, 29)
  t.same(hosts(), ['a,b,c,d,e,f'])
  t.equal(schedule.status().counts.held, 2)
})

t.test('max_removal says nothing of fewer than five backends, nor of half of them', async (t) => {
  const few = started(lists('a:1', 'b:1', 'c:1', 'd:1'), half)
  await pass(few.clock, 0)
  few.source.step = lists()
  await pass(few.clock, 1_000)
  t.same(few.hosts(), ['a,b,c,d', ''])
  const all = started(lists(...six), half)
  await pass(all.clock, 0)
  all.source.step = lists('a:1', 'b:1', 'c:1')
  await pass(all.clock, 1_000)
  t.same(all.hosts(), ['a,b,c,d,e,f', 'a,b,c'])
})

t.test('min_backends holds an answer that leaves fewer, unless there were fewer', async (t) => {
  const rails = { intervalMs: 1_000, minBackends: 2 }
  const { source, clock, hosts } = started(lists('a:1', 'b:1'), rails)
  await pass(clock, 0)
  source.step = lists('a:1')
  await pass(clock, 29_000, 29)
  t.same(hosts(), ['a,b'])
  await pass(clock, 3_000, 3)
  t.same(hosts(), ['a,b', 'a'])
  source.step = lists()
  await pass(clock, 1_000)
  t.same(hosts(), ['a,b', 'a', ''], 'two are long gone')
})

t.test('rails judge answers only: a failure follows failpolicy and leaves the hold alone', async (t) => {
  const { source, clock, hosts, schedule } = started(lists(...six), { ...half, failpolicy: 'setempty' })
  await pass(clock, 0)
  source.step = failed
  await pass(clock, 1_000)
  t.same(hosts(), ['a,b,c,d,e,f', ''])
  t.equal(schedule.status().counts.held, 0)
  source.step = lists('a:1')
  await pass(clock, 2_000, 2)
  t.equal(schedule.status().counts.held, 1, 'compared with what was believed before the failure')
})

t.test('max_staleness: a list of a failing source is trusted for so long', async (t) => {
  for (const stalePolicy of ['setempty', 'keeplast'] as const) {
    const rails = { intervalMs: 1_000, maxStalenessMs: 60_000, stalePolicy }
    const { source, clock, hosts, schedule } = started(lists('a:1'), rails)
    await pass(clock, 120_000, 120)
    t.same(hosts(), ['a'], 'an hour of good answers is no staleness')
    source.step = failed
    await pass(clock, 59_000, 59)
    t.equal(schedule.status().stale, false)
    await pass(clock, 1_000)
    t.match(schedule.status(), { stale: true, counts: { stale: 1 } })
    t.same(hosts(), stalePolicy === 'setempty' ? ['a', ''] : ['a'])
    source.step = lists('a:1')
    await pass(clock, 1_000)
    t.equal(schedule.status().stale, false)
    t.equal(hosts().at(-1), 'a')
    schedule.stop()
  }
})

t.test('readmit_delay: from the third return within a minute a backend waits', async (t) => {
  const rails = { intervalMs: 1_000, readmitDelayMs: 10_000 }
  const { source, clock, hosts, schedule } = started(lists('a:1', 'b:1'), rails)
  await pass(clock, 0)
  for (let returns = 0; returns < 3; returns++) {
    source.step = lists('a:1')
    await pass(clock, 1_000)
    source.step = lists('a:1', 'b:1')
    await pass(clock, 1_000)
  }
  t.same(hosts(), ['a,b', 'a', 'a,b', 'a', 'a,b', 'a'])
  t.match(schedule.status(), { waiting: 1, counts: { readmissions: 1 } })
  await pass(clock, 9_000, 9)
  t.equal(hosts().length, 6)
  await pass(clock, 1_000)
  t.equal(hosts().at(-1), 'a,b')
  t.equal(schedule.status().waiting, 0)
  schedule.stop()
  t.equal(clock.pending, 0)
})

t.test('readmit_delay never leaves nobody', async (t) => {
  const { source, clock, hosts } = started(lists('a:1'), { intervalMs: 1_000, readmitDelayMs: 10_000 })
  await pass(clock, 0)
  for (let returns = 0; returns < 4; returns++) {
    source.step = lists()
    await pass(clock, 1_000)
    source.step = lists('a:1')
    await pass(clock, 1_000)
  }
  t.equal(hosts().at(-1), 'a')
})

t.test('returns that are a minute apart are no flapping', async (t) => {
  const { source, clock, hosts } = started(lists('a:1', 'b:1'), { intervalMs: 1_000, readmitDelayMs: 10_000 })
  await pass(clock, 0)
  for (let returns = 0; returns < 4; returns++) {
    source.step = lists('a:1')
    await pass(clock, 30_000, 30)
    source.step = lists('a:1', 'b:1')
    await pass(clock, 30_000, 30)
    t.equal(hosts().at(-1), 'a,b')
  }
})

const kept = async (ageMs: number, ...lines: string[]) => ({ backends: lists(...lines).backends, ageMs })

t.test('a list of an earlier run serves until somebody answers, and is marked', async (t) => {
  const { source, clock, hosts, schedule } = started(failed, { intervalMs: 1_000 })
  await pass(clock, 0)
  await schedule.restore(kept(5_000, 'a:1'))
  t.same(hosts(), ['a'])
  t.match(schedule.status(), { restored: true, lastSuccess: undefined, backends: 1 })
  source.step = lists('b:1')
  await pass(clock, 3_000, 3)
  t.same(hosts(), ['a', 'b'])
  t.equal(schedule.status().restored, false)
  await schedule.restore(kept(5_000, 'c:1'))
  t.same(hosts(), ['a', 'b'], 'too late')
})

t.test('a list of an earlier run grows old like any other', async (t) => {
  const rails = { intervalMs: 1_000, maxStalenessMs: 60_000 }
  const old = started(failed, rails)
  await pass(old.clock, 0)
  await old.schedule.restore(kept(60_001, 'a:1'))
  t.same(old.hosts(), [], 'too old already')
  await old.schedule.restore(kept(50_000, 'a:1'))
  t.same(old.hosts(), ['a'])
  await pass(old.clock, 10_000, 10)
  t.same(old.hosts(), ['a', ''])
  const setempty = started(failed, { ...rails, failpolicy: 'setempty' })
  await pass(setempty.clock, 0)
  await setempty.schedule.restore(kept(1_000, 'a:1'))
  t.same(setempty.hosts(), [''], 'setempty has decided')
})

t.test('a source whose changes are not heard of is asked at once, and then again and again', async (t) => {
  const { source, clock, schedule } = started(lists('a:1'))
  await pass(clock, 60_000)
  source.watcher!.connected()
  await pass(clock, 60_000)
  t.equal(source.asks, 2)
  source.watcher!.lost('connection refused')
  await pass(clock, 0)
  t.equal(source.asks, 3)
  await pass(clock, 30_000, 3)
  t.equal(source.asks, 6, 'every ten seconds, though there is no interval')
  source.step = failed
  await pass(clock, 10_000)
  t.equal(schedule.status().failing, true, 'so that failpolicy and max_staleness apply')
  source.step = lists('a:1')
  source.watcher!.connected()
  await pass(clock, 60_000)
  const { asks } = source
  await pass(clock, 60_000)
  t.equal(source.asks, asks, 'and no more once they are')
})

t.test('another failure is logged too, but not more than one a minute', async (t) => {
  const lines = await logged(t, async () => {
    const { source, clock } = started(failed, { intervalMs: 1_000 })
    for (let i = 0; i < 180; i++) {
      source.step = new Error(`failure ${i}`)
      await pass(clock, 1_000)
    }
  })
  t.equal(lines.length, 3)
})

t.test('a watch that is lost is told once, and shown', async (t) => {
  const status: unknown[] = []
  const lines = await logged(t, async () => {
    const { source, clock, schedule } = started(lists('a:1'), { intervalMs: 10_000 })
    status.push(schedule.status().push)
    source.watcher!.connected()
    status.push(schedule.status().push)
    await pass(clock, 100)
    source.watcher!.lost('connection refused')
    source.watcher!.lost('connection refused')
    status.push(schedule.status().push)
    source.watcher!.connected()
    await pass(clock, 20)
    status.push(source.asks)
  })
  t.same(status, ['none', 'connected', 'lost', 3], 'each connection is a reason to ask, and so is a loss')
  t.equal(lines.length, 2)
  t.match(lines[0], /web: changes are not heard of: connection refused; asked every 10s meanwhile/)
  t.match(lines[1], /web: changes are heard of at once again/)
})

const settings = (section: unknown) => discoverySettings.parse(section)

const tcp = (name: string, publish: Publish) => ({ name, transport: 'tcp' as const, publish })

t.test('servers with the same section share one source', async (t) => {
  const clock = new FakeClock()
  const sources = new Sources(clock)
  const heard: string[] = []
  const hear = (name: string) => tcp(name, () => heard.push(name))
  const one = sources.subscribe(settings({ kind: 'static', static_list: ['a:1'] }), hear('one'))
  t.same(heard, [], 'nothing before subscribe has returned')
  await pass(clock, 0)
  const again = settings({ static_list: ['a:1'], kind: 'static', interval: '0' })
  const two = sources.subscribe(again, hear('two'))
  const other = sources.subscribe(settings({ kind: 'static', static_list: ['b:1'] }), hear('other'))
  t.equal(sources.size, 2)
  await pass(clock, 0)
  t.same(heard, ['one', 'two', 'other'], 'a late subscriber is given the last list, once')
  t.match(two.sources(), [{ kind: 'static', source: 'static', asks: 1 }])
  one.cancel()
  one.cancel()
  t.equal(sources.size, 2)
  two.cancel()
  other.cancel()
  t.equal(sources.size, 0)
  t.equal(clock.pending, 0)
})

t.test('several sources are one list, and the first that has a backend describes it', async (t) => {
  const clock = new FakeClock()
  const sources = new Sources(clock)
  const heard: string[] = []
  const list = (...static_list: string[]) => ({ kind: 'static', static_list })
  const multi = settings({ kind: 'multi', sources: [list('a:1 weight=2', 'junk'), list('a:1', 'b:1')] })
  const publish = ({ backends }: Listed) =>
    void heard.push(backends.map(({ identity, weight }) => `${identity} ${weight}`).join())
  const subscription = sources.subscribe(multi, tcp('web', publish))
  await until(() => heard.length > 0 && heard.at(-1)!.includes('b:1'))
  t.equal(heard.at(-1), 'a:1 2,b:1 1')
  t.match(subscription.sources(), [{ backends: 1, rejected: [/^static_list\[1\]/] }, { backends: 2 }])
  t.equal(sources.size, 2)
  subscription.cancel()
  t.equal(sources.size, 0)
})

t.test('several sources: nothing is given to a subscriber that has left meanwhile', async (t) => {
  const sources = new Sources(new FakeClock())
  const list = { kind: 'static', static_list: Array.from({ length: 20_000 }, (_, i) => `h${i}:1`) }
  let published = 0
  const other = { ...list, static_list: ['a:1'] }
  const multi = settings({ kind: 'multi', sources: [list, other] })
  const subscription = sources.subscribe(
    multi,
    tcp('web', () => published++),
  )
  await until(() => subscription.sources()[0]!.backends > 0, 'the first list')
  subscription.cancel()
  const before = published
  for (let turn = 0; turn < 200; turn++) await new Promise(setImmediate)
  t.equal(published, before)
})

t.test('a subscriber that leaves in the same turn is given nothing', async (t) => {
  const clock = new FakeClock()
  const sources = new Sources(clock)
  const section = settings({ kind: 'static', static_list: ['a:1'] })
  sources
    .subscribe(
      section,
      tcp('one', () => t.fail('published')),
    )
    .cancel()
  await pass(clock, 10)
  t.equal(sources.size, 0)
})

t.test('a backend line takes its options in any order, with any blanks between them', async (t) => {
  t.match(readLine('  10.0.0.1:80  '), {
    address: { host: '10.0.0.1', port: 80 },
    weight: 1,
    priority: 1,
    maxConnections: 0,
    sni: '',
  })
  t.match(readLine('[::1]:80\tsni=a.example   max_connections=9 priority=2 weight=0'), {
    address: { host: '::1', port: 80 },
    weight: 0,
    priority: 2,
    maxConnections: 9,
    sni: 'a.example',
  })
  t.match(readLine('unix:/run/app.sock weight=3'), { address: { path: '/run/app.sock' }, weight: 3 })
  t.match(readLine('web:*'), { address: { host: 'web', port: 0 } })
})

t.test('a backend line that is none is explained', async (t) => {
  const cases: Record<string, string> = {
    web: 'expected host:port, host:* or unix:/path, got "web"',
    'web:99999': 'expected host:port, host:* or unix:/path, got "web:99999"',
    'web:80 weight=-1': 'expected weight= with a whole number, 0 to 2147483647, got "weight=-1"',
    'web:80 weight=99999999999':
      'expected weight= with a whole number, 0 to 2147483647, got "weight=99999999999"',
    'web:80 colour=red':
      'expected one of weight=, priority=, max_connections=, sni=, drain=, got "colour=red"',
    'web:80 constructor=1':
      'expected one of weight=, priority=, max_connections=, sni=, drain=, got "constructor=1"',
    'web:80 weight': 'expected one of weight=, priority=, max_connections=, sni=, drain=, got "weight"',
    'web:80 weight=1 weight=2': 'expected weight once, got "weight=2"',
    'web:80 sni=': 'expected sni= with a name, got "sni="',
    [`unix:/${'é'.repeat(54)}`]: `expected a path of at most 107 bytes, not 109, got "unix:/${'é'.repeat(54)}"`,
  }
  for (const [line, wrong] of Object.entries(cases)) t.same(readLine(line), { wrong }, line)
})

t.test('of two equal backends the later counts, but names served make them two', async (t) => {
  const { backends } = await readLines('a:1 weight=1\n\r\n  \nb:1\na:1 weight=5\na:1 sni=x\n')
  t.same(
    backends.map(({ address, weight, sni }) => ['host' in address && address.host, weight, sni]),
    [
      ['a', 5, ''],
      ['b', 1, ''],
      ['a', 1, 'x'],
    ],
  )
})

t.test('of many bad lines a hundred are named and the others counted', async (t) => {
  const { rejected } = await readLines('junk\n'.repeat(250))
  t.equal(rejected?.length, 101)
  t.equal(rejected?.[0], 'line 1: expected host:port, host:* or unix:/path, got "junk"')
  t.equal(rejected?.[100], 'and 150 more')
})

t.test('ten thousand lines are read in slices', async (t) => {
  const text = Array.from({ length: 10_000 }, (_, i) => `host${i}.example:80 weight=${i} sni=name${i}`).join(
    '\n',
  )
  await readLines(text)
  let turns = 0
  let over = false
  const count = () => {
    turns++
    if (!over) setImmediate(count)
  }
  setImmediate(count)
  const { backends } = await readLines(text)
  over = true
  t.equal(backends.length, 10_000)
  t.ok(turns >= 2, `the event loop turned ${turns} times`)
})

t.test('a line that was there the last time is the same backend, the very object', async (t) => {
  const reader = lineReader()
  const read = (text: string) => reader(Buffer.from(text), signal)
  const before = await read('a:1 weight=2\nb:1\n')
  const after = await read('b:1\na:1 weight=2\nc:1\njunk\n')
  t.equal(after.backends[1], before.backends[0])
  t.equal(after.backends[0], before.backends[1])
  t.equal(after.rejected?.length, 1)
  const again = await read('a:1 weight=3\njunk\n')
  t.equal(again.backends[0]?.weight, 3)
  t.equal(again.rejected?.length, 1, 'what is wrong is told each time')
})

t.test('an answer in which nothing can be read follows failpolicy, it is not a list of nobody', async (t) => {
  const { source, clock, hosts, schedule } = started(lists('a:1'), { intervalMs: 1_000 })
  await pass(clock, 0)
  t.same(hosts(), ['a'])
  source.step = await readLines('<html>\n<h1>502 Bad Gateway</h1>\n')
  await pass(clock, 1_000, 5)
  t.same(hosts(), ['a'])
  t.match(schedule.status(), { failing: true, lastError: { message: /nothing in the answer/ } })
  t.equal(schedule.status().rejected.length, 2)
  source.step = await readLines('')
  await pass(clock, 5_000, 20)
  t.equal(hosts().at(-1), '', 'an empty answer is one')
})

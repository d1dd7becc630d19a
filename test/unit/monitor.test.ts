import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { realClock } from '../../src/core/clock.ts'
import { configureLogging } from '../../src/core/log.ts'
import type { Check, Result, Target } from '../../src/health/check.ts'
import { Gate } from '../../src/health/gate.ts'
import { checkSettings, createCheck } from '../../src/health/settings.ts'
import { createMonitor } from '../../src/health/monitor.ts'
import type { MonitorEvents, MonitorSettings } from '../../src/health/monitor.ts'
import { Streak } from '../../src/health/streak.ts'
import { FakeClock } from '../support/clock.ts'
import { deafBackend } from '../support/ends.ts'
import { pass as passTime } from '../support/pass.ts'
import { until } from '../support/until.ts'

configureLogging({ level: 'panic', output: 'stderr', format: 'text' })

const RESULTS: Record<string, Result> = {
  P: { status: 'healthy', reason: 'connected' },
  F: { status: 'unhealthy', reason: 'connection refused' },
  '?': { status: 'unknown', reason: 'printed "2"' },
}

/** The state after each result: `U` up, `D` down. */
function states(results: string, passes: number, fails: number, up = true): string {
  const streak = new Streak(passes, fails, up)
  return Array.from(results, (each) => {
    const before = streak.up
    const flipped = streak.flips(RESULTS[each]!.status)
    t.equal(flipped, before !== streak.up)
    return streak.up ? 'U' : 'D'
  }).join('')
}

t.test('it takes consecutive results to flip', async (t) => {
  t.equal(states('FPFPFFPF', 1, 1), 'DUDUDDUD')
  t.equal(states('FFPFFFPF', 1, 3), 'UUUUUDUU')
  t.equal(states('PFFFPFPP', 2, 3), 'UUUDDDDU')
  t.equal(states('FFFFFFFF', 2, 3), 'UUDDDDDD')
})

t.test('a backend that starts down needs passes to come up', async (t) => {
  t.equal(states('PPFPPP', 3, 1, false), 'DDDDDU')
})

t.test('a result that is unknown neither counts nor interrupts', async (t) => {
  t.equal(states('????', 1, 1), 'UUUU')
  t.equal(states('F?F?F', 1, 3), 'UUUUD')
})

const target = (host: string): Target => {
  const address = { host, port: 80 }
  return { address, endpoints: [address] }
}

/** A check whose next results are letters; `H` hangs until aborted, `N` never settles. */
class Scripted implements Check {
  next = 'P'
  began: { host: string; at: number }[] = []
  running = 0
  most = 0
  aborted = 0
  readonly #clock: { now(): number }

  constructor(clock: { now(): number }) {
    this.#clock = clock
  }

  async run({ address }: Target, signal: AbortSignal): Promise<Result> {
    this.began.push({ host: 'host' in address ? address.host : '', at: this.#clock.now() })
    this.most = Math.max(this.most, ++this.running)
    const letter = this.next
    try {
      if (letter === 'N') return await new Promise(() => {})
      if (letter === 'H') await hang(signal, () => this.aborted++)
      if (letter === 'X') throw new Error('script broke')
      await new Promise(setImmediate)
      return RESULTS[letter]!
    } finally {
      this.running--
    }
  }
}

function hang(signal: AbortSignal, aborted: () => void): Promise<never> {
  return new Promise((_, reject) =>
    signal.addEventListener('abort', () => {
      aborted()
      reject(new Error('socket closed'))
    }),
  )
}

/** The gate of the test at hand, and how many turns of the loop it may take to let somebody in. */
let letting = new Gate()
const TURNS = 100

/** Time passes, and whoever is due is let in before more of it does: the gate waits for a loop that is really quiet. */
async function pass(clock: FakeClock, ms: number, steps = 1): Promise<void> {
  for (let i = 0; i < steps; i++) {
    await passTime(clock, ms / steps)
    for (let turn = 0; letting.waiting > 0 && turn < TURNS; turn++) await new Promise(setImmediate)
    await passTime(clock, 0)
  }
}

function monitored(settings: Partial<MonitorSettings> = {}, gate = new Gate()) {
  letting = gate
  const clock = new FakeClock()
  const check = new Scripted(clock)
  const flips: string[] = []
  const results: string[] = []
  const events: MonitorEvents = {
    flipped: (id, healthy, reason) => void flips.push(`${id} ${healthy ? 'up' : 'down'}: ${reason}`),
    checked: (id, { status }) => void results.push(`${id} ${status}`),
  }
  const all: MonitorSettings = {
    name: 'web',
    check,
    intervalMs: 1_000,
    intervalDownMs: settings.intervalMs ?? 1_000,
    timeoutMs: 500,
    passes: 1,
    fails: 1,
    initialStatus: undefined,
    ...settings,
  }
  return { clock, check, flips, results, gate, monitor: createMonitor(all, clock, gate, events) }
}

t.test('a new backend is checked soon, then every interval', async (t) => {
  const { clock, check, monitor } = monitored()
  const start = clock.now()
  monitor.add(1, target('a'))
  await pass(clock, 3_500, 70)
  t.same(
    check.began.map(({ at }) => Math.floor((at - start) / 1_000)),
    [0, 1, 2, 3],
  )
  t.ok(check.began[0]!.at - start < 100)
})

t.test('first checks of many backends are spread evenly over the interval', async (t) => {
  const { clock, check, monitor } = monitored()
  const start = clock.now()
  for (let id = 0; id < 10; id++) monitor.add(id, target(`b${id}`))
  await pass(clock, 1_999, 40)
  t.equal(check.began.length, 20)
  for (const [i, { host, at }] of check.began.entries()) {
    t.equal(host, `b${i % 10}`)
    t.ok(Math.abs(at - start - i * 100) <= 50, `${host} at ${at - start}`)
  }
})

t.test('flips are told with their reason, and only flips', async (t) => {
  const { clock, check, flips, monitor } = monitored({ fails: 2, passes: 2 })
  monitor.add(7, target('a'))
  for (const letter of 'PFPFFFPFPPP') {
    check.next = letter
    await pass(clock, 1_000, 10)
  }
  t.same(flips, ['7 down: connection refused', '7 up: connected'])
})

t.test('a check that throws counts as a failure with its message', async (t) => {
  const { clock, check, flips, monitor } = monitored()
  check.next = 'X'
  monitor.add(1, target('a'))
  await pass(clock, 100)
  t.same(flips, ['1 down: script broke'])
})

t.test('a check that throws before it returns a promise counts the same', async (t) => {
  const thrower: Check = {
    run() {
      throw new Error('at once')
    },
  }
  const { clock, flips, monitor } = monitored({ check: thrower })
  monitor.add(1, target('a'))
  await pass(clock, 100)
  t.same(flips, ['1 down: at once'])
})

t.test(
  'a check that takes too long is aborted and counts as a failure, even if it never settles',
  async (t) => {
    for (const letter of 'HN') {
      const { clock, check, flips, monitor, gate } = monitored()
      check.next = letter
      monitor.add(1, target('a'))
      await pass(clock, 450, 9)
      t.same(flips, [])
      await pass(clock, 100, 2)
      t.same(flips, ['1 down: timed out after 500ms'])
      t.equal(gate.running, 0)
      t.equal(check.aborted, letter === 'H' ? 1 : 0)
    }
  },
)

t.test('without a timeout a check may take as long as the interval, at least a second', async (t) => {
  for (const [intervalMs, text] of [
    [200, '1s'],
    [3_000, '3s'],
  ] as const) {
    const { clock, check, flips, monitor } = monitored({ intervalMs, timeoutMs: 0 })
    check.next = 'N'
    monitor.add(1, target('a'))
    await pass(clock, 3_100, 62)
    t.equal(flips[0], `1 down: timed out after ${text}`)
  }
})

t.test('checks of a backend never overlap; beats missed by a slow check are skipped', async (t) => {
  const { clock, check, monitor } = monitored({ timeoutMs: 2_500 })
  const start = clock.now()
  check.next = 'H'
  monitor.add(1, target('a'))
  await pass(clock, 2_600, 52)
  check.next = 'P'
  await pass(clock, 2_000, 40)
  t.equal(check.most, 1)
  t.same(
    check.began.map(({ at }) => Math.round((at - start) / 1_000)),
    [0, 3, 4],
  )
})

t.test('a check that takes its whole interval and a little does not cost the next beat', async (t) => {
  const { clock, check, monitor, gate } = monitored({ timeoutMs: 1_100 })
  const start = clock.now()
  check.next = 'H'
  monitor.add(1, target('a'))
  await pass(clock, 5_700, 114)
  t.same(
    check.began.map(({ at }) => Math.round((at - start) / 100) * 100),
    [0, 1_100, 2_200, 3_300, 4_400, 5_500],
  )
  t.equal(gate.late, 0)
})

t.test('interval_down is for backends that are down or undecided', async (t) => {
  const { clock, check, flips, monitor } = monitored({ intervalDownMs: 100, fails: 2, passes: 2 })
  const start = clock.now()
  const times = () => check.began.splice(0).map(({ at }) => Math.floor((at - start) / 100) * 100)
  check.next = '?'
  monitor.add(1, target('a'))
  await pass(clock, 250, 25)
  t.same(times(), [0, 100, 200], 'nothing has been counted yet')
  check.next = 'P'
  await pass(clock, 1_100, 110)
  t.same(times(), [300, 1_300], 'up: the usual interval')
  check.next = 'F'
  await pass(clock, 1_200, 120)
  t.same(times(), [2_300, 2_400, 2_500], 'one failure is doubt, two are down')
  t.same(flips.splice(0), ['1 down: connection refused'])
  check.next = 'P'
  await pass(clock, 1_200, 120)
  t.same(times(), [2_600, 2_700, 3_700])
  t.same(flips, ['1 up: connected'])
})

t.test('the first checks are spread over the interval, however short interval_down is', async (t) => {
  const { clock, check, monitor } = monitored({ intervalDownMs: 10 })
  const start = clock.now()
  for (let id = 0; id < 4; id++) monitor.add(id, target(`b${id}`))
  await pass(clock, 800, 80)
  t.same(
    check.began.map(({ at }) => Math.round((at - start) / 250)),
    [0, 1, 2, 3],
  )
})

t.test('a recheck is at once, and the beat goes on from there', async (t) => {
  const { clock, check, results, monitor } = monitored()
  const start = clock.now()
  t.equal(monitor.recheck(1), false, 'nobody of this number is checked')
  monitor.add(1, target('a'))
  t.equal(monitor.recheck(1), true, 'its first check is on its way')
  await pass(clock, 400, 40)
  t.equal(monitor.recheck(1), true)
  await pass(clock, 1_200, 120)
  t.same(
    check.began.map(({ at }) => Math.round((at - start) / 100) * 100),
    [0, 400, 1_400],
  )
  t.same(results, ['1 healthy', '1 healthy', '1 healthy'])
})

t.test('a recheck never makes checks of a backend overlap', async (t) => {
  const gate = new Gate(1)
  const { clock, check, monitor } = monitored({ timeoutMs: 600 }, gate)
  check.next = 'H'
  monitor.add(1, target('a'))
  monitor.add(2, target('b'))
  await pass(clock, 550, 11)
  t.equal(gate.waiting, 1, 'one runs, one waits')
  t.equal(monitor.recheck(1), true)
  t.equal(monitor.recheck(2), true)
  check.next = 'P'
  await pass(clock, 350, 7)
  t.equal(check.most, 1)
  t.same(
    check.began.map(({ host }) => host),
    ['a', 'b'],
  )
})

t.test('a result is told after the flip it makes, and not when that removed the backend', async (t) => {
  const clock = new FakeClock()
  const check = new Scripted(clock)
  check.next = 'F'
  const told: string[] = []
  const settings = { check, timeoutMs: 500, passes: 1, fails: 1, initialStatus: undefined, name: 'web' }
  const monitor = createMonitor({ ...settings, intervalMs: 100, intervalDownMs: 100 }, clock, new Gate(), {
    flipped(id) {
      told.push(`flip ${id}`)
      if (id === 2) monitor.remove(2)
    },
    checked: (id) => void told.push(`result ${id}`),
  })
  monitor.add(1, target('a'))
  await pass(clock, 50, 5)
  monitor.add(2, target('b'))
  await pass(clock, 20, 2)
  t.same(told, ['flip 1', 'result 1', 'flip 2'])
  await monitor.stop()
})

t.test('the certificate that was seen last is remembered', async (t) => {
  const { clock, check, monitor } = monitored()
  RESULTS.C = { status: 'healthy', reason: 'certificate', certificateEnds: 42 }
  check.next = 'C'
  monitor.add(1, target('a'))
  await pass(clock, 100)
  t.equal(monitor.lastCheck(1)?.certificateEnds, 42)
  check.next = 'F'
  await pass(clock, 1_000, 10)
  t.match(monitor.lastCheck(1), { status: 'unhealthy', certificateEnds: 42 })
})

t.test('checks whose dials nobody answers do not keep others from theirs', async (t) => {
  const { address } = await deafBackend(t)
  const endpoint = { host: '127.0.0.1', port: Number(address.split(':')[1]) }
  const gate = new Gate(4)
  const ping = createCheck(checkSettings.parse({ kind: 'ping', interval: '1s' }))!
  const settings = { name: 'web', timeoutMs: 30_000, passes: 1, fails: 1, initialStatus: undefined }
  const times = { intervalMs: 60, intervalDownMs: 60 }
  const dead = createMonitor({ ...settings, ...times, check: ping }, realClock, gate, { flipped() {} })
  for (let id = 0; id < 12; id++) dead.add(id, { address: endpoint, endpoints: [endpoint] })
  await until(() => gate.running === 12, 'all of them to be under way')
  t.equal(gate.waiting, 0)

  const alive = new Scripted(realClock)
  alive.next = 'H'
  const monitor = createMonitor({ ...settings, ...times, check: alive }, realClock, gate, { flipped() {} })
  for (let id = 0; id < 9; id++) monitor.add(id, target(`b${id}`))
  await until(() => alive.running === 4 && gate.waiting === 5, 'four of nine to run')
  t.equal(alive.most, 4, 'those that do more than wait for a dial are never more than the limit')
  await Promise.all([dead.stop(), monitor.stop()])
  await until(() => gate.running === 0)
})

t.test('no more than nine times the limit wait aside', async (t) => {
  const gate = new Gate(2)
  const asides: (() => void)[] = []
  let most = 0
  const release: (() => void)[] = []
  for (let i = 0; i < 30; i++)
    gate.enter((aside) => {
      asides.push(aside)
      most = Math.max(most, gate.running)
      return new Promise((resolve) => release.push(resolve))
    })
  await until(() => asides.length === 2)
  for (let done = 0; asides.length > done;) {
    const fresh = asides.slice(done)
    done = asides.length
    for (const aside of fresh) {
      aside()
      aside()
    }
    for (let turn = 0; turn < 100; turn++) await new Promise(setImmediate)
  }
  t.equal(most, 20)
  t.equal(gate.waiting, 10)
  while (release.length > 0) {
    release.splice(0).forEach((done) => done())
    for (let turn = 0; turn < 100; turn++) await new Promise(setImmediate)
  }
  asides.forEach((aside) => aside())
  t.same([gate.running, gate.waiting], [0, 0])
  let last = 0
  gate.enter(async () => void (last = gate.running))
  await until(() => last === 1, 'the gate to be as it was')
})

t.test('a backend that is removed is checked no more, and a running check of it is aborted', async (t) => {
  const { clock, check, flips, monitor, gate } = monitored()
  check.next = 'H'
  monitor.add(1, target('a'))
  monitor.add(2, target('b'))
  await pass(clock, 100)
  t.equal(check.running, 1)
  monitor.remove(1)
  monitor.remove(2)
  monitor.remove(3)
  t.equal(check.aborted, 1)
  await pass(clock, 10_000, 10)
  t.equal(check.began.length, 1)
  t.same(flips, [])
  t.equal(gate.running, 0)
  t.equal(clock.pending, 0)
  t.equal(monitor.lastCheck(1), undefined)
})

t.test('a backend that is removed in the turn it came is never checked', async (t) => {
  const { clock, check, monitor } = monitored()
  monitor.add(1, target('a'))
  monitor.remove(1)
  await pass(clock, 5_000, 5)
  t.equal(check.began.length, 0)
  t.equal(clock.pending, 0)
})

t.test('later checks go where a backend was moved to, and what was counted stays', async (t) => {
  const { clock, check, flips, monitor } = monitored({ fails: 2 })
  check.next = 'F'
  monitor.add(1, target('a'))
  await pass(clock, 100)
  monitor.retarget(1, target('b'))
  monitor.retarget(2, target('c'))
  await pass(clock, 1_000, 10)
  t.same(
    check.began.map(({ host }) => host),
    ['a', 'b'],
  )
  t.equal(flips.length, 1)
})

t.test('the last check of a backend can be read', async (t) => {
  const { clock, check, monitor } = monitored()
  check.next = '?'
  monitor.add(1, target('a'))
  t.equal(monitor.lastCheck(1), undefined)
  await pass(clock, 100)
  t.match(monitor.lastCheck(1), { status: 'unknown', reason: 'printed "2"', ms: Number })
  check.next = 'F'
  await pass(clock, 1_000, 10)
  t.match(monitor.lastCheck(1), { status: 'unhealthy', reason: 'connection refused' })
})

t.test('backends start as initial_status says, and healthy without it', async (t) => {
  t.equal(monitored().monitor.initiallyHealthy, true)
  t.equal(monitored({ initialStatus: 'healthy' }).monitor.initiallyHealthy, true)
  const { clock, monitor, flips } = monitored({ initialStatus: 'unhealthy', passes: 2 })
  t.equal(monitor.initiallyHealthy, false)
  monitor.add(1, target('a'))
  await pass(clock, 100)
  t.same(flips, [])
  await pass(clock, 1_000, 10)
  t.same(flips, ['1 up: connected'])
})

t.test('without a check backends are healthy and never checked', async (t) => {
  const { clock, monitor, flips } = monitored({ check: undefined, initialStatus: 'unhealthy', intervalMs: 0 })
  t.equal(monitor.initiallyHealthy, true)
  monitor.add(1, target('a'))
  monitor.retarget(1, target('b'))
  await pass(clock, 10_000, 10)
  t.same(flips, [])
  t.equal(monitor.lastCheck(1), undefined)
  monitor.remove(1)
  await monitor.stop()
  t.equal(clock.pending, 0)
})

t.test('all monitors together run no more checks at once than the gate lets in', async (t) => {
  const gate = new Gate(3)
  const one = monitored({ intervalMs: 10, timeoutMs: 1_000 }, gate)
  const two = monitored({ intervalMs: 10, timeoutMs: 1_000 }, gate)
  one.check.next = two.check.next = 'H'
  for (let id = 0; id < 5; id++) {
    one.monitor.add(id, target(`b${id}`))
    two.monitor.add(id, target(`b${id}`))
  }
  await pass(one.clock, 50, 10)
  await pass(two.clock, 50, 10)
  t.equal(one.check.running + two.check.running, 3)
  t.equal(gate.running, 3)
  t.equal(gate.waiting, 7)
  await one.monitor.stop()
  await pass(two.clock, 50, 5)
  t.equal(two.check.running, 3, 'those that waited came in')
  t.equal(gate.waiting, 2)
  await two.monitor.stop()
  await pass(two.clock, 50, 5)
  t.same([gate.running, gate.waiting], [0, 0])
})

t.test('checks that begin late are counted', async (t) => {
  const gate = new Gate(1)
  const { clock, check, monitor } = monitored({ intervalMs: 2_000, timeoutMs: 500 }, gate)
  check.next = 'H'
  monitor.add(1, target('a'))
  await pass(clock, 0)
  t.equal(gate.late, 0)
  monitor.add(2, target('b'))
  await pass(clock, 150, 3)
  check.next = 'P'
  await pass(clock, 1_000, 20)
  t.equal(gate.late, 1, 'the second waited 350 ms for the first')
})

t.test('a check that cannot tell is logged once, a flip is for the server to tell', async (t) => {
  const output = join(t.testdir(), 'log')
  configureLogging({ level: 'info', output, format: 'text' })
  const { clock, check, monitor } = monitored()
  monitor.add(1, target('a'))
  for (const letter of 'PFF??P') {
    check.next = letter
    await pass(clock, 1_000, 10)
  }
  await configureLogging({ level: 'panic', output: 'stderr', format: 'text' })
  const lines = readFileSync(output, 'utf8').trim().split('\n')
  t.equal(lines.length, 1)
  t.match(lines[0], /\(healthcheck\): web: a:80 could not be checked: printed "2"$/)
})

t.test('five thousand backends are added, checked and stopped without a stall', async (t) => {
  const gate = new Gate()
  const check = new Scripted(realClock)
  check.next = 'H'
  const settings: MonitorSettings = {
    name: 'web',
    check,
    intervalMs: 200,
    intervalDownMs: 200,
    timeoutMs: 60_000,
    passes: 1,
    fails: 1,
    initialStatus: undefined,
  }
  const monitor = createMonitor(settings, realClock, gate, { flipped() {} })
  for (let id = 0; id < 5_000; id++) monitor.add(id, target(`b${id}`))
  await until(() => gate.running === 1_000 && gate.waiting === 4_000)
  await monitor.stop()
  await until(() => gate.running === 0 && gate.waiting === 0)
  t.equal(check.aborted, 1_000)
  t.equal(check.running, 0)
})

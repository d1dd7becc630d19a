// What becomes of bytes, ends, resets and silence between a client and a backend.

import { createHash, randomBytes } from 'node:crypto'
import type { Test } from 'tap'
import { backend, client } from '../support/ends.ts'
import type { Backend, End } from '../support/ends.ts'
import { serving, statsOf, statsUntil } from '../support/observed.ts'
import type { StatsView } from '../support/observed.ts'
import { onEveryPlane } from '../support/planes.ts'
import { portOf } from '../support/running.ts'
import { until } from '../support/until.ts'
import type { Manager } from '../../src/manager/manager.ts'

interface Flow {
  manager: Manager
  client: End
  backend: End
  listener: Backend
}

const ended = (manager: Manager, reason: string, times = 1) =>
  statsUntil(manager, `an end by ${reason}`, ({ endings }) => (endings[reason] ?? 0) === times)

/** Milliseconds since the call. */
function stopwatch(): () => number {
  const start = performance.now()
  return () => performance.now() - start
}

onEveryPlane((t, running) => {
  /** A server named `web` with one backend, and one flow through it; both ends are the test's. */
  async function flow(t: Test, settings: object = {}): Promise<Flow> {
    const listener = await backend(t)
    const manager = await running(t, { servers: { web: serving([listener], settings) } })
    const front = client(t, portOf(manager, 'web'))
    return { manager, client: front, backend: await listener.connection(), listener }
  }

  t.test('bytes pass both ways unchanged, in chunks of any size', async (t) => {
    const echo = await backend(t, { echo: true })
    const manager = await running(t, { servers: { web: serving([echo]) } })
    const front = client(t, portOf(manager, 'web'))
    const hash = createHash('sha256')
    front.socket.on('data', (chunk) => hash.update(chunk))
    const sent = randomBytes(3_000_017)
    for (let at = 0, size = 1; at < sent.length; at += size, size = Math.min(size * 3, 300_000))
      front.socket.write(sent.subarray(at, at + size))
    front.socket.end()
    await until(() => front.ended, 'the echo to end')
    t.equal(front.bytes, sent.length)
    t.equal(hash.digest('hex'), createHash('sha256').update(sent).digest('hex'))
  })

  t.test('a client that has sent its end still gets its answer', async (t) => {
    const { manager, client, backend } = await flow(t)
    client.say('question').socket.end()
    await until(() => backend.ended, 'the end to reach the backend')
    t.equal(backend.text, 'question')
    t.notOk(client.over, 'nothing has ended for the client')
    backend.say('first ')
    await client.hears('first ')
    backend.say('and last').socket.end()
    await until(() => client.ended, 'the end to reach the client')
    t.equal(client.text, 'first and last')
    await ended(manager, 'client-closed')
  })

  t.test('a backend that has sent its end still hears its client out', async (t) => {
    const { manager, client, backend } = await flow(t)
    backend.say('all I say').socket.end()
    await until(() => client.ended, 'the end to reach the client')
    t.equal(client.text, 'all I say')
    t.notOk(backend.over, 'nothing has ended for the backend')
    client.say('more ')
    await backend.hears('more ')
    client.say('and bye').socket.end()
    await until(() => backend.ended, 'the end to reach the backend')
    t.equal(backend.text, 'more and bye')
    await ended(manager, 'backend-closed')
  })

  t.test('megabytes on the way when a side ends still arrive', async (t) => {
    const { client, backend } = await flow(t)
    client.socket.pause()
    const poured = backend.pour(8_000_000).then(() => backend.socket.end())
    client.socket.end()
    await until(() => backend.ended, 'the end to reach the backend')
    client.socket.resume()
    await poured
    await until(() => client.ended, 'all of it')
    t.equal(client.bytes, 8_000_000)
  })

  t.test('a client that ends before its backend is connected is heard all the same', async (t) => {
    const echo = await backend(t, { echo: true })
    const manager = await running(t, { servers: { web: serving([echo]) } })
    for (let i = 0; i < 20; i++) {
      const front = client(t, portOf(manager, 'web'))
      front.socket.end(`hasty ${i}`)
      await until(() => front.ended, 'the echo to end')
      t.equal(front.text, `hasty ${i}`)
    }
  })

  for (const [slow, fast] of [
    ['backend', 'client'],
    ['client', 'backend'],
  ] as const)
    t.test(`a ${slow} that reads slowly holds its ${fast} back instead of filling memory`, async (t) => {
      const ends = await flow(t)
      const size = 96 * 1024 * 1024
      const column = fast === 'client' ? 'tx_total' : 'rx_total'
      ends[slow].socket.pause()
      const before = process.memoryUsage()
      const poured = ends[fast].pour(size)
      let seen = -1
      // Two looks half a second apart at the same number of bytes: nothing moves any more.
      let looked = performance.now()
      await until(async () => {
        if (performance.now() - looked < 500) return false
        looked = performance.now()
        const last = seen
        seen = (await statsOf(ends.manager))[column]
        return seen > 0 && last === seen
      }, 'the transfer to stall')
      t.ok(seen < size / 2, `stalled after ${seen} of ${size} bytes`)
      const after = process.memoryUsage()
      const grown = after.external + after.arrayBuffers - before.external - before.arrayBuffers
      t.ok(grown < 8 * 1024 * 1024, `${grown} bytes of buffers more than before`)
      ends[slow].socket.resume()
      await poured
      await until(() => ends[slow].bytes === size, 'all of it')
      const stats = await statsUntil(ends.manager, 'all of it', (stats) => stats[column] === size, 2_000)
      t.equal(stats.backends[0]!.stats[fast === 'client' ? 'tx' : 'rx'], size)
    })

  for (const [side, other] of [
    ['client', 'backend'],
    ['backend', 'client'],
  ] as const)
    t.test(`a reset by the ${side} is a reset for the ${other}`, async (t) => {
      const ends = await flow(t)
      ends.client.say('hello')
      await ends.backend.hears('hello')
      ends.backend.say('hello')
      await ends.client.hears('hello')
      ends[side].socket.resetAndDestroy()
      await until(() => ends[other].socket.destroyed, `the ${other} to notice`)
      t.ok(ends[other].wasReset, ends[other].fault ?? 'a clean end')
      await ended(ends.manager, `${side}-reset`)
      t.equal((await statsOf(ends.manager)).active_connections, 0)
    })

  t.test('a backend that resets after the client has sent its end resets the client', async (t) => {
    const { client, backend, manager } = await flow(t)
    client.say('question').socket.end()
    await until(() => backend.ended, 'the end to reach the backend')
    backend.socket.resetAndDestroy()
    await until(() => client.socket.destroyed, 'the client to notice')
    t.ok(client.wasReset, client.fault ?? 'a clean end')
    await ended(manager, 'backend-reset')
  })

  t.test('a client that resets after it has sent its end resets its backend when that speaks', async (t) => {
    const { client, backend, manager } = await flow(t)
    client.say('question').socket.end()
    await until(() => backend.ended, 'the end to reach the backend')
    client.socket.resetAndDestroy()
    const speak = () => backend.socket.destroyed || !backend.say('answer')
    await until(speak, 'the backend to notice')
    t.ok(backend.wasReset, backend.fault ?? 'a clean end')
    await ended(manager, 'client-reset')
  })

  for (const [side, other] of [
    ['client', 'backend'],
    ['backend', 'client'],
  ] as const)
    t.test(`a transfer broken off by the ${side} while the ${other} is blocked is a reset`, async (t) => {
      const ends = await flow(t)
      ends[other].socket.pause()
      const poured = t.rejects(ends[side].pour(64 * 1024 * 1024))
      const column = side === 'client' ? 'tx_total' : 'rx_total'
      await statsUntil(ends.manager, 'bytes to be under way', (stats) => stats[column] > 1_000_000)
      ends[side].socket.resetAndDestroy()
      await poured
      ends[other].socket.resume()
      const reset = ({ endings }: StatsView) => endings[`${side}-reset`] === 1
      await statsUntil(ends.manager, 'the flow to end as reset', reset, 3_000)
      // libuv may take a reset behind unread bytes for an end; who writes then learns the truth.
      await until(() => ends[other].over, `the ${other} to notice`)
      if (!ends[other].socket.destroyed) ends[other].say('?')
      await until(() => ends[other].wasReset, `a reset of the ${other}`)
    })

  for (const [side, other] of [
    ['client', 'backend'],
    ['backend', 'client'],
  ] as const)
    t.test(
      `half_close_timeout ends a flow when the ${side} has ended and the ${other} is silent`,
      async (t) => {
        const ends = await flow(t, { half_close_timeout: '300ms' })
        const since = stopwatch()
        ends[side].socket.end()
        await until(() => ends[other].ended, 'the end to arrive')
        await ended(ends.manager, 'half-close-timeout')
        t.ok(since() >= 295, `after ${since()} ms`)
        await until(() => ends[side].over, 'the connection to be closed')
      },
    )

  t.test('a half-closed flow that still moves bytes outlives half_close_timeout', async (t) => {
    const { manager, client, backend } = await flow(t, { half_close_timeout: '500ms' })
    client.socket.end()
    await until(() => backend.ended, 'the end to arrive')
    const since = stopwatch()
    const drip = setInterval(() => backend.say('.'), 50)
    t.teardown(() => clearInterval(drip))
    await until(() => since() > 1_500 || client.over, 'three times the timeout')
    t.notOk(client.over)
    clearInterval(drip)
    backend.socket.end()
    await until(() => client.ended, 'the end')
    await ended(manager, 'client-closed')
  })

  for (const side of ['client', 'backend'] as const)
    t.test(
      `silence longer than ${side}_idle_timeout ends the flow as ${side}-idle, never early`,
      async (t) => {
        const ends = await flow(t, { [`${side}_idle_timeout`]: '300ms' })
        ends.client.say('ping')
        await ends.backend.hears('ping')
        const since = stopwatch()
        ends.backend.say('pong')
        await ends.client.hears('pong')
        await until(() => ends.client.over && ends.backend.over, 'both sides to be over')
        t.ok(since() >= 295, `after ${since()} ms`)
        await ended(ends.manager, `${side}-idle`)
      },
    )

  for (const [from, to] of [
    ['backend', 'client'],
    ['client', 'backend'],
  ] as const)
    t.test(`a long transfer from the ${from} alone is cut by neither idle timeout`, async (t) => {
      const ends = await flow(t, { client_idle_timeout: '500ms', backend_idle_timeout: '500ms' })
      const since = stopwatch()
      const drip = setInterval(() => ends[from].say('.'), 50)
      t.teardown(() => clearInterval(drip))
      await until(() => since() > 1_800 || ends[to].over, 'more than three times the timeout')
      t.notOk(ends[to].over)
      t.ok(ends[to].bytes > 5)
    })

  t.test('a backend that waits for a blocked client is not idle', async (t) => {
    const { manager, client, backend } = await flow(t, { backend_idle_timeout: '300ms' })
    client.socket.pause()
    const size = 48 * 1024 * 1024
    const poured = backend.pour(size).then(() => backend.socket.end())
    const since = stopwatch()
    await until(() => since() > 1_300 || backend.socket.destroyed, 'four times the timeout')
    t.notOk(backend.socket.destroyed, JSON.stringify((await statsOf(manager)).endings))
    client.socket.resume()
    await poured
    await until(() => client.over, 'the rest')
    t.equal(client.bytes, size)
  })

  t.test('a client that takes nothing of what is written to it is idle', async (t) => {
    const { manager, client, backend } = await flow(t, { client_idle_timeout: '300ms' })
    client.socket.pause()
    const poured = t.rejects(backend.pour(96 * 1024 * 1024))
    await ended(manager, 'client-idle')
    await poured
  })

  t.test('a backend that takes nothing of what is written to it is idle', async (t) => {
    const { manager, client, backend } = await flow(t, { backend_idle_timeout: '300ms' })
    backend.socket.pause()
    const poured = t.rejects(client.pour(96 * 1024 * 1024))
    await ended(manager, 'backend-idle')
    await poured
  })

  t.test('statistics show bytes at most a second late while a flow runs', async (t) => {
    const { manager, client, backend } = await flow(t)
    client.say('x'.repeat(1_234))
    backend.say('y'.repeat(54_321))
    await until(() => backend.bytes === 1_234 && client.bytes === 54_321, 'the bytes to arrive')
    const stats = await statsUntil(
      manager,
      'both numbers',
      ({ rx_total, tx_total }) => rx_total === 54_321 && tx_total === 1_234,
      1_000,
    )
    t.equal(stats.active_connections, 1)
    t.match(stats.backends[0]!.stats, { rx: 54_321, tx: 1_234, active_connections: 1, total_connections: 1 })
  })

  t.test(
    'statistics are exact to the byte once flows have ended, and add nothing for idle ones',
    async (t) => {
      const echo = await backend(t, { echo: true })
      const manager = await running(t, { servers: { web: serving([echo]) } })
      const idle = client(t, portOf(manager, 'web'))
      await idle.say('12345').hears('12345')
      const sizes = Array.from({ length: 40 }, (_, i) => 1 + i * 4_099)
      await Promise.all(
        sizes.map(async (size) => {
          const front = client(t, portOf(manager, 'web'))
          await front.pour(size)
          await until(() => front.bytes === size, 'the echo')
          await front.leave()
        }),
      )
      const total = sizes.reduce((a, b) => a + b, 5)
      const stats = await statsUntil(manager, '40 ends', ({ endings }) => endings['client-closed'] === 40)
      t.match(stats, { rx_total: total, tx_total: total, active_connections: 1 })
      t.match(stats.backends[0]!.stats, {
        rx: total,
        tx: total,
        total_connections: 41,
        active_connections: 1,
      })
      t.match(await statsOf(manager), { rx_total: total, tx_total: total })
    },
  )

  t.test('every flow ends exactly once, with one reason', async (t) => {
    const echo = await backend(t, { echo: true })
    const manager = await running(t, { servers: { web: serving([echo]) } })
    const flows = Array.from({ length: 60 }, () => client(t, portOf(manager, 'web')))
    await Promise.all(
      flows.map(async (front, i) => {
        await front.say('hi').hears('hi')
        if (i % 3 === 0) front.socket.resetAndDestroy()
        else if (i % 3 === 1) await front.leave()
        else front.socket.destroy()
      }),
    )
    const { endings } = await statsUntil(manager, 'no flow left', (stats) => stats.active_connections === 0)
    t.equal(
      Object.values(endings).reduce((a, b) => a + b, 0),
      60,
    )
    t.equal(endings['client-reset'], 20)
  })
})

// Traffic while the file that lists the backends changes: backends come and go, and clients do not notice.

import { renameSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { once } from 'node:events'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import type { Manager } from '../../src/manager/manager.ts'
import { client } from '../support/ends.ts'
import { folder } from '../support/folder.ts'
import { backendStats } from '../support/observed.ts'
import { onEveryPlane } from '../support/planes.ts'
import { portOf } from '../support/running.ts'
import { median, summary } from '../support/summary.ts'
import { until } from '../support/until.ts'

const CHURN_MS = 1_000 * Number(process.env.FAIRLEAD_CHURN_SECONDS ?? 10)
t.setTimeout(60_000 + 4 * CHURN_MS)

const CLIENTS = 8

/** A source that hints more often than this is asked no sooner. */
const PACE_MS = 1_100
const paced = () => new Promise((resolve) => setTimeout(resolve, PACE_MS))

/** A backend that answers every line a few milliseconds later. */
class Worker {
  address = ''
  readonly sockets = new Set<Socket>()
  readonly #server = createServer({ noDelay: true }, (socket) => {
    this.sockets.add(socket)
    socket.on('close', () => this.sockets.delete(socket)).on('error', () => {})
    socket.on('data', (asked) => setTimeout(() => socket.destroyed || socket.write(asked), Math.random() * 5))
  })

  async start(): Promise<this> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    this.address = `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
    return this
  }

  /** Dies as a process does: its port and its connections at once. */
  kill(): void {
    this.#server.close()
    for (const socket of this.sockets) socket.resetAndDestroy()
  }
}

/** Clients one after another, several at a time, until `over`: each asks twice and leaves. */
async function traffic(
  t: Test,
  port: number,
  over: () => boolean,
): Promise<{ asked: number; failed: number }> {
  const counts = { asked: 0, failed: 0 }
  const request = async () => {
    const end = client(t, port)
    for (const line of ['one\n', 'two\n']) {
      counts.asked++
      await end.say(line).hears(line)
    }
    await end.leave()
  }
  const visitor = async () => {
    while (!over()) await request().catch(() => counts.failed++)
  }
  await Promise.all(Array.from({ length: CLIENTS }, visitor))
  return counts
}

/** Waits until a backend is in the state that its line in the file asks for. */
const seen = (manager: Manager, address: string, discovered: boolean) =>
  until(
    async () => ((await backendStats(manager, address))?.stats.discovered ?? false) === discovered,
    `${address} ${discovered ? 'listed' : 'gone'}`,
  )

onEveryPlane((t, running) => {
  /** A server whose backends are those of a file, and that file. */
  async function balancing(t: Test) {
    const path = join(folder(t), 'backends')
    const write = (lines: readonly string[]) => {
      writeFileSync(`${path}.next`, lines.join('\n'))
      renameSync(`${path}.next`, path)
    }
    const workers = await Promise.all([1, 2, 3].map(() => new Worker().start()))
    t.teardown(() => workers.forEach((each) => each.kill()))
    write(workers.map(({ address }) => address))
    const web = { bind: '127.0.0.1:0', balance: 'roundrobin', discovery: { kind: 'file', file_path: path } }
    return { manager: await running(t, { servers: { web } }), workers, write }
  }

  t.test('no request fails while backends are replaced in order', async (t) => {
    const { manager, workers, write } = await balancing(t)
    const ends = performance.now() + CHURN_MS
    const visits = traffic(t, portOf(manager, 'web'), () => performance.now() > ends)
    const times: number[] = []
    for (let round = 0; performance.now() < ends; round++) {
      const next = await new Worker().start()
      const leaving = workers.shift()!
      workers.push(next)
      const stay = workers.map(({ address }) => address)
      const wrote = performance.now()
      write(round % 2 ? [...stay, `${leaving.address} drain=true`] : stay)
      await seen(manager, next.address, true)
      times.push(performance.now() - wrote)
      await paced()
      if (round % 2) write(stay)
      await seen(manager, leaving.address, false)
      await until(() => leaving.sockets.size === 0, 'the last client to leave')
      leaving.kill()
      await paced()
    }
    const { asked, failed } = await visits
    t.comment(`${asked} requests, ${failed} failed, ${times.length} changes, seen after ${summary(times)}`)
    t.equal(failed, 0)
    t.ok(asked > 100)
    t.ok(times.length > 1)
    t.ok(median(times) < 5_000)
  })

  t.test('when backends die before the file says so, only what they were doing fails', async (t) => {
    const { manager, workers, write } = await balancing(t)
    const ends = performance.now() + CHURN_MS / 2
    const visits = traffic(t, portOf(manager, 'web'), () => performance.now() > ends)
    let deaths = 0
    let cut = 0
    for (; performance.now() < ends; deaths++) {
      const dying = workers.shift()!
      cut += dying.sockets.size
      dying.kill()
      workers.push(await new Worker().start())
      write(workers.map(({ address }) => address))
      await seen(manager, dying.address, false)
    }
    const { asked, failed } = await visits
    t.comment(`${asked} requests, ${failed} failed, ${deaths} deaths that cut ${cut} connections`)
    t.ok(deaths > 5)
    // One that was accepted by the kernel and not yet by the backend is cut too, and not counted.
    t.ok(failed <= cut + deaths * 2, `${failed} failed`)
  })
})

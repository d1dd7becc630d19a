// What only the native plane has: threads that share a port, rings that fill, and an end of its own in every environment.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, fstatSync, openSync, readdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { createHash, randomBytes } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import type { Test } from 'tap'
import { parseBind } from '../../src/core/address.ts'
import { realClock } from '../../src/core/clock.ts'
import { NativePlane } from '../../src/plane/native/plane.ts'
import { folder } from '../support/folder.ts'
import { behaviour, dial, ended, LedgerDesk, serve, SPEC, to } from '../support/ledger.ts'
import { logged } from '../support/observed.ts'
import { PLANES, theAddon } from '../support/planes.ts'
import { backend, descriptors, drink, open, pour, saturated, unixBackend } from '../support/streams.ts'
import { until } from '../support/until.ts'

const { skip } = PLANES.find(({ name }) => name === 'native')!

/** A plane of its own with that many threads, ended with the test, and what each of them has counted of a row. */
function planeOf(t: Test, threads: number) {
  const blocks = new Map<number, Float64Array>()
  const addon = theAddon()
  const watched: typeof addon = {
    ...addon,
    rows: (handle, listening, thread, block, counters) => {
      if (block === 0) blocks.set(thread, counters)
      addon.rows(handle, listening, thread, block, counters)
    },
  }
  const plane = new NativePlane(watched, { threads, clock: realClock })
  t.teardown(() => plane.stop())
  /** Of row 0, a number each thread. */
  const connects = () => Array.from({ length: threads }, (_, thread) => blocks.get(thread)?.[2] ?? 0)
  return { plane, connects }
}

/** Everything that listens on a port: one line of /proc/net/tcp each. */
function listeners(port: number): number {
  const hex = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  const rows = readFileSync('/proc/net/tcp', 'utf8').split('\n').slice(1)
  return rows.filter((row) => {
    const [, here = '', , state] = row.trim().split(/\s+/)
    return here.endsWith(hex) && state === '0A'
  }).length
}

/** The policy by which the kernel schedules a task of this process: 0 is that of most programs, 3 SCHED_BATCH. */
function policyOf(task: string): number {
  const [, fields = ''] = readFileSync(`/proc/self/task/${task}/stat`, 'utf8').split(') ')
  return Number(fields.split(' ')[38])
}

/** Keeps this thread from everything else. */
function blockMain(ms: number): void {
  const start = performance.now()
  while (performance.now() - start < ms) continue
}

/** Clients on a thread of their own: `count` of them connect, send `bytes`, end, and wait for the end. */
async function crowd(t: Test, port: number, count: number, bytes = 1): Promise<Promise<unknown>> {
  const source = `
    const { parentPort, workerData: { port, count, bytes } } = require('node:worker_threads')
    const { connect } = require('node:net')
    const body = Buffer.alloc(bytes)
    let left = count
    let open = 0
    const next = () => {
      while (open < 200 && left > 0) {
        left--
        open++
        const socket = connect({ port, host: '127.0.0.1' }).on('error', () => {}).resume()
        socket.end(body)
        socket.on('close', () => {
          open--
          if (left === 0 && open === 0) parentPort.postMessage('all over')
          else next()
        })
      }
    }
    parentPort.once('message', next)
    parentPort.postMessage('ready')`
  const worker = new Worker(source, { eval: true, execArgv: [], env: {}, workerData: { port, count, bytes } })
  t.teardown(() => worker.terminate())
  await once(worker, 'message')
  worker.postMessage('go')
  return once(worker, 'message')
}

t.test('the native plane alone', { skip }, async (t) => {
  await behaviour(t, 'relay threads do not interrupt who sends to them', async (t) => {
    planeOf(t, 2)
    const relays = () =>
      readdirSync('/proc/self/task').filter((task) =>
        readFileSync(`/proc/self/task/${task}/comm`, 'utf8').startsWith('relay '),
      )
    await until(() => relays().length >= 2)
    const usual = policyOf(String(process.pid))
    await until(() => relays().every((task) => policyOf(task) === (usual === 0 ? 3 : usual)))
  })

  const full = await saturated()
  const before = descriptors()

  await behaviour(t, 'every thread takes clients, and the rows are the sum of them', async (t) => {
    const { plane, connects } = planeOf(t, 2)
    const address = await backend(t, (socket) => {
      socket.on('data', (chunk: Buffer) => socket.write(chunk)).on('end', () => socket.end())
    })
    const served = await serve(plane, to(address))
    const flows = Array.from({ length: 300 }, async (_, i) => {
      const socket = await open(served.port)
      const [sent, got] = await Promise.all([pour(socket, 100 + i), drink(socket)])
      return sent === got
    })
    t.ok((await Promise.all(flows)).every(Boolean))
    await ended(served, 300)
    t.ok(Math.min(...connects()) > 50, `${connects().join(' and ')} flows`)
    t.equal(connects()[0]! + connects()[1]!, 300)
    t.equal(served.listening.connects(0), 300)
    const sum = Array.from({ length: 300 }, (_, i) => 100 + i).reduce((a, b) => a + b, 0)
    t.equal(served.listening.tx(0), sum)
    t.equal(served.listening.rx(0), sum)
  })

  await behaviour(t, 'every thread takes clients of a unix socket', async (t) => {
    const { plane, connects } = planeOf(t, 2)
    const path = join(folder(t), 'front')
    const address = await backend(t, (socket) => socket.end('x'))
    const served = await serve(plane, to(address), { binds: [{ path }] })
    const rounds = async () => {
      const sockets = await Promise.all(Array.from({ length: 100 }, () => open({ path })))
      await Promise.all(sockets.map(async (socket) => t.equal(await text(socket.end()), 'x')))
    }
    for (let i = 0; i < 20 && Math.min(...connects()) === 0; i++) await rounds()
    t.ok(Math.min(...connects()) > 0, `${connects().join(' and ')} flows`)
    await until(() => served.listening.flows === 0)
  })

  await behaviour(
    t,
    'port 0 is one port for all threads',
    { skip: !existsSync('/proc/net/tcp') },
    async (t) => {
      for (const threads of [1, 2, 5]) {
        const served = await serve(planeOf(t, threads).plane, {})
        t.equal(listeners(served.port), threads)
        await served.listening.drain()
        t.equal(listeners(served.port), 0)
      }
    },
  )

  await behaviour(
    t,
    'every thread has a descriptor of a unix socket to close, and closes no other',
    async (t) => {
      const where = { family: 1, port: 0, bytes: Buffer.from(join(folder(t), 'front')) }
      const { fds } = theAddon().open(where, 3, { backlog: 10, keepAliveSeconds: 0 })
      t.teardown(() => fds.forEach((fd) => theAddon().close(fd)))
      t.equal(new Set(fds).size, 3)
      t.equal(new Set(fds.map((fd) => fstatSync(fd).ino)).size, 1)
    },
  )

  await behaviour(t, 'a port of somebody else is refused, and so is one of its own', async (t) => {
    const { plane } = planeOf(t, 2)
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    t.teardown(() => other.close())
    const { port } = other.address() as { port: number }
    const served = await serve(plane, {})
    for (const taken of [port, served.port])
      for (const host of ['127.0.0.1', '0.0.0.0', '::', ''])
        for (const each of [plane, planeOf(t, 3).plane])
          await t.rejects(each.listen({ ...SPEC, binds: [{ host, port: taken }] }, new LedgerDesk({})), {
            code: 'EADDRINUSE',
          })
    const open_ = descriptors()
    await t.rejects(plane.listen({ ...SPEC, binds: parseBind(`127.0.0.1:${port}`)! }, new LedgerDesk({})))
    t.equal(descriptors(), open_, 'nothing stays open')
  })

  await behaviour(t, 'while the desk is busy flows arrive and end, and none is lost', async (t) => {
    const { plane } = planeOf(t, 2)
    const address = await backend(t, (socket) => socket.resume().end('x'))
    let busy = 0
    const count = 3_000
    const served = await serve(plane, {
      arrived: ({ flow }) => {
        if (flow % 500 === 1 && busy++ < 4) blockMain(300)
        return flow % 3 === 0 ? { refuse: 'access' } : dial(address)
      },
    })
    await await crowd(t, served.port, count)
    await until(() => served.desk.arrivals.length === count)
    await ended(served, (count * 2) / 3)
    t.equal(served.listening.flows, 0)
    t.equal(served.listening.connects(0), (count * 2) / 3)
  })

  await behaviour(t, 'more first bytes than the ring holds are told all the same', async (t) => {
    const { plane } = planeOf(t, 1)
    const bodies = new Map<number, Buffer>()
    const sums: Promise<string>[] = []
    const address = await backend(t, (socket) => {
      sums.push(drink(socket))
      socket.on('end', () => socket.end())
    })
    let seen = 0
    const served = await serve(plane, {
      arrived: () => ({ wait: { atLeast: 65_536, atMost: 65_536, ms: 0 } }),
      headed: ({ port }, bytes) => {
        if (seen++ === 0) blockMain(300)
        return bodies.get(port)!.equals(bytes) ? dial(address) : { refuse: 'bad-header' }
      },
    })
    const sockets = await Promise.all(Array.from({ length: 60 }, () => open(served.port)))
    await until(() => served.desk.arrivals.length === 60)
    for (const socket of sockets) {
      bodies.set(socket.localPort!, randomBytes(65_536))
      socket.resume().end(bodies.get(socket.localPort!)!)
    }
    await ended(served, 60)
    t.equal(seen, 60)
    t.ok(served.desk.ends.every(({ reason, tx }) => reason === 'client-closed' && tx === 65_536))
    const want = [...bodies.values()].map((each) => createHash('md5').update(each).digest('hex'))
    t.same((await Promise.all(sums)).toSorted(), want.toSorted())
  })

  await behaviour(t, 'more ends than the ring holds are told all the same', async (t) => {
    const { plane } = planeOf(t, 1)
    const count = 4_000
    const served = await serve(plane, to(full, { backend: 3, timeoutMs: 0 }))
    const sockets: Socket[] = []
    while (sockets.length < count)
      sockets.push(...(await Promise.all(Array.from({ length: 100 }, () => open(served.port)))))
    await until(() => served.desk.arrivals.length === count)
    served.listening.drop(3, 'killed')
    blockMain(300)
    await ended(served, count)
    t.ok(served.desk.ends.every(({ reason, backend }) => reason === 'killed' && backend === 3))
    for (const socket of sockets) socket.destroy()
  })

  await behaviour(t, 'more is told at once than the ring holds, and every flow gets its own', async (t) => {
    const { plane } = planeOf(t, 2)
    const count = 300
    const got = new Map<string, string>()
    const path = join(folder(t), 'back')
    const address = await unixBackend(t, path, (socket) => {
      void text(socket).then((all) => {
        got.set(all.slice(-8), all.slice(0, -8))
        socket.end()
      })
    })
    const served = await serve(plane, { arrived: () => ({ later: true }) })
    const sockets = await Promise.all(Array.from({ length: count }, () => open(served.port)))
    for (const socket of sockets) socket.resume().end(String(socket.localPort).padStart(8, '.'))
    await until(() => served.desk.arrivals.length === count)
    for (const { flow, port } of served.desk.arrivals)
      served.answer(flow, dial(address, { ahead: Buffer.alloc(16_384, `${flow} ${port};`) }))
    await ended(served, count)
    for (const { flow, port } of served.desk.arrivals) {
      const want = Buffer.alloc(16_384, `${flow} ${port};`).toString()
      t.ok(got.get(String(port).padStart(8, '.')) === want, `flow ${flow}`)
    }
  })

  await behaviour(t, 'a worker that is terminated leaves nothing of its plane', async (t) => {
    const address = await backend(t, (socket) => socket.on('data', (chunk: Buffer) => socket.write(chunk)))
    for (let round = 0; round < 3; round++) {
      const worker = new Worker(`(${String(program)})()`, {
        eval: true,
        execArgv: [],
        env: {},
        workerData: settings(address),
      })
      const [port] = (await once(worker, 'message')) as [number]
      const sockets = await flowing(port, 30)
      const over = sockets.map(isOver)
      await worker.terminate()
      await Promise.all(over)
      for (const socket of sockets) socket.destroy()
    }
  })

  await behaviour(t, 'others have their turns while a thousand addresses are opened', async (t) => {
    const { plane } = planeOf(t, 2)
    let turns = 0
    let opening = true
    const turn = () => void (opening && ++turns && setImmediate(turn))
    turn()
    const binds = Array.from({ length: 1000 }, () => ({ host: '127.0.0.1', port: 0 }))
    const served = await serve(plane, to(await backend(t, (socket) => socket.end('x'))), { binds })
    opening = false
    t.ok(turns > 2, `${turns} turns`)
    for (const address of [served.listening.addresses[0]!, served.listening.addresses[999]!])
      t.equal(await text((await open(Number(address.split(':')[1]))).end()), 'x')
    await ended(served, 2)
  })

  await behaviour(
    t,
    'who has seen its end is over for the desk when it comes again by another thread',
    async (t) => {
      const { plane } = planeOf(t, 4)
      const address = await backend(t, (socket) => socket.on('end', () => socket.end()).resume())
      const { arrived } = to(address)
      let early = 0
      const served = await serve(plane, {
        arrived: (client) => {
          if (served.listening.flows > 0) early++
          return arrived!(client)
        },
      })
      for (let i = 0; i < 1000; i++) await text((await open(served.port)).end())
      t.equal(early, 0)
      await ended(served, 1000)
    },
  )

  await behaviour(t, 'a thread that cannot take a listener says which', async (t) => {
    const addon = theAddon()
    const worse: typeof addon = {
      ...addon,
      open: (...given) => {
        const { fds, port } = addon.open(...given)
        addon.close(fds[1]!)
        // Nothing that epoll would watch.
        return { fds: [fds[0]!, openSync(fileURLToPath(import.meta.url), 'r')], port }
      },
    }
    const plane = new NativePlane(worse, { threads: 2, clock: realClock })
    t.teardown(() => plane.stop())
    const log = logged(t)
    const served = await serve(plane, {})
    const said = `127.0.0.1:${served.port}: thread 1 cannot take its clients: EPERM`
    await until(async () => (await log()).includes(said), said)
  })

  await t.test('a process with open flows ends when it is told to, whatever the way', async (t) => {
    const address = await backend(t, (socket) => socket.on('data', (chunk: Buffer) => socket.write(chunk)))
    for (const way of ['exit', 'throw', 'SIGTERM', 'stop']) {
      const { NODE_OPTIONS: _, ...env } = process.env
      const child = spawn(process.execPath, ['-e', `(${String(program)})()`], {
        env: { ...env, SETTINGS: JSON.stringify(settings(address)) },
        stdio: ['pipe', 'pipe', 'pipe'],
      })
      const said = text(child.stderr)
      const [port] = (await once(child.stdout, 'data')) as [Buffer]
      const sockets = await flowing(Number(port), 30)
      const over = sockets.map(isOver)
      if (way === 'SIGTERM') child.kill(way)
      else child.stdin.write(way)
      const [code, signal] = (await once(child, 'close')) as [number | null, string | null]
      await Promise.all(over)
      for (const socket of sockets) socket.destroy()
      const want = { exit: 7, throw: 1, SIGTERM: 'SIGTERM', stop: 0 }[way]
      t.equal(code ?? signal, want, `${way}: ${await said}`)
      if (way !== 'throw') t.equal(await said, '', way)
    }
  })

  await behaviour(t, 'every descriptor is given back', async () => {
    await until(() => descriptors() <= before, `${before} descriptors, as at the start`)
  })
})

/** That many clients, each of which has heard its backend. */
async function flowing(port: number, count: number): Promise<Socket[]> {
  const sockets = await Promise.all(Array.from({ length: count }, () => open(port)))
  await Promise.all(
    sockets.map((socket) => {
      socket.write('hello')
      return once(socket, 'data')
    }),
  )
  return sockets
}

/** Resolves when the other side has ended or reset the connection. */
const isOver = (socket: Socket) =>
  new Promise((resolve) => socket.resume().once('end', resolve).once('close', resolve))

/** What `program` is told. The built program is used, as a worker here and a process have no other. */
function settings(backend: object): object {
  return { root: fileURLToPath(new URL('../../dist/', import.meta.url)), backend, spec: SPEC }
}

/** Runs in a worker or in a process: a plane that sends every client to the backend. Says its port. */
async function program(): Promise<void> {
  const { parentPort, workerData } = await import('node:worker_threads')
  const { root, backend, spec } = workerData ?? JSON.parse(process.env.SETTINGS!)
  const { loadAddon } = await import(`${root}plane/native/load.js`)
  const { nativePlane } = await import(`${root}plane/native/plane.js`)
  const { realClock } = await import(`${root}core/clock.js`)
  const plane = nativePlane(loadAddon().addon, { threads: 2, clock: realClock })
  const answer = { dial: { backend: 0, address: backend, timeoutMs: 5_000, note: 0 } }
  const desk = { arrived: () => answer, dialFailed: () => ({ refuse: 'dial-failed' }), ended: () => {} }
  const listening = await plane.listen(spec, desk)
  const port = Number(listening.addresses[0].split(':').at(-1))
  if (parentPort) return parentPort.postMessage(port)
  process.stdout.write(String(port))
  process.stdin.once('data', (way) => {
    process.stdin.destroy()
    if (String(way) === 'exit') process.exit(7)
    if (String(way) === 'throw') throw new Error('a bug')
    void listening.stop('shutdown')
  })
}

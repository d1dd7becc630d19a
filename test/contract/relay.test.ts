// Bytes on every plane: all of them arrive, once and in order, whoever reads slowly, ends early or speaks out of turn.

import { spawn, spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import type { Test } from 'tap'
import type { Plane } from '../../src/plane/plane.ts'
import { pin, readBuffer, stage, unpin } from '../../src/plane/portable/scratch.ts'
import type { Slab } from '../../src/plane/portable/scratch.ts'
import { folder } from '../support/folder.ts'
import { behaviour, dial, ended, serve, to } from '../support/ledger.ts'
import type { Served } from '../support/ledger.ts'
import { PLANES } from '../support/planes.ts'
import { backend, descriptors, drink, open, pour, settled, unixBackend } from '../support/streams.ts'
import { until } from '../support/until.ts'

/** Speaks TCP's urgent data, which Node does not. */
const NO_PERL = spawnSync('perl', ['-MIO::Socket::INET', '-e', '1']).status !== 0

const MEGABYTE = 1 << 20

/** Both ends of one flow. */
interface Pair {
  readonly served: Served
  readonly client: Socket
  readonly backend: Socket
}

/** A backend that sends everything back, the end too. */
const echo = (t: Test) =>
  backend(t, (socket) => {
    socket.on('data', (chunk: Buffer) => socket.write(chunk)).on('end', () => socket.end())
  })

/** A flow that is relayed; nobody reads yet. */
async function pair(t: Test, plane: Plane, spec: Parameters<typeof serve>[2] = {}): Promise<Pair> {
  let accepted: Socket | undefined
  const address = await backend(t, (socket) => (accepted = socket.pause()))
  const served = await serve(plane, to(address), spec)
  const client = (await open(served.port)).pause()
  t.teardown(() => client.destroy())
  await until(() => accepted !== undefined, 'the backend to be connected')
  return { served, client, backend: accepted! }
}

const DIRECTIONS = [
  ['client', 'backend'],
  ['backend', 'client'],
] as const

/** Bytes the plane has read from that side. */
const readFrom = ({ served }: Pair, side: 'client' | 'backend') =>
  side === 'client' ? served.listening.tx(0) : served.listening.rx(0)

for (const { name, skip, make } of PLANES) {
  t.test(`plane ${name}`, { skip }, async (t) => {
    const plane = make()
    const before = descriptors()

    await behaviour(t, 'a reader that stalls stops the writer, whatever is sent', async (t) => {
      const size = 200 << 20
      let reader: Socket | undefined
      const address = await backend(t, (socket) => (reader = socket.pause()))
      const served = await serve(plane, to(address), { backendIdleMs: 60_000 })
      const socket = await open(served.port)
      const memory = process.memoryUsage().rss
      const sent = pour(socket, size)
      await until(() => served.listening.tx(0) > 0)
      await settled(() => served.listening.tx(0))
      t.ok(served.listening.tx(0) < 32 << 20, `read ${served.listening.tx(0)} bytes`)
      t.ok(process.memoryUsage().rss - memory < 128 << 20, 'memory is bounded')
      const got = drink(reader!)
      reader!.on('end', () => reader!.end())
      const [sum, want] = await Promise.all([got, sent])
      t.equal(sum, want)
      t.ok(process.memoryUsage().rss - memory < 128 << 20, 'memory stays bounded')
      socket.resume()
      await ended(served)
      t.match(served.desk.ends[0], { reason: 'client-closed', rx: 0, tx: size })
    })

    await behaviour(t, 'random streams arrive as they were sent, counted to the byte', async (t) => {
      const sums = new Map<string, string>()
      const size = 2 << 20
      const address = await backend(t, (socket) => {
        const sending = pour(socket, size)
        void Promise.all([drink(socket, true), sending]).then(([got, sent]) => sums.set(got, sent))
      })
      const served = await serve(plane, to(address), { report: true })
      const flows = Array.from({ length: 20 }, async (_, i) => {
        const socket = await open(served.port)
        const [sent, got] = await Promise.all([pour(socket, size), drink(socket, i % 2 === 0)])
        return { sent, got }
      })
      const results = await Promise.all(flows)
      await ended(served, 20)
      await until(() => sums.size === 20, 'the last backend to have read all')
      for (const { sent, got } of results) t.equal(sums.get(sent), got)
      for (const end of served.desk.ends) t.match(end, { rx: size, tx: size })
      t.equal(served.listening.rx(0), 20 * size)
      t.equal(served.listening.tx(0), 20 * size)
    })

    await behaviour(t, 'slow readers get their own bytes, however long those are pending', async (t) => {
      const size = 12 << 20 // More than the kernel keeps for one connection.
      const address = await backend(t, (socket) => {
        socket.once('data', (digit: Buffer) => socket.end(Buffer.alloc(size, digit)))
      })
      const served = await serve(plane, to(address))
      const sockets = await Promise.all(Array.from({ length: 8 }, () => open(served.port)))
      sockets.forEach((socket, i) => socket.pause().write(String(i)))
      await until(() => served.listening.rx(0) > 0)
      await settled(() => served.listening.rx(0))
      t.ok(served.listening.rx(0) < 8 * size, 'some are pending')
      const whole = sockets.map(async (socket, i) => {
        const digit = String(i).charCodeAt(0)
        let right = 0
        socket.on(
          'data',
          (chunk: Buffer) => (right += chunk.every((byte) => byte === digit) ? chunk.length : 0),
        )
        socket.resume()
        await once(socket, 'end')
        socket.end()
        return right
      })
      t.same(await Promise.all(whole), Array(8).fill(size))
      await ended(served, 8)
    })

    for (const [from, onto] of DIRECTIONS) {
      await behaviour(
        t,
        `fifty megabytes of a ${from} arrive at a slow ${onto} as they were sent`,
        async (t) => {
          const ends = await pair(t, plane, { clientIdleMs: 60_000, backendIdleMs: 60_000 })
          const size = 50 * MEGABYTE
          const [sent, got] = await Promise.all([pour(ends[from], size), drink(ends[onto], true)])
          t.equal(got, sent)
          ends[from].resume()
          ends[onto].end()
          await ended(ends.served)
          t.match(ends.served.desk.ends[0], {
            reason: `${from}-closed`,
            ...(from === 'client' ? { tx: size, rx: 0 } : { rx: size, tx: 0 }),
          })
        },
      )

      await behaviour(
        t,
        `a ${onto} that ends while it is blocked still gets all of its ${from}`,
        async (t) => {
          const ends = await pair(t, plane)
          const sent = pour(ends[from], 50 * MEGABYTE)
          await until(() => readFrom(ends, from) > 0)
          await settled(() => readFrom(ends, from))
          const heard = drink(ends[from])
          ends[onto].end('bye')
          await heard
          t.equal(await drink(ends[onto], true), await sent)
          await ended(ends.served)
          t.equal(ends.served.desk.ends[0]!.reason, `${onto}-closed`)
        },
      )

      await behaviour(t, `a reset of the ${from} while the ${onto} is blocked is no clean end`, async (t) => {
        const ends = await pair(t, plane)
        void pour(ends[from], 50 * MEGABYTE).catch(() => {})
        await until(() => readFrom(ends, from) > 0)
        await settled(() => readFrom(ends, from))
        ends[from].resetAndDestroy()
        let got = 0
        let broken = false
        ends[onto].on('data', (chunk: Buffer) => (got += chunk.length)).on('error', () => (broken = true))
        ends[onto].resume()
        await ended(ends.served)
        // libuv may take a reset behind unread bytes for an end; who writes then learns the truth.
        await until(() => broken || !ends[onto].write('?'), 'the reset')
        const end = ends.served.desk.ends[0]!
        t.equal(end.reason, `${from}-reset`)
        t.ok(got <= (from === 'client' ? end.tx : end.rx), 'nothing that was not read')
      })

      await behaviour(
        t,
        `the last bytes of a ${from} arrive, though its ${onto} ends before it takes them`,
        async (t) => {
          // A unix socket takes little. What the plane has to hold when it has read the end differs with every size.
          const path = join(folder(t), 'socket')
          const taken: Socket[] = []
          const take = (socket: Socket) => void taken.push(socket.pause())
          const up = from === 'client'
          const where = up ? await unixBackend(t, path, take) : await backend(t, take)
          const served = await serve(plane, to(where), up ? {} : { binds: [{ path }] })
          const door = up ? served.port : { path }
          const clients = await Promise.all(Array.from({ length: 80 }, () => open(door)))
          await until(() => taken.length === 80, 'every backend')
          const [writers, readers] = up ? [clients, taken] : [taken, clients]
          const bodies = writers.map((_, i) => Buffer.alloc(100_000 + i * 4_003, String(i)))
          for (const [i, each] of writers.entries()) each.resume().end(bodies[i]!)
          const read = () => (up ? served.listening.tx(0) : served.listening.rx(0))
          await until(() => read() > 0)
          await settled(read)
          for (const each of readers) each.end()
          await Promise.all(writers.map(async (each) => each.readableEnded || once(each, 'end')))
          const got = await Promise.all(readers.map((each) => drink(each)))
          const want = bodies.map((each) => createHash('md5').update(each).digest('hex'))
          t.same(got.toSorted(), want.toSorted())
          await ended(served, 80)
          t.ok(served.desk.ends.every(({ reason }) => /^(client|backend)-closed$/.test(reason)))
        },
      )
    }

    await behaviour(t, 'both sides may be blocked at once', async (t) => {
      const ends = await pair(t, plane)
      const size = 24 * MEGABYTE
      const sent = Promise.all([pour(ends.client, size), pour(ends.backend, size)])
      await until(() => ends.served.listening.rx(0) > 0 && ends.served.listening.tx(0) > 0)
      await settled(() => ends.served.listening.rx(0) + ends.served.listening.tx(0))
      const got = await Promise.all([drink(ends.backend), drink(ends.client)])
      t.same(got, await sent)
      await ended(ends.served)
      t.match(ends.served.desk.ends[0], { rx: size, tx: size })
    })

    await behaviour(t, 'small messages go to and fro, each whole', async (t) => {
      const address = await echo(t)
      const served = await serve(plane, to(address))
      const talk = async (one: number) => {
        const socket = (await open(served.port)).setNoDelay()
        let total = 0
        for (let i = 0; i < 200; i++) {
          const message = randomBytes(1 + ((i * 7 + one) % 97))
          const pieces: Buffer[] = []
          let got = 0
          socket.write(message)
          total += message.length
          while (got < message.length) {
            const [piece] = (await once(socket, 'data')) as [Buffer]
            pieces.push(piece)
            got += piece.length
          }
          if (!Buffer.concat(pieces).equals(message))
            throw new Error(`message ${i} of ${one} came back changed`)
        }
        socket.destroy()
        return total
      }
      const totals = await Promise.all(Array.from({ length: 10 }, (_, one) => talk(one)))
      const sum = totals.reduce((a, b) => a + b, 0)
      await ended(served, 10)
      t.equal(served.listening.rx(0), sum)
      t.equal(served.listening.tx(0), sum)
    })

    await behaviour(t, 'three hundred flows at once keep their own bytes', async (t) => {
      const address = await echo(t)
      const served = await serve(plane, to(address), { report: true })
      const flows = Array.from({ length: 300 }, async (_, i) => {
        const socket = await open(served.port)
        const [sent, got] = await Promise.all([pour(socket, 1 + i * 997), drink(socket)])
        return sent === got
      })
      t.ok((await Promise.all(flows)).every(Boolean), 'every hash')
      await ended(served, 300)
      const sum = Array.from({ length: 300 }, (_, i) => 1 + i * 997).reduce((a, b) => a + b, 0)
      t.equal(served.listening.rx(0), sum)
      t.equal(served.listening.tx(0), sum)
      t.equal(served.listening.connects(0), 300)
    })

    await behaviour(t, 'what is put ahead, shown first and sent later arrives in that order', async (t) => {
      for (const [aheadBytes, need, later] of [
        [1, 1, 0],
        [16_384, 4_096, MEGABYTE],
        [100, 65_536, 3 * MEGABYTE],
      ] as const) {
        const [ahead, body] = [randomBytes(aheadBytes), randomBytes(need + later)]
        let got = Promise.resolve('')
        const address = await backend(t, (socket) => {
          got = drink(socket)
          socket.on('end', () => socket.end())
        })
        const served = await serve(plane, {
          arrived: () => ({ wait: { atLeast: need, atMost: need, ms: 10_000 } }),
          headed: (_client, bytes) => {
            t.ok(body.subarray(0, need).equals(bytes), 'the first bytes')
            return dial(address, { ahead })
          },
        })
        const client = (await open(served.port)).resume()
        for (let at = 0; at < body.length; at += 60_001) client.write(body.subarray(at, at + 60_001))
        client.end()
        await ended(served)
        t.equal(await got, createHash('md5').update(ahead).update(body).digest('hex'))
        t.match(served.desk.ends[0], { tx: body.length, rx: 0 })
      }
    })

    await behaviour(t, 'urgent bytes do not keep a flow from moving', { skip: NO_PERL }, async (t) => {
      const address = await echo(t)
      const served = await serve(plane, to(address))
      const script = `
        use IO::Socket::INET; use Socket;
        my $peer = IO::Socket::INET->new("${served.at}") or die $!;
        for my $size (1 .. 20, 4_000, 200_000, 3_000_000) {
          my ($before, $after) = ("a" x $size, "b" x $size);
          my $pid = fork();
          if ($pid == 0) {
            for ([$before, 0], ["!", MSG_OOB], [$after, 0]) {
              my ($rest, $flags) = @$_;
              while (length $rest) { my $sent = send($peer, $rest, $flags) or die $!; substr($rest, 0, $sent, "") }
            }
            exit 0;
          }
          my $got = "";
          while (length $got < 2 * $size) { sysread($peer, $got, 65536, length $got) or die "ended: $size" }
          waitpid $pid, 0;
          die "changed: $size" if $got ne $before . $after;
        }
        shutdown $peer, 1;
        die "more came" if sysread $peer, my $rest, 1;`
      const child = spawn('perl', ['-e', script], { stdio: ['ignore', 'ignore', 'pipe'] })
      let said = ''
      child.stderr.on('data', (chunk) => (said += chunk))
      const [status] = await once(child, 'close')
      t.equal(status, 0, said)
      await ended(served)
      t.equal(served.desk.ends[0]!.reason, 'client-closed')
    })

    await behaviour(t, 'what the plane still holds arrives though both sides have ended', async (t) => {
      const ahead = randomBytes(250_000) // More than a unix socket takes.
      let taken: Socket | undefined
      const path = join(folder(t), 'back')
      const address = await unixBackend(t, path, (socket) => (taken = socket.pause().end('bye')))
      const served = await serve(plane, {
        arrived: () => ({ wait: { atLeast: 10, atMost: 100, ms: 10_000 } }),
        headed: () => dial(address, { ahead }),
      })
      const client = await open(served.port)
      client.end('ab')
      t.equal(await text(client), 'bye')
      t.equal(await drink(taken!), createHash('md5').update(ahead).update('ab').digest('hex'))
      await ended(served)
      t.match(served.desk.ends[0], { reason: /^(client|backend)-closed$/, tx: 2, rx: 3 })
    })

    await behaviour(t, 'every descriptor is given back', async () => {
      await until(() => descriptors() <= before, `${before} descriptors, as at the start`)
    })
  })
}

t.test('pending writes share slabs, and have memory of their own when very many are pending', async (t) => {
  const whole = 128 << 10
  const slabs: (Slab | null)[] = []
  const bytes: Uint8Array[] = []
  for (let i = 0; i < 200; i++) {
    readBuffer.fill(i)
    bytes.push(stage(whole))
    slabs.push(pin(whole))
  }
  t.ok(bytes.every((each, i) => each.length === whole && each[0] === i && each[whole - 1] === i))
  t.ok(slabs.includes(null), 'own memory')
  t.equal(new Set(bytes.map(({ buffer }) => buffer)).size - slabs.filter((slab) => !slab).length, 64)
  for (const slab of slabs) if (slab) unpin(slab)
  t.equal(stage(10).buffer.byteLength, 2 * whole, 'and slabs again')
})

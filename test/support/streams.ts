// Peers of a plane under test: backends that serve many clients, one that never answers, and streams with their sums.

import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import type { AddressInfo, ListenOptions, Server, Socket } from 'node:net'
import t from 'tap'
import type { Test } from 'tap'
import type { Address } from '../../src/core/address.ts'
import { until } from './until.ts'

/** A port where nobody listens. */
export async function deadPort(): Promise<Address> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return { host: '127.0.0.1', port }
}

/** A backend of more than one client, on a port of its own; closed at the test's end. */
export async function backend(
  t: Test,
  serveOne: (socket: Socket) => void,
): Promise<{ host: string; port: number }> {
  const server = await taking(t, { host: '127.0.0.1', port: 0 }, serveOne)
  return { host: '127.0.0.1', port: (server.address() as AddressInfo).port }
}

/** The same on a unix socket. */
export async function unixBackend(
  t: Test,
  path: string,
  serveOne: (socket: Socket) => void,
): Promise<Address> {
  await taking(t, { path }, serveOne)
  return { path }
}

async function taking(t: Test, where: ListenOptions, serveOne: (socket: Socket) => void): Promise<Server> {
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    serveOne(socket)
  }).listen(where)
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return server
}

/** A client that has connected to a port or a path, and reads and ends when it is told to. */
export async function open(where: number | Address, host = '127.0.0.1'): Promise<Socket> {
  const socket = connect({
    ...(typeof where === 'number' ? { port: where, host } : where),
    allowHalfOpen: true,
  })
  socket.on('error', () => {})
  await once(socket, 'connect')
  return socket
}

/** True once `value` has been the same for a while: whoever moved it has been stopped. */
export async function settled(value: () => number): Promise<void> {
  let last = NaN
  let same = 0
  await until(() => {
    same = value() === last ? same + 1 : 0
    last = value()
    return same > 20
  }, 'a number that stands still')
}

export function descriptors(): number {
  return readdirSync('/proc/self/fd').length
}

/**
 * A listener whose accept queue is full, so that a dial hangs: its process listens, then never comes back to its
 * event loop.
 */
export async function saturated(): Promise<Address> {
  const script = `require('net').createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, function () {
    require('fs').writeSync(1, String(this.address().port))
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
  })`
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [text] = (await once(child.stdout, 'data')) as [Buffer]
  const port = Number(text)
  const queued = Array.from({ length: 2 }, () => connect({ port, host: '127.0.0.1' }).on('error', () => {}))
  await Promise.all(queued.map((socket) => once(socket, 'connect')))
  t.teardown(() => {
    for (const socket of queued) socket.destroy()
    child.kill('SIGKILL')
  })
  return { host: '127.0.0.1', port }
}

/** Writes `count` bytes one by one, then ends. */
export function drip(socket: Socket, count: number, everyMs: number, end = true): void {
  const timer = setInterval(() => {
    if (count-- > 0) return void socket.write('.')
    clearInterval(timer)
    if (end) socket.end()
  }, everyMs)
  socket.on('close', () => clearInterval(timer))
}

/** Sends random bytes in uneven pieces as they are taken, ends, and gives their hash. */
export async function pour(socket: Socket, size: number): Promise<string> {
  const hash = createHash('md5')
  const source = randomBytes(1 << 20)
  for (let left = size; left > 0;) {
    const at = Math.floor(Math.random() * 1000)
    const length = Math.min(left, 1 + Math.floor(Math.random() * 300_000))
    const piece = source.subarray(at, at + length)
    hash.update(piece)
    left -= piece.length
    if (!socket.write(piece)) await once(socket, 'drain')
  }
  socket.end()
  return hash.digest('hex')
}

/** Reads to the end, with pauses if `slowly`, and gives the hash of all. */
export async function drink(socket: Socket, slowly = false): Promise<string> {
  const hash = createHash('md5')
  socket.on('data', (chunk: Buffer) => {
    hash.update(chunk)
    if (!slowly || Math.random() > 0.1) return
    socket.pause()
    setTimeout(() => socket.resume(), Math.random() * 10)
  })
  socket.resume()
  await once(socket, 'end')
  return hash.digest('hex')
}

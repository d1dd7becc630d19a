// The two ends of a flow in a test's hands: a client that connects, a backend that accepts.

import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import type { Test } from 'tap'
import { until } from './until.ts'

/** One socket: what came in by it, and how it ended. It sends its own end only when told to. */
export class End {
  readonly socket: Socket
  /** Bytes read so far. */
  bytes = 0
  /** The first 64 KiB of them, as text. */
  text = ''
  /** The other side has sent its end. */
  ended = false
  /** Its own address, as the other side sees it; empty until connected. */
  local = ''
  /** The code of the error that broke the connection. */
  fault: string | undefined

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('connect', () => (this.local = `${socket.localAddress}:${socket.localPort}`))
    socket.on('error', (error: NodeJS.ErrnoException) => (this.fault = error.code))
    socket.on('end', () => (this.ended = true))
    socket.on('data', (chunk: Buffer) => {
      this.bytes += chunk.length
      if (this.text.length < 65_536) this.text += chunk.toString('latin1')
    })
  }

  /** Nothing can come any more. */
  get over(): boolean {
    return this.ended || this.socket.destroyed
  }

  /** The connection was broken, not ended. */
  get wasReset(): boolean {
    return this.fault === 'ECONNRESET' || this.fault === 'EPIPE'
  }

  say(text: string): this {
    this.socket.write(text)
    return this
  }

  /** Sends `size` bytes, as fast as the other side takes them; resolves when all are handed over. */
  async pour(size: number): Promise<void> {
    const chunk = Buffer.alloc(65_536, 'x')
    for (let left = size; left > 0; left -= chunk.length) {
      if (this.socket.destroyed) throw new Error(`closed with ${left} bytes left to send`)
      if (!this.socket.write(left < chunk.length ? chunk.subarray(0, left) : chunk)) await this.#drained()
    }
  }

  /** Resolves when `text` has come in; rejects when the connection is over without it. */
  async hears(text: string): Promise<this> {
    await until(() => this.text.includes(text) || this.over, `to hear ${JSON.stringify(text)}`)
    if (!this.text.includes(text))
      throw new Error(`expected ${JSON.stringify(text)}, got ${JSON.stringify(this.text)} and the end`)
    return this
  }

  async isOver(): Promise<this> {
    await until(() => this.over, 'the end of the connection')
    return this
  }

  /** Ends this side and resolves when both have. */
  async leave(): Promise<void> {
    this.socket.resume().end()
    await until(() => this.socket.destroyed, 'the connection to close')
  }

  #drained(): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.socket.off('drain', done).off('close', done)
        resolve()
      }
      this.socket.on('drain', done).on('close', done)
    })
  }
}

/** Where a client goes: a port of 127.0.0.1, or anything `net.connect` knows. */
export type Target = number | { port: number; host?: string; localAddress?: string } | { path: string }

/** Starts to connect; the caller waits for what it expects. */
export function client(t: Test, target: Target): End {
  const where = typeof target === 'number' ? { port: target } : target
  const options = 'path' in where ? where : { host: '127.0.0.1', ...where }
  const end = new End(connect({ ...options, allowHalfOpen: true }))
  end.socket.setNoDelay(true)
  t.teardown(() => end.socket.destroy())
  return end
}

/** Connects and resolves with the name of the backend that greets, which may be followed by more. */
export async function visit(t: Test, target: Target): Promise<{ name: string; end: End }> {
  const end = client(t, target)
  await until(() => end.text.includes('\n') || end.over, 'a greeting or the end')
  return { name: end.text.includes('\n') ? end.text.slice(0, end.text.indexOf('\n')) : '', end }
}

/** The name of the backend that greets a client, which then leaves; empty when it is turned away. */
export async function met(t: Test, target: Target): Promise<string> {
  const { name, end } = await visit(t, target)
  await end.leave()
  return name
}

export interface BackendSettings {
  /** Said to every client, with a line feed. */
  name?: string
  /** Sends everything back, and ends when the client has. */
  echo?: boolean
  host?: string
  port?: number
  path?: string
}

/** A backend: every connection it ever took, in order. */
export class Backend {
  /** As a backend line has it. */
  address = ''
  port = 0
  /** What it greets with. */
  name: string | undefined
  /** Greets this much later. */
  delayMs = 0
  readonly taken: End[] = []
  /** Most connections open at the same moment. */
  most = 0
  readonly #settings: BackendSettings
  #server = createServer()

  constructor(settings: BackendSettings) {
    this.#settings = settings
    this.name = settings.name
  }

  get open(): number {
    return this.taken.filter(({ socket }) => !socket.destroyed).length
  }

  /** The connection number `index`, as soon as it is there. */
  async connection(index = 0): Promise<End> {
    await until(() => this.taken.length > index, `connection ${index} of ${this.address}`)
    return this.taken[index]!
  }

  /** Listens, on the same port as before if there was one. */
  async start(): Promise<void> {
    const { host = '127.0.0.1', path, port = 0 } = this.#settings
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#take(socket))
    this.#server.listen(path ? { path } : { host, port: this.port || port })
    await once(this.#server, 'listening')
    if (path) return void (this.address = `unix:${path}`)
    this.port = (this.#server.address() as AddressInfo).port
    this.address = `${host.includes(':') ? `[${host}]` : host}:${this.port}`
  }

  /** Refuses new connections; those it has stay. */
  async refuse(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve))
    // `close` waits for connections too; the port is free at once.
    await Promise.race([closed, new Promise(setImmediate)])
  }

  async stop(): Promise<void> {
    await this.refuse()
    for (const { socket } of this.taken) socket.destroy()
  }

  #take(socket: Socket): void {
    const end = new End(socket)
    this.taken.push(end)
    this.most = Math.max(this.most, this.open)
    const { echo } = this.#settings
    const greeting = this.name
    if (greeting !== undefined) setTimeout(() => socket.destroyed || end.say(`${greeting}\n`), this.delayMs)
    if (echo) socket.on('data', (chunk: Buffer) => socket.write(chunk))
    // Named and echoing backends are polite; a test ends the others itself.
    if (echo || this.name !== undefined) socket.on('end', () => socket.end())
  }
}

/** Starts a backend on a free port of 127.0.0.1, unless told otherwise; gone again after the test. */
export async function backend(t: Test, settings: BackendSettings = {}): Promise<Backend> {
  const made = new Backend(settings)
  await made.start()
  t.teardown(() => made.stop())
  return made
}

/** A listener whose accept queue is full and stays so: who dials it is never answered. */
export async function deafBackend(t: Test): Promise<{ address: string }> {
  const { Worker } = await import('node:worker_threads')
  const source = `
    const { parentPort } = require('node:worker_threads')
    const server = require('node:net').createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
      parentPort.postMessage(server.address().port)
      // Accepts nobody until the thread is ended: its event loop never turns again.
      setImmediate(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0))
    })`
  const worker = new Worker(source, { eval: true, execArgv: [], env: {} })
  t.teardown(() => worker.terminate())
  const [port] = (await once(worker, 'message')) as [number]
  for (let answered = true; answered;) {
    const socket = connect(port, '127.0.0.1').on('error', () => {})
    t.teardown(() => socket.destroy())
    const silence = new Promise<false>((resolve) => setTimeout(resolve, 250, false))
    answered = await Promise.race([once(socket, 'connect').then(() => true), silence])
  }
  return { address: `127.0.0.1:${port}` }
}

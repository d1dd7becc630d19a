// The examples as operators run them: the file, its REST API, clients and backends that greet.

import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, connect } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { launch } from './launched.ts'
import { until } from './until.ts'

/** What the REST API answered: JSON where it is JSON, else text. */
export interface Answer {
  readonly status: number
  readonly body: ReturnType<typeof JSON.parse>
}

/** A running balancer. */
export interface Spawned {
  /** Resolves when the output holds `text`. */
  says(text: string): Promise<void>
  /** Asks its REST API as the user the examples have. */
  readonly api: (method: string, path: string, body?: unknown) => Promise<Answer>
  /** The port a server of that name was given for a bind on port 0. */
  port(server: string): number
  /** Sends SIGTERM and resolves with the exit status. */
  stop(): Promise<number | string>
}

/**
 * The text of `file` with every key of `changes` replaced by its value. Throws when a key is not in it: the
 * example has changed and its test has not.
 */
export function rewritten(file: URL, changes: Readonly<Record<string, string>>): string {
  let text = readFileSync(file, 'utf8')
  for (const [from, to] of Object.entries(changes)) {
    if (!text.includes(from))
      throw new Error(`${fileURLToPath(file)}: expected ${JSON.stringify(from)} in it`)
    text = text.replaceAll(from, to)
  }
  return text
}

/**
 * Starts `fairlead -c` on a copy of `file` with `changes`, its API on a free port; resolves when everything
 * listens.
 */
export async function spawnFairlead(
  t: Test,
  file: URL,
  changes: Readonly<Record<string, string>>,
  env: NodeJS.ProcessEnv = {},
): Promise<Spawned> {
  const config = rewritten(file, { '127.0.0.1:8888': '127.0.0.1:0', ...changes })
  const launched = launch(t, { config, env })
  await launched.says('REST API on')
  return {
    says: (text) => launched.says(text),
    api: (method, path, body) => askApi(launched.port('REST API'), method, path, body),
    port: (server) => launched.port(`${server}:`),
    stop() {
      launched.signal('SIGTERM')
      return launched.exit()
    },
  }
}

/** A port nobody uses at the moment. */
export async function freePort(): Promise<number> {
  const [port] = await freePorts(1)
  return port!
}

/** `count` ports in a row that nobody uses at the moment; below those that connections out are given. */
export async function freePorts(count: number): Promise<number[]> {
  for (;;) {
    const first = 10_000 + Math.floor(Math.random() * 20_000)
    const ports = Array.from({ length: count }, (_, i) => first + i)
    const tries = await Promise.allSettled(ports.map(open))
    const opened = tries.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []))
    await Promise.all(opened.map((server) => new Promise((resolve) => server.close(resolve))))
    if (opened.length === count) return ports
  }
}

async function open(port: number): Promise<Server> {
  const server = createServer().listen(port)
  await once(server, 'listening')
  return server
}

/** A backend that greets with a line and keeps the connection until its client ends it. */
export interface Greeter {
  readonly port: number
  /** `host:port`, as a backend line has it. */
  readonly address: string
  /** Closes its port; connections stay. */
  refuse(): void
  /** Closes its port and its connections. */
  stop(): Promise<void>
}

/** Starts a backend that says `name`; on `port`, or on a free one. */
export async function greeter(t: Test, name: string, port = 0, host = '127.0.0.1'): Promise<Greeter> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket)).on('error', () => {})
    socket.resume().write(`${name}\n`)
  })
  server.listen(port, host)
  await once(server, 'listening')
  const closed = once(server, 'close')
  const refuse = () => void server.close()
  const stop = async () => {
    refuse()
    for (const socket of sockets) socket.destroy()
    await closed
  }
  t.teardown(stop)
  const own = (server.address() as AddressInfo).port
  return { port: own, address: `${host}:${own}`, refuse, stop }
}

/** Where a client connects to, and from which local address. */
export type Door = { port: number; localAddress?: string } | { path: string }

/** Connects and resolves with the first line it is told and the open socket; no line when it is closed first. */
export async function call(t: Test, door: Door): Promise<{ line: string | undefined; socket: Socket }> {
  const socket = connect('path' in door ? door : { host: '127.0.0.1', ...door })
  t.teardown(() => socket.destroy())
  socket.on('error', () => {})
  let text = ''
  socket.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  await until(() => text.includes('\n') || socket.destroyed, 'a line from the backend')
  return { line: text.includes('\n') ? text.slice(0, text.indexOf('\n')) : undefined, socket }
}

/** The first line a new client is told, after which it leaves; undefined when it is turned away. */
export async function greeting(t: Test, door: Door): Promise<string | undefined> {
  const { line, socket } = await call(t, door)
  if (!socket.destroyed) {
    const closed = once(socket, 'close')
    socket.end()
    await closed
  }
  return line
}

async function askApi(port: number, method: string, path: string, body?: unknown): Promise<Answer> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    method,
    headers: { authorization: `Basic ${btoa('admin:admin')}`, connection: 'close' },
    ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  })
  const text = await response.text()
  return { status: response.status, body: jsonOr(text) }
}

function jsonOr(text: string): Answer['body'] {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

// The API of LXD and Incus: questions in HTTP and events over a WebSocket, each over a connection of its own.

import { once } from 'node:events'
import { request } from 'node:http'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import type { Clock } from '../../core/clock.ts'
import { messageOf } from '../../core/errors.ts'
import { quote } from '../reading/options.ts'

/** The most one answer may hold: some 3,000 containers with their states. */
const MOST_BYTES = 16 * 1024 * 1024

/** An event is a few hundred bytes. */
const MOST_EVENT_BYTES = 1024 * 1024

/** How long it may take until events can be heard of. */
const OPENING_MS = 10_000

/** Servers that ping do so every ten seconds or more often; after this long without one the connection is dead. */
const SILENCE_MS = 45_000

/** The way to a server. */
export interface Door {
  /** How the operator wrote it, for errors. */
  readonly address: string
  /** What the Host header says. */
  readonly host: string
  /** A new connection that is ready to use, and whose other end is whom we trust. Never raises an unheard error. */
  dial(signal: AbortSignal): Promise<Socket>
}

/** The server answered, with an error. */
export class Refused extends Error {
  readonly status: number
  constructor(address: string, status: number, said: string) {
    super(`LXD at ${address} answered ${status}${said && `: ${said}`}`)
    this.status = status
  }
}

/** The way through a unix socket. */
export function unixDoor(address: string, path: string): Door {
  return { address, host: 'lxd', dial: (signal) => ready(connect({ path }), 'connect', signal) }
}

/** Resolves with `socket` once it has said `event`; when it fails or `signal` aborts it is destroyed, and this rejects. */
export async function ready<S extends Socket>(socket: S, event: string, signal: AbortSignal): Promise<S> {
  // Whoever uses it listens too, but there are moments in between.
  socket.on('error', () => {})
  try {
    await once(socket, event, { signal })
    return socket
  } catch (error) {
    socket.destroy()
    throw signal.aborted ? (signal.reason as Error) : error
  }
}

/**
 * What the server says to a GET of `path`, or to a POST when there is a `body`: the metadata of its answer.
 * Throws `Refused`, and an error that says why it could not be asked or understood; the signal's reason when
 * that aborts.
 */
export async function question(
  door: Door,
  path: string,
  signal: AbortSignal,
  body?: object,
): Promise<unknown> {
  signal.throwIfAborted()
  const socket = await dialled(door, signal)
  const abort = () => socket.destroy(signal.reason as Error)
  signal.addEventListener('abort', abort)
  if (signal.aborted) abort()
  try {
    return readReply(door.address, await exchange(socket, door, path, body))
  } catch (error) {
    throw signal.aborted ? (signal.reason as Error) : error
  } finally {
    signal.removeEventListener('abort', abort)
    socket.destroy()
  }
}

async function dialled(door: Door, signal: AbortSignal): Promise<Socket> {
  try {
    return await door.dial(signal)
  } catch (error) {
    if (signal.aborted) throw signal.reason as Error
    throw new Error(`cannot reach LXD at ${door.address}: ${why(error)}`, { cause: error })
  }
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such socket',
  EACCES:
    'permission denied; the user of fairlead must be in the group that owns the socket (lxd, incus-admin)',
  ECONNREFUSED: 'nobody listens there',
}

function why(error: unknown): string {
  return REASONS[(error as NodeJS.ErrnoException).code ?? ''] ?? messageOf(error)
}

interface Reply {
  readonly status: number
  readonly text: string
}

/** One question and its answer, read while it is within bounds. */
function exchange(socket: Socket, { address, host }: Door, path: string, body?: object): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const failed = (error: Error) =>
      reject(new Error(`LXD at ${address} broke off its answer: ${error.message}`, { cause: error }))
    const asking = request({
      createConnection: () => socket,
      path,
      method: body ? 'POST' : 'GET',
      headers: { host, ...(body && { 'content-type': 'application/json' }) },
    })
    asking.on('error', failed)
    asking.on('close', () => failed(new Error('the connection was closed')))
    asking.on('response', (response) => {
      const chunks: Buffer[] = []
      let size = 0
      response.on('error', failed)
      response.on('data', (chunk: Buffer) => {
        size += chunk.length
        if (size <= MOST_BYTES) return void chunks.push(chunk)
        socket.destroy()
        reject(new Error(`LXD at ${address} answered with more than ${MOST_BYTES} bytes`))
      })
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }),
      )
    })
    asking.end(body && JSON.stringify(body))
  })
}

function readReply(address: string, { status, text }: Reply): unknown {
  const reply = readJson(text)
  const ok = status >= 200 && status < 300
  if (!ok)
    throw new Refused(address, status, typeof reply?.error === 'string' ? reply.error.slice(0, 200) : '')
  if (!reply) throw new Error(`LXD at ${address}: expected an answer in JSON, got ${quote(text)}`)
  return reply.metadata
}

/** An object in JSON; undefined when the text is none. */
function readJson(text: string): Record<string, unknown> | undefined {
  try {
    return record(JSON.parse(text))
  } catch {
    return undefined
  }
}

/** `value` if it is an object with keys. */
export function record(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined
}

/**
 * Calls `heard` with what happens, `instance-started` and the like, until the connection ends: a `Connection` of
 * watching.ts. A server that has gone without a word is noticed within a minute.
 */
export async function events(
  door: Door,
  clock: Clock,
  signal: AbortSignal,
  established: () => void,
  heard: (action: string) => void,
): Promise<void> {
  const { WebSocket } = await import('ws')
  const ending = new AbortController()
  const abort = () => ending.abort(signal.reason)
  const endIn = (ms: number, why: string) => clock.after(ms, () => ending.abort(new Error(why)))
  signal.addEventListener('abort', abort)
  if (signal.aborted) abort()
  let cancel = endIn(OPENING_MS, `LXD at ${door.address} opened no events within ${OPENING_MS / 1000} s`)
  let socket: Socket | undefined
  try {
    socket = await dialled(door, ending.signal)
    ending.signal.throwIfAborted()
    const connected = socket
    await new Promise<void>((resolve, reject) => {
      const source = new WebSocket('ws://lxd/1.0/events?type=lifecycle', {
        createConnection: () => connected,
        headers: { host: door.host },
        perMessageDeflate: false,
        maxPayload: MOST_EVENT_BYTES,
      })
      source.on('error', reject)
      source.on('close', () => resolve())
      source.on('unexpected-response', (_, { statusCode }) =>
        reject(new Refused(door.address, statusCode ?? 0, '')),
      )
      source.on('open', () => {
        cancel()
        established()
      })
      // Old servers do not ping; for them TCP keepalive has to do, which nothing of ours is in the way of.
      source.on('ping', () => {
        cancel()
        cancel = endIn(SILENCE_MS, `nothing from LXD at ${door.address} for ${SILENCE_MS / 1000} s`)
      })
      source.on('message', (data) => {
        const { action } = record(readJson((data as Buffer).toString())?.metadata) ?? {}
        if (typeof action === 'string') heard(action)
      })
      ending.signal.addEventListener('abort', () => reject(ending.signal.reason as Error))
    })
  } finally {
    cancel()
    signal.removeEventListener('abort', abort)
    socket?.destroy()
  }
}

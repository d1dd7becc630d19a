// A conversation with a backend: what is sent and what must come back, step by step.

import { createSocket } from 'node:dgram'
import type { Socket } from 'node:net'
import { isUnix } from '../core/address.ts'
import type { Address } from '../core/address.ts'
import { healthy } from './check.ts'
import type { Check } from './check.ts'
import { anyEndpoint, dial } from './dial.ts'
import { headerOf } from './where.ts'
import type { Where } from './where.ts'

/** The most of an answer that a step may look at, in bytes. */
export const LONGEST = 65_536

/** The most that is read in a whole conversation, however often a step goes on. */
const MOST_READ = 4 * LONGEST

/** How long a backend has to close first when it was said goodbye. */
const PARTING_MS = 200

/**
 * A conversation that ends with `send`, even of nothing, gives the backend a moment to read that and to close
 * first: no server is left with a reset to log. After any other it is closed at once.
 */
export type Step = { readonly send: Uint8Array } | { readonly expect: Expect }

/**
 * Judges what has come since the last `send` and was not used by the steps between: undefined to wait for more.
 * Throws when it is wrong, with why. `over` says that there will be no more: the backend closed, or this is all
 * that may be looked at.
 */
export type Expect = (came: Buffer, over: 'closed' | 'full' | undefined) => Heard | undefined

/** What a step was content with. */
export interface Heard {
  /** So many of the bytes are done with. */
  readonly used: number
  /** In words, for the reason. */
  readonly said: string
  /** To be sent at once. */
  readonly reply?: Uint8Array
  /** The same step goes on with what comes next. */
  readonly again?: boolean
}

const NOTHING = Buffer.alloc(0)

/** Ends a conversation politely where the protocol has no word for it. */
export const GOODBYE: Step = { send: NOTHING }

/** A check that is one conversation over TCP, or a unix socket. */
export function conversing(where: Where, steps: readonly Step[]): Check {
  const ahead = headerOf(where)
  return {
    run: (target, signal) =>
      anyEndpoint(target, signal, async (endpoint, signal) =>
        healthy(await converse(dial(endpoint, signal, ahead), steps)),
      ),
  }
}

/**
 * Goes through `steps` once the socket is connected (a TLS socket: once it is secure) and resolves with what was
 * said last. Rejects with why a step was not content, or with the socket's error. The socket is closed then.
 */
export async function converse(socket: Socket, steps: readonly Step[]): Promise<string> {
  const last = steps.at(-1)
  const farewell = last && 'send' in last ? last.send : undefined
  const before = farewell ? steps.slice(0, -1) : steps
  try {
    const said = await new Promise<string>((resolve, reject) => {
      if (socket.destroyed) return reject(socket.errored ?? new Error('closed'))
      const talk = new Conversation(before, (bytes) => socket.write(bytes), resolve, reject)
      socket.on('error', reject)
      if (socket.connecting) socket.once('connect', () => talk.begin())
      else talk.begin()
      socket.on('data', (chunk: Buffer) => talk.take(chunk))
      socket.once('end', () => talk.end())
      socket.once('close', () => reject(new Error('closed')))
    })
    if (farewell && !socket.readableEnded) await part(socket, farewell)
    return said
  } finally {
    socket.destroy()
  }
}

/** Resolves when the backend has closed, has had its time, or goes on and on. */
function part(socket: Socket, farewell: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    const late = setTimeout(resolve, PARTING_MS)
    let drained = 0
    socket.on('data', (chunk: Buffer) => (drained += chunk.length) > LONGEST && resolve())
    socket.once('close', () => {
      clearTimeout(late)
      resolve()
    })
    socket.end(farewell)
  })
}

/** The same by datagrams, which are put together as if they were a stream. */
export async function converseByDatagrams(
  endpoint: Address,
  steps: readonly Step[],
  signal: AbortSignal,
): Promise<string> {
  if (isUnix(endpoint)) throw new Error('a unix socket cannot be checked over udp')
  signal.throwIfAborted()
  const socket = createSocket({ type: endpoint.host.includes(':') ? 'udp6' : 'udp4' })
  const closing = new AbortController()
  return new Promise<string>((resolve, reject) => {
    const abort = () => reject(signal.reason as Error)
    signal.addEventListener('abort', abort, { once: true, signal: closing.signal })
    const failed = (error: Error | null) => error && reject(error)
    const talk = new Conversation(steps, (bytes) => socket.send(bytes, failed), resolve, reject)
    socket.on('error', reject)
    socket.on('message', (message) => talk.take(message))
    // Connected, so that only the backend is heard and its refusal arrives.
    socket.once('connect', () => talk.begin())
    socket.connect(endpoint.port, endpoint.host)
  }).finally(() => {
    closing.abort()
    socket.close()
  })
}

/** Where in the steps it is, and what has come for the next; knows nothing of sockets. */
class Conversation {
  readonly #steps: readonly Step[]
  readonly #send: (bytes: Uint8Array) => void
  readonly #done: (said: string) => void
  readonly #failed: (error: unknown) => void
  #at = 0
  #came: Buffer = NOTHING
  #read = 0
  #said = ''
  #settled = false

  constructor(
    steps: readonly Step[],
    send: (bytes: Uint8Array) => void,
    done: (said: string) => void,
    failed: (error: unknown) => void,
  ) {
    this.#steps = steps
    this.#send = send
    this.#done = done
    this.#failed = failed
  }

  begin(): void {
    this.#proceed(undefined)
  }

  take(chunk: Buffer): void {
    if (this.#settled) return
    this.#read += chunk.length
    this.#came = this.#came.length > 0 ? Buffer.concat([this.#came, chunk]) : chunk
    const full = this.#came.length >= LONGEST || this.#read > MOST_READ
    this.#proceed(full ? 'full' : undefined)
  }

  end(): void {
    this.#proceed('closed')
  }

  #proceed(over: 'closed' | 'full' | undefined): void {
    if (this.#settled) return
    try {
      while (this.#at < this.#steps.length) if (!this.#step(this.#steps[this.#at]!, over)) return
      this.#done(this.#said)
    } catch (error) {
      this.#failed(error)
    }
    this.#settled = true
    this.#came = NOTHING
  }

  /** False when the step waits for more. */
  #step(step: Step, over: 'closed' | 'full' | undefined): boolean {
    if ('send' in step) {
      this.#came = NOTHING
      this.#send(step.send)
      this.#at++
      return true
    }
    const heard = step.expect(this.#came, over)
    if (!heard) {
      if (over) throw new Error(unfinished(this.#came, over))
      return false
    }
    this.#said = heard.said
    this.#came = this.#came.subarray(heard.used)
    if (heard.reply) this.#send(heard.reply)
    if (!heard.again) this.#at++
    return true
  }
}

function unfinished(came: Buffer, over: 'closed' | 'full'): string {
  if (over === 'full') return `answered ${shown(came)} and too much more`
  return came.length > 0 ? `closed after it answered ${shown(came)}` : 'closed without an answer'
}

/** The beginning of an answer, quoted, a character a byte. */
export function shown(answer: Buffer): string {
  const text = answer.subarray(0, 64).toString('latin1')
  return JSON.stringify(answer.length > 64 ? text + '…' : text)
}

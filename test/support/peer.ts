// A TCP or unix peer that follows a script, after haproxy's tcploop:
//   await peer('accept', 'read 4', 'write "PONG"', 'shutdown', 'expect eof')

import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { parseBind } from '../../src/core/address.ts'
import type { Address } from '../../src/core/address.ts'

export interface Peer {
  /** Where an accepting peer listens, or where a connecting one went. */
  readonly address: Address
  /** Everything `read` so far. */
  readonly received: string
  /** Settles with the script: rejects when a step fails. */
  readonly done: Promise<void>
  /** Lets a script go on that has come to `hold`. */
  go(): void
  /** Closes whatever is still open. */
  close(): void
}

/**
 * Runs a script, one step a text; resolves when an accepting peer listens or a connecting one starts. At its end
 * the peer sends no more and reads the rest.
 *
 *   accept [unix:/path]     listen on 127.0.0.1 (or the path) and take one client
 *   connect HOST:PORT       or unix:/path
 *   read N                  exactly N bytes
 *   write "TEXT"            as JSON reads it
 *   shutdown                send no more
 *   expect eof              nothing more comes, and the end does
 *   expect reset            the connection is reset; bytes before that do not matter
 *   reset · close           at once
 *   hold                    until `go()`
 */
export async function peer(...script: string[]): Promise<Peer> {
  const actor = new Actor()
  await actor.prepare(script[0]!)
  actor.run(script)
  return actor
}

class Actor implements Peer {
  address!: Address
  received = ''
  done!: Promise<void>
  #server: Server | undefined
  #socket!: Socket
  #failure: NodeJS.ErrnoException | undefined
  #ended = false
  #permits = 0
  #wake = () => {}

  async prepare(first: string): Promise<void> {
    const [verb, where] = first.split(' ')
    if (verb === 'connect') return void (this.address = parseBind(where!)![0]!)
    this.#server = createServer({ allowHalfOpen: true, pauseOnConnect: true })
    const unix = where?.replace('unix:', '')
    this.#server.listen(unix ? { path: unix } : { host: '127.0.0.1', port: 0 })
    await once(this.#server, 'listening')
    this.address = unix
      ? { path: unix }
      : { host: '127.0.0.1', port: (this.#server.address() as AddressInfo).port }
  }

  run(script: string[]): void {
    this.done = this.#play(script)
    this.done.catch(() => {}) // Told to whoever awaits it.
  }

  go(): void {
    this.#permits++
    this.#wake()
  }

  close(): void {
    this.#server?.close()
    this.#socket?.destroy()
  }

  async #play(script: string[]): Promise<void> {
    for (const [i, step] of script.entries()) {
      try {
        await this.#step(step)
      } catch (error) {
        this.close()
        throw new Error(`step ${i + 1} (${step}): ${(error as Error).message}`, { cause: error })
      }
    }
    // Nothing is left open by a script that does not say how it ends.
    this.#socket.end().resume()
  }

  #step(step: string): Promise<void> | void {
    const space = step.indexOf(' ')
    const verb = space < 0 ? step : step.slice(0, space)
    const rest = step.slice(verb.length + 1)
    if (verb === 'accept') return this.#accept()
    if (verb === 'connect') return this.#connect()
    if (verb === 'read') return this.#read(Number(rest))
    if (verb === 'write') return void this.#socket.write(JSON.parse(rest) as string)
    if (verb === 'shutdown') return void this.#socket.end()
    if (verb === 'expect') return rest === 'eof' ? this.#expectEof() : this.#expectReset()
    if (verb === 'reset') return void this.#socket.resetAndDestroy()
    if (verb === 'close') return this.close()
    if (verb === 'hold') return this.#hold()
    throw new Error('no such step')
  }

  async #accept(): Promise<void> {
    const [socket] = (await once(this.#server!, 'connection')) as [Socket]
    this.#server!.close()
    this.#take(socket)
  }

  async #connect(): Promise<void> {
    const options = 'path' in this.address ? this.address : { ...this.address }
    this.#take(connect({ ...options, allowHalfOpen: true }))
    if (this.#socket.connecting) await this.#event(() => !this.#socket.connecting)
  }

  #take(socket: Socket): void {
    this.#socket = socket
    socket.on('error', (error) => (this.#failure = error))
    socket.on('end', () => (this.#ended = true))
    for (const event of ['readable', 'end', 'error', 'close', 'connect']) socket.on(event, () => this.#wake())
  }

  async #read(count: number): Promise<void> {
    let chunk: Buffer | null = null
    await this.#event(() => (chunk = this.#socket.read(count) as Buffer | null) !== null || this.#ended)
    this.received += (chunk as Buffer | null)?.toString('latin1') ?? ''
    const got = (chunk as Buffer | null)?.length ?? 0
    if (got !== count) throw new Error(`expected ${count} bytes, got ${got}`)
  }

  async #expectEof(): Promise<void> {
    let extra: Buffer | null = null
    await this.#event(() => (extra = this.#socket.read() as Buffer | null) !== null || this.#ended)
    if (extra) throw new Error(`expected the end, got ${String(extra)}`)
  }

  async #expectReset(): Promise<void> {
    await this.#until(() => {
      this.#socket.read()
      return this.#failure !== undefined || this.#ended
    })
    const { code } = this.#failure ?? {}
    if (code !== 'ECONNRESET' && code !== 'EPIPE')
      throw new Error(`expected a reset, got ${code ?? 'the end'}`)
  }

  async #hold(): Promise<void> {
    await this.#until(() => this.#permits > 0)
    this.#permits--
  }

  /** Waits for `condition`; a failed or closed socket fails the step. */
  async #event(condition: () => boolean): Promise<void> {
    await this.#until(() => this.#failure !== undefined || condition() || this.#socket.destroyed)
    if (this.#failure) throw this.#failure
  }

  async #until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => (this.#wake = resolve))
  }
}

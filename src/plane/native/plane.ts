// The plane of threads in C: here it is started, heard and told.
//
//      thread ══ up ══► hear ─► listening ─► desk
//      thread ◄═ down ══ tell ◄─────┘

import { unlink } from 'node:fs/promises'
import { getSystemErrorName } from 'node:util'
import { addressText, isUnix } from '../../core/address.ts'
import type { Address } from '../../core/address.ts'
import { Bursts } from '../../core/burst.ts'
import type { Clock } from '../../core/clock.ts'
import { descriptorCeiling } from '../../core/descriptors.ts'
import { UnsupportedError } from '../../core/errors.ts'
import { logger } from '../../core/log.ts'
import { slices } from '../../core/slices.ts'
import { openBind } from '../bind.ts'
import { keepAliveSeconds } from '../keepalive.ts'
import type { DatagramSpec, Desk, Listening, ListenSpec, Plane, SocketOptions } from '../plane.ts'
import type { Addon, Handle, OpenOptions, Spec } from './addon.ts'
import { whereabouts } from './address.ts'
import { MOST_OPTION, MOST_WORD, wholeMs } from './limits.ts'
import { NativeListening } from './listening.ts'
import type { Opened } from './listening.ts'
import { REASONS, SAYS, TOLD, TROUBLE, TROUBLED, WHO } from './records.ts'
import { Inbox, Memory, Outbox, RING_BYTES } from './ring.ts'

export interface NativeOptions {
  /** 1 to 64. */
  readonly threads: number
  readonly clock: Clock
}

/** A plane over the addon, its threads started. Throws `UnsupportedError` where they cannot be. */
export function nativePlane(addon: Addon, options: NativeOptions): Plane {
  return new NativePlane(addon, options)
}

/** Reports, and questions, heard before others on the main thread have their turn. */
const HEARD_AT_ONCE = 256
/** What is said and wants no answer. */
const REPORTS = (1 << SAYS.CONNECTED) | (1 << SAYS.FIRST_BYTE) | (1 << SAYS.GLIMPSED) | (1 << SAYS.ENDED)
/** The memory begins with a word that says whether we have been woken. */
const SIGNALLED = 0
const RINGS = 64

export class NativePlane implements Plane {
  readonly name = 'native'
  readonly threads: number
  readonly #addon: Addon
  readonly #handle: Handle
  readonly #memory: Memory
  readonly #inboxes: Inbox[] = []
  readonly #outboxes: Outbox[] = []
  readonly #listenings = new Map<number, NativeListening>()
  readonly #bursts: Bursts
  #first = 0
  #hearing = false
  #retrying = false

  constructor(addon: Addon, { threads, clock }: NativeOptions) {
    if (!Object.entries(addon.reasons).every(([name, number]) => REASONS[number] === name))
      throw new UnsupportedError('its reasons are of another version')
    this.threads = threads
    this.#addon = addon
    this.#memory = new Memory(RINGS + 2 * threads * RING_BYTES)
    for (let i = 0; i < threads; i++) {
      const up = RINGS + 2 * i * RING_BYTES
      this.#inboxes.push(new Inbox(this.#memory, up, REPORTS))
      this.#outboxes.push(new Outbox(this.#memory, up + RING_BYTES))
    }
    this.#bursts = new Bursts((message) => logger('plane').error(message), clock)
    // The descriptor limit may be Infinity, which C has no number for.
    const ceiling = Math.min(descriptorCeiling(), 2 ** 31 - 1)
    try {
      this.#handle = addon.start(threads, this.#memory.u8, RING_BYTES, ceiling, () => this.#hear())
    } catch (error) {
      throw new UnsupportedError(`its threads cannot be started: ${(error as Error).message}`)
    }
  }

  async listen(spec: ListenSpec, desk: Desk): Promise<Listening> {
    this.#refuseForbidden(spec)
    const opened: Opened[] = []
    const slice = slices()
    try {
      for (const bind of spec.binds) {
        opened.push(await this.#open(bind, spec))
        await slice()
      }
      return this.#welcome(spec, desk, opened)
    } catch (error) {
      for (const { fds, bind } of opened) {
        for (const fd of fds) this.#addon.close(fd)
        if (isUnix(bind)) await unlink(bind.path).catch(() => {}) // Gone is gone.
      }
      throw error
    }
  }

  /** Without the right to it every dial would fail: better that the server does not start. */
  #refuseForbidden({ sockets, datagrams }: ListenSpec): void {
    if (!sockets) return
    const refused = this.#addon.probe({ mark: sockets.mark, transparent: Number(sockets.transparent) })
    if (!refused) return
    const key = `${datagrams ? 'udp' : 'tcp'}.${refused}`
    throw new UnsupportedError(`${key} takes CAP_NET_ADMIN, which this process does not have`)
  }

  /** Ends threads and flows without a word; the plane is of no use then. */
  stop(): void {
    this.#addon.stop(this.#handle)
  }

  /**
   * The threads take clients from now on, bind after bind; the desk is asked about them in a later turn of the event
   * loop.
   */
  #welcome(spec: ListenSpec, desk: Desk, opened: Opened[]): NativeListening {
    const { threads } = this
    const id = this.#addon.listening(this.#handle, {
      clientIdleMs: wholeMs(spec.clientIdleMs),
      backendIdleMs: wholeMs(spec.backendIdleMs),
      halfCloseMs: wholeMs(spec.halfCloseMs),
      undecidedMs: wholeMs(spec.undecidedMs),
      keepAliveSeconds: keepAliveSeconds(spec.keepAliveMs),
      report: Number(spec.report),
      measure: Number(spec.measure ?? false),
      ...dialOptions(spec.sockets),
      ...sessionOptions(spec.datagrams, threads),
    })
    const listening = new NativeListening(
      id,
      { spec, desk, opened, outboxes: this.#outboxes, told: this.#tellBinds(id, opened) },
      {
        publish: () => this.#publish(),
        drops: (sums) => this.#addon.drops(this.#handle, id, sums),
        dropped: (fd) => this.#addon.dropped(fd),
        limitSessions: (most) =>
          this.#addon.limitSessions(this.#handle, id, sessionsOfThread(most, this.threads)),
        giveRows: (thread, block, counters) => this.#addon.rows(this.#handle, id, thread, block, counters),
        forget: () => {
          this.#listenings.delete(id)
          this.#addon.forget(this.#handle, id)
        },
      },
    )
    this.#listenings.set(id, listening)
    return listening
  }

  /** In slices, as there may be very many: clients of the last ones wait in the queues of the kernel. */
  async #tellBinds(id: number, opened: readonly Opened[]): Promise<void> {
    const slice = slices()
    for (const [bind, { bind: where, fds }] of opened.entries()) {
      // A unix socket is one, which all threads take clients from: each by a descriptor of its own, to close.
      for (const [thread, outbox] of this.#outboxes.entries())
        outbox.tell(TOLD.LISTEN, 16, ({ i32 }, at) => {
          i32[at >> 2] = id
          i32[(at >> 2) + 1] = bind
          i32[(at >> 2) + 2] = fds[thread]!
          i32[(at >> 2) + 3] = Number(isUnix(where))
        })
      const others = slice()
      if (!others) continue
      this.#publish()
      await others
    }
    this.#publish()
  }

  async #open(bind: Address, spec: ListenSpec): Promise<Opened> {
    const options = {
      backlog: spec.backlog,
      keepAliveSeconds: keepAliveSeconds(spec.keepAliveMs),
      ...listenOptions(spec.sockets),
      ...datagramOptions(spec.datagrams),
    }
    if (spec.datagrams && isUnix(bind)) throw new UnsupportedError('a unix socket takes no datagrams')
    return openBind(bind, async (where) => {
      const { fds, port } = this.#openSockets(where, this.threads, options)
      return { bind, fds, text: addressText(isUnix(where) ? where : { host: where.host, port }) }
    })
  }

  #openSockets(where: Address, count: number, options: OpenOptions): { fds: number[]; port: number } {
    try {
      return this.#addon.open(whereabouts(where), count, options)
    } catch (error) {
      const { errno } = error as NodeJS.ErrnoException
      throw errno === undefined ? error : Object.assign(error as Error, { code: getSystemErrorName(errno) })
    }
  }

  /** Hears what the threads have said, a bounded number of records in a turn. */
  #hear(): void {
    let reports = HEARD_AT_ONCE
    let room = HEARD_AT_ONCE
    this.#hearing = true
    do {
      Atomics.store(this.#memory.i32, SIGNALLED, 1)
      // Whoever has left on one thread makes room for who comes on another, though that one be heard first: all that
      // was reported before a question was asked is heard before it.
      for (const inbox of this.#inboxes) inbox.mark()
      for (let i = 0; i < this.threads; i++) reports -= this.#hearReports(this.#turn(i), reports)
      for (let i = 0; i < this.threads; i++) room -= this.#hearThread(this.#turn(i), room)
      this.#hearing = false
      this.#publish()
      this.#first = (this.#first + 1) % this.threads
      if (room <= 0 || reports <= 0) return void setImmediate(() => this.#hear())
      // From here on a thread wakes us; what it has said before that is heard now.
      Atomics.store(this.#memory.i32, SIGNALLED, 0)
      this.#hearing = true
    } while (this.#inboxes.some((inbox) => inbox.waiting))
    this.#hearing = false
  }

  #turn(i: number): number {
    return (this.#first + i) % this.threads
  }

  #hearReports(thread: number, room: number): number {
    const inbox = this.#inboxes[thread]!
    let heard = 0
    for (let at; heard < room && (at = inbox.report()) >= 0; heard++) this.#hearRecord(thread, inbox.kind, at)
    return heard
  }

  #hearThread(thread: number, room: number): number {
    const inbox = this.#inboxes[thread]!
    let heard = 0
    for (let at; heard < room && (at = inbox.next()) >= 0; heard++) this.#hearRecord(thread, inbox.kind, at)
    inbox.release()
    return heard
  }

  #hearRecord(thread: number, kind: number, at: number): void {
    if (kind === SAYS.TROUBLE) return this.#complain(thread, at)
    this.#listenings.get(this.#memory.i32[(at + WHO.LISTENING) >> 2]!)?.hear(thread, kind, at)
  }

  #publish(): void {
    if (this.#hearing) return // All at once, when the batch has been heard.
    let late = 0
    for (const [thread, outbox] of this.#outboxes.entries()) {
      if (outbox.publish()) this.#addon.rouse(this.#handle, thread)
      late += outbox.late
    }
    if (late > 0) this.#retry()
  }

  /** A thread has to read before it can be told more. */
  #retry(): void {
    if (this.#retrying) return
    this.#retrying = true
    setTimeout(() => {
      this.#retrying = false
      this.#publish()
    }, 1)
  }

  #complain(thread: number, at: number): void {
    const { i32 } = this.#memory
    const problem = getSystemErrorName(-i32[(at + TROUBLED.ERROR) >> 2]!)
    if (i32[(at + TROUBLED.WHAT) >> 2] === TROUBLE.LOOP)
      return logger('plane').error(`thread ${thread} failed: ${problem}; it has ended its flows and goes on`)
    const listening = this.#listenings.get(i32[(at + TROUBLED.LISTENING) >> 2]!)
    const text = listening?.addresses[i32[(at + TROUBLED.BIND) >> 2]!] ?? 'a listener that is closing'
    if (i32[(at + TROUBLED.WHAT) >> 2] === TROUBLE.LISTEN)
      return logger('plane').error(`${text}: thread ${thread} cannot take its clients: ${problem}`)
    this.#bursts.say(problem, () => `${text}: a client could not be accepted: ${problem}`)
  }
}

/** Options of a socket that listens. */
function listenOptions(sockets: SocketOptions | undefined): Partial<OpenOptions> {
  if (!sockets) return {}
  return {
    userTimeoutMs: wholeMs(sockets.userTimeoutMs, MOST_OPTION),
    deferAcceptSeconds: Math.min(Math.ceil(sockets.deferAcceptMs / 1000), MOST_OPTION),
    fastOpen: Math.min(sockets.fastOpen, MOST_OPTION),
    freebind: Number(sockets.freebind),
    transparent: Number(sockets.transparent),
  }
}

function datagramOptions(datagrams: DatagramSpec | undefined): Partial<OpenOptions> {
  if (!datagrams) return {}
  const receiveBuffer = Math.min(datagrams.receiveBuffer, MOST_OPTION)
  return { datagrams: 1, receiveBuffer, byAddress: Number(datagrams.sessionKey === 'ip') }
}

/** Each thread has its part of the sessions; 0 is without limit. */
function sessionsOfThread(most: number, threads: number): number {
  return Math.min(Math.ceil((most || Infinity) / threads), MOST_WORD)
}

function sessionOptions(datagrams: DatagramSpec | undefined, threads: number): Partial<Spec> {
  if (!datagrams) return {}
  const { access } = datagrams
  return {
    datagrams: 1,
    byIp: Number(datagrams.sessionKey === 'ip'),
    maxRequests: Math.min(datagrams.maxRequests, MOST_WORD),
    maxResponses: Math.min(datagrams.maxResponses, MOST_WORD),
    maxSessions: sessionsOfThread(datagrams.maxSessions, threads),
    tellUnreachable: Number(datagrams.tellUnreachable),
    glimpses: datagrams.glimpses,
    access: access && {
      ipv4: access.ipv4.words,
      ipv4Allows: Number(access.ipv4.firstAllows),
      ipv6: access.ipv6.words,
      ipv6Allows: Number(access.ipv6.firstAllows),
    },
  }
}

/** Options of the sockets of backends. */
function dialOptions(sockets: SocketOptions | undefined): Partial<Spec> {
  if (!sockets) return {}
  return {
    userTimeoutMs: wholeMs(sockets.userTimeoutMs, MOST_OPTION),
    mark: sockets.mark,
    transparent: Number(sockets.transparent),
    source: sockets.source === '' ? undefined : whereabouts({ host: sockets.source, port: 0 }),
  }
}

// One server: a listener, its backends, and everything between them, wired.
//
//      source ─► pool.update ─► discovered ─► names ─► locate ─┐
//                                          └► monitor ─► mark ─┴─► electable ─► admission ◄─ plane

import type { ServerConfig } from '../config/read.ts'
import type { ServerSettings } from '../config/server.ts'
import { isUnix } from '../core/address.ts'
import type { Address } from '../core/address.ts'
import type { Found } from '../core/backend.ts'
import { pause } from '../core/clock.ts'
import type { Cancel, Clock } from '../core/clock.ts'
import { descriptorCeiling } from '../core/descriptors.ts'
import { BindError, UnsupportedError } from '../core/errors.ts'
import { logger, prefixed } from '../core/log.ts'
import type { Logger } from '../core/log.ts'
import type { Ending } from '../core/reasons.ts'
import { somaxconn } from '../core/somaxconn.ts'
import type { Listed } from '../discovery/roster.ts'
import type { Sources, SourceStatus, Subscription } from '../discovery/sources.ts'
import type { Names } from '../dns/names.ts'
import type { Gate } from '../health/gate.ts'
import type { LastCheck } from '../health/monitor.ts'
import type { Planes } from '../plane/choose.ts'
import { NO_DROPS } from '../plane/plane.ts'
import type { DatagramSpec, Drops, Listening, ListenSpec, Plane, SocketOptions } from '../plane/plane.ts'
import type { Backend } from '../pool/backend.ts'
import { Pool } from '../pool/pool.ts'
import type { Change } from '../pool/pool.ts'
import type { AccessLog } from './accesslog.ts'
import { Admission } from './admission.ts'
import { buildAccess, buildChooser, buildDatagrams, buildQuic, buildSockets } from './build.ts'
import { priorityWarning, refuseUnsupported, transportOf } from './build.ts'
import type { Chooser } from './build.ts'
import { Care } from './care.ts'
import type { Outliers } from './outliers.ts'
import { Places } from './places.ts'
import { Room } from './room.ts'
import type { SessionBudget } from './sessionbudget.ts'
import { Totals } from './totals.ts'

/** What all servers of a process share. */
export interface ServerContext {
  readonly planes: Planes
  readonly names: Names
  readonly sources: Sources
  readonly gate: Gate
  readonly sessions: SessionBudget
  readonly clock: Clock
  readonly accessLog: AccessLog | undefined
}

/** A server listens at the latest after this long, whether discovery has answered or not. */
const FIRST_ANSWER_MS = 500
const DAY_MS = 86_400_000
/** A dial with `backend_connection_timeout` unset. */
const DIAL_MS = 5_000
/** A flow nobody decides about. */
const UNDECIDED_MS = 10_000
/** Sessions of datagrams have no end of their own that a server could wait for. */
const DATAGRAM_GRACE_MS = 1_000

export class Server {
  readonly name: string
  readonly config: ServerConfig
  readonly settings: ServerSettings
  readonly pool: Pool
  readonly room: Room
  readonly totals = new Totals()
  readonly #context: ServerContext
  readonly #plane: Plane
  readonly #sockets: SocketOptions
  readonly #datagrams: DatagramSpec | undefined
  readonly #log: Logger
  readonly #chooser: Chooser
  readonly #admission: Admission
  readonly #care: Care
  readonly #places: Places
  readonly #stopping = new AbortController()
  #subscription: Subscription | undefined
  #listening: Listening | undefined
  #ticker: Cancel | undefined
  /** Sessions it may have now, and what gives them back to other servers. */
  #mostSessions: number
  #unshare: Cancel | undefined
  #ready: () => void = () => {}
  #emptied: () => void = () => {}
  #updated = false
  #warned = false

  /** Builds everything and starts nothing. Throws `UnsupportedError` for what this release or machine cannot do. */
  constructor(name: string, config: ServerConfig, context: ServerContext) {
    const { settings } = config
    refuseUnsupported(name, settings)
    this.name = name
    this.config = config
    this.settings = settings
    this.#context = context
    this.#plane = context.planes.of(name, settings.plane)
    this.#sockets = buildSockets(name, settings, this.#plane.name)
    this.#log = prefixed(logger('server'), `${name}: `)
    this.#chooser = buildChooser(settings, context.clock)
    const { balancer, kind, hashKey } = this.#chooser
    const { clock } = context
    this.#care = new Care(name, settings, context, this.#log, (backend) => this.#lose(backend))
    this.#places = new Places(context.names, (backend, endpoints) => this.#located(backend, endpoints))
    this.pool = new Pool(
      {
        balancer,
        weighted: kind.weighted,
        random: () => clock.random(),
        initiallyHealthy: this.#care.initiallyHealthy,
        panicThreshold: settings.panic_threshold,
      },
      {
        discovered: (backend) => this.#discovered(backend),
        undiscovered: (backend) => this.#undiscovered(backend),
        room: () => this.#admission.serve(),
        panicked: (panic) => this.#tellPanic(panic),
      },
    )
    this.#care.attach(this.pool)
    this.room = new Room(
      {
        maxConnections: settings.max_connections,
        maxPerClient: settings.max_connections_per_client,
        ratePerClient: settings.client_connection_rate,
      },
      clock,
    )
    this.#mostSessions = settings.udp?.max_sessions ?? 0
    const quic = buildQuic(settings, this.#chooser, Math.min(this.#mostSessions, context.sessions.most))
    const access = buildAccess(settings)
    this.#datagrams = buildDatagrams(settings, access, quic)
    const fleeting = this.#datagrams?.maxRequests === 1
    this.#admission = new Admission({
      pool: this.pool,
      room: this.room,
      totals: this.totals,
      balancer,
      hashKey,
      access,
      dialTimeoutMs: settings.backend_connection_timeout ?? DIAL_MS,
      redispatch: settings.redispatch,
      queueMs: settings.queue_timeout,
      descriptorCeiling: descriptorCeiling(),
      datagrams: this.#datagrams && { fleeting, endLost: settings.on_backend_loss === 'close', quic },
      outliers: this.#care.outliers,
      clock,
      log: this.#log,
      onEnd: (end, backend) => {
        const datagrams = this.#datagrams !== undefined
        context.accessLog?.(end, { server: name, balance: settings.balance, backend, datagrams })
        if (this.#listening?.flows === 0) this.#emptied()
      },
    })
  }

  /** Where it really listens; empty before `start`. */
  get addresses(): readonly string[] {
    return this.#listening?.addresses ?? []
  }

  /** Clients that wait for a slot. */
  get queued(): number {
    return this.#admission.queued
  }

  /** How its discovery is doing, source by source; empty before `start`. */
  sources(): readonly SourceStatus[] {
    return this.#subscription?.sources() ?? []
  }

  /** The last check of a backend; undefined before the first one, and without checks. */
  lastCheck(backend: Backend): LastCheck | undefined {
    return this.#care.lastCheck(backend)
  }

  /** Days until the certificate ends that a check of the backend has seen last; below 0 when it has ended. */
  certificateDays(backend: Backend): number | undefined {
    const ends = this.lastCheck(backend)?.certificateEnds
    return ends === undefined ? undefined : (ends - this.#context.clock.date()) / DAY_MS
  }

  /** Undefined where real traffic is not watched. */
  get outliers(): Outliers | undefined {
    return this.#care.outliers
  }

  /** Clients send datagrams: its flows are sessions. */
  get datagrams(): boolean {
    return this.#datagrams !== undefined
  }

  /** Datagrams dropped since it listens, by why. */
  get drops(): Drops {
    return this.#listening?.drops() ?? NO_DROPS
  }

  /** Flows connected to a backend now. */
  active(backend: Backend): number {
    return this.pool.traffic.connects(backend.row) - backend.closed
  }

  /**
   * Asks discovery, then listens: with backends when it answers soon, without when it does not. Rejects with
   * `BindError` when an address cannot be had, and leaves nothing behind then.
   */
  async start(): Promise<void> {
    const { settings, name } = this
    const { sources, clock } = this.#context
    this.#tellDefaults()
    this.#share()
    const located = new Promise<void>((resolve) => (this.#ready = resolve))
    this.#subscription = sources.subscribe(settings.discovery, {
      name,
      transport: transportOf(settings),
      publish: (listed) => void this.#learn(listed),
    })
    await Promise.race([located, pause(clock, FIRST_ANSWER_MS, this.#stopping.signal)])
    const spec = this.#spec()
    try {
      this.#listening = await this.#plane.listen(spec, this.#admission)
    } catch (error) {
      this.#abandon()
      throw bindError(name, error)
    }
    this.#beginSessions(spec)
    this.#admission.attach(this.#listening)
    this.pool.traffic.readFrom(this.#listening)
    this.#ticker = clock.every(1000, () => this.pool.traffic.tick())
    this.#log.info(`listening on ${this.addresses.join(', ')}`)
  }

  /** How long its flows may go on when it stops, of `most`. */
  graceMs(most: number): number {
    return this.#datagrams ? Math.min(most, DATAGRAM_GRACE_MS) : most
  }

  /**
   * Accepts no more, lets flows finish for at most `graceMs` (sessions of datagrams for a second), closes what is left
   * with `reason`. Resolves when the last flow has been reported and the addresses are free.
   */
  async stop(graceMs: number, reason: Ending): Promise<void> {
    const listening = this.#listening
    const waitMs = this.graceMs(graceMs)
    this.#stopping.abort()
    if (listening) {
      await listening.drain()
      if (waitMs > 0 && listening.flows > 0) {
        const emptied = new Promise<void>((resolve) => (this.#emptied = resolve))
        await Promise.race([emptied, pause(this.#context.clock, waitMs, new AbortController().signal)])
      }
      await listening.stop(reason)
    }
    this.#abandon()
    this.#log.info('stopped')
  }

  /** Nothing of its discovery is kept for another run; it learns of no change any more. */
  forget(): void {
    this.#subscription?.cancel({ forget: true })
  }

  #abandon(): void {
    this.#stopping.abort()
    this.#subscription?.cancel()
    this.#care.stop()
    this.#places.stop()
    this.#admission.close()
    this.#ticker?.()
    this.#unshare?.()
  }

  /** Sessions of fire and forget keep no sockets. */
  #share(): void {
    if (!this.#datagrams || this.#datagrams.maxRequests === 1) return
    const { max_sessions } = this.settings.udp!
    this.#unshare = this.#context.sessions.join(max_sessions, (most) => {
      this.#mostSessions = most
      if (!this.#listening || this.#stopping.signal.aborted) return
      this.#listening.limitSessions(most)
      this.#log.info(this.#limitText(max_sessions))
    })
  }

  /** Others may have come or gone since `spec` was made. */
  #beginSessions({ datagrams }: ListenSpec): void {
    if (!datagrams) return
    const { max_sessions } = this.settings.udp!
    if (datagrams.maxSessions !== this.#mostSessions) this.#listening!.limitSessions(this.#mostSessions)
    if (this.#mostSessions === max_sessions) return
    const asked = (this.config.written.udp as { max_sessions?: unknown } | undefined)?.max_sessions
    this.#log[asked === undefined ? 'info' : 'warn'](this.#limitText(max_sessions))
  }

  #limitText(asked: number): string {
    const { servers, most } = this.#context.sessions
    if (this.#mostSessions === asked) return `max_sessions is ${asked} again`
    const sharers = this.#mostSessions === most ? ', half' : `: ${servers} servers share three quarters`
    return `max_sessions is ${this.#mostSessions}${sharers} of what ulimit -n allows`
  }

  /** What nobody has said and may surprise. */
  #tellDefaults(): void {
    const { settings, config } = this
    if (!this.#datagrams) {
      if (settings.backend_connection_timeout === undefined)
        this.#log.info(`backend_connection_timeout is not set: a dial may take ${DIAL_MS / 1000}s`)
      return
    }
    const { maxRequests } = this.#datagrams
    for (const key of ['client_idle_timeout', 'backend_idle_timeout'] as const) {
      if (config.written[key] === undefined && maxRequests !== 1)
        this.#log.info(`${key} is not set: a session ends after ${settings[key] / 1000}s of silence`)
    }
  }

  async #learn({ backends }: Listed): Promise<void> {
    const change = await this.pool.update(backends)
    if (!change) return
    this.outliers?.trim()
    this.#tell(change)
    this.#warnOfPriorities(backends)
    this.#updated = true
    if (this.#places.pending === 0) this.#ready()
  }

  /** Once: the first list that has several. */
  #warnOfPriorities(found: readonly Found[]): void {
    const warning = this.#warned ? undefined : priorityWarning(this.settings.balance, found)
    if (!warning) return
    this.#warned = true
    this.#log.warn(warning)
  }

  #tell({ added, removed, changed }: Change): void {
    const parts = [said('added', added), said('removed', removed), said('changed', changed)].filter(Boolean)
    if (parts.length > 0) this.#log.info(`backends: ${parts.join('; ')}`)
  }

  #discovered(backend: Backend): void {
    // An update under way goes on after the server was stopped.
    if (this.#stopping.signal.aborted) return
    const { address } = backend.found
    if (!isUnix(address) && address.port === 0 && this.settings.bind.some(isUnix))
      this.#log.warn(`backend ${backend.text} cannot serve clients of a unix socket: they come to no port`)
    if (isUnix(address) && this.#datagrams)
      this.#log.warn(`backend ${backend.text} cannot serve clients that send datagrams`)
    this.#places.follow(backend)
  }

  /** A backend stands for these addresses now; for none while its name does not exist. */
  #located(backend: Backend, endpoints: readonly Address[]): void {
    this.pool.locate(backend, endpoints)
    this.#care.located(backend)
    if (this.#updated && this.#places.pending === 0) this.#ready()
  }

  #undiscovered(backend: Backend): void {
    this.#places.forget(backend)
    this.#care.forget(backend)
    backend.endpoints = []
    this.#lose(backend)
  }

  #lose(backend: Backend): void {
    const { on_backend_loss } = this.settings
    if (on_backend_loss === 'keep') return
    this.#listening?.drop(backend.row, on_backend_loss === 'move' ? 'moved' : 'backend-lost')
  }

  #tellPanic(panic: boolean): void {
    const { fit, candidates } = this.pool
    const share = `${fit} of ${candidates} backends are healthy`
    if (!panic) return this.#log.warn(`panic is over: ${share}, and only those are elected`)
    this.#log.error(
      `panic: only ${share}, fewer than ${this.settings.panic_threshold}%; all are elected, healthy or not`,
    )
  }

  #spec(): ListenSpec {
    const { settings } = this
    const { tcp } = settings
    return {
      binds: settings.bind,
      backlog: somaxconn(),
      clientIdleMs: settings.client_idle_timeout,
      backendIdleMs: settings.backend_idle_timeout,
      halfCloseMs: settings.half_close_timeout,
      undecidedMs: UNDECIDED_MS,
      keepAliveMs: tcp.keep_alive,
      report: this.#chooser.kind.report || this.outliers !== undefined,
      measure: this.#context.accessLog !== undefined && !this.#datagrams,
      sockets: this.#sockets,
      ...(this.#datagrams && { datagrams: { ...this.#datagrams, maxSessions: this.#mostSessions } }),
    }
  }
}

/** `added a:80, b:80 and 98 more`; empty for nobody. */
function said(verb: string, texts: readonly string[]): string {
  if (texts.length === 0) return ''
  const more = texts.length > 10 ? ` and ${texts.length - 10} more` : ''
  return `${verb} ${texts.slice(0, 10).join(', ')}${more}`
}

function bindError(server: string, error: unknown): unknown {
  if (error instanceof UnsupportedError)
    return new UnsupportedError(`server ${server} cannot start: ${error.message}`)
  if (!(error instanceof Error) || !('syscall' in error)) return error
  const { address = 'its address' } = error as { address?: string }
  return new BindError(server, address, error as NodeJS.ErrnoException)
}

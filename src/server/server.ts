// One server: a listener, its backends, and everything between them, wired.
//
//      source ─► pool.update ─► discovered ─► names ─► locate ─┐
//                                          └► monitor ─► mark ─┴─► electable ─► admission ◄─ plane

import { isIP } from 'node:net'
import type { ServerConfig } from '../config/read.ts'
import type { Failure, ServerSettings } from '../config/server.ts'
import { isUnix } from '../core/address.ts'
import type { Address } from '../core/address.ts'
import type { Found } from '../core/backend.ts'
import { pause } from '../core/clock.ts'
import type { Cancel, Clock } from '../core/clock.ts'
import { descriptorCeiling } from '../core/descriptors.ts'
import { formatDuration } from '../core/duration.ts'
import { BindError } from '../core/errors.ts'
import { logger, prefixed } from '../core/log.ts'
import type { Logger } from '../core/log.ts'
import type { Ending } from '../core/reasons.ts'
import { somaxconn } from '../core/somaxconn.ts'
import type { Listed } from '../discovery/roster.ts'
import type { Sources, SourceStatus, Subscription } from '../discovery/sources.ts'
import type { Names } from '../dns/names.ts'
import type { Advice, Result } from '../health/check.ts'
import type { Gate } from '../health/gate.ts'
import { createMonitor } from '../health/monitor.ts'
import type { LastCheck, Monitor } from '../health/monitor.ts'
import { checkedAt, createCheck } from '../health/settings.ts'
import type { Listening, ListenSpec, Plane } from '../plane/plane.ts'
import type { Backend } from '../pool/backend.ts'
import { Pool } from '../pool/pool.ts'
import type { Change } from '../pool/pool.ts'
import type { AccessLog } from './accesslog.ts'
import { Admission } from './admission.ts'
import { buildAccess, buildChooser, priorityWarning, refuseUnsupported, transportOf } from './build.ts'
import type { Chooser } from './build.ts'
import { Outliers } from './outliers.ts'
import { Ramps } from './ramps.ts'
import { Room } from './room.ts'
import { Totals } from './totals.ts'

/** What all servers of a process share. */
export interface ServerContext {
  readonly plane: Plane
  readonly names: Names
  readonly sources: Sources
  readonly gate: Gate
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
/** Go's default, which gobetween's users have. */
const KEEP_ALIVE_MS = 15_000

export class Server {
  readonly name: string
  readonly config: ServerConfig
  readonly settings: ServerSettings
  readonly pool: Pool
  readonly room: Room
  readonly totals = new Totals()
  /** Undefined where real traffic is not watched. */
  readonly outliers: Outliers | undefined
  readonly #ramps: Ramps
  readonly #context: ServerContext
  readonly #log: Logger
  readonly #chooser: Chooser
  readonly #admission: Admission
  readonly #monitor: Monitor
  /** How to stop following the addresses behind a backend's host name, by backend. */
  readonly #followed = new Map<number, Cancel>()
  /** Backends whose name has not been resolved yet. */
  readonly #unlocated = new Set<number>()
  readonly #stopping = new AbortController()
  #subscription: Subscription | undefined
  #listening: Listening | undefined
  #ticker: Cancel | undefined
  #ready: () => void = () => {}
  #emptied: () => void = () => {}
  #updated = false
  #warned = false

  /** Builds everything and starts nothing. Throws `UnsupportedError` for what this release cannot do. */
  constructor(name: string, config: ServerConfig, context: ServerContext) {
    const { settings } = config
    refuseUnsupported(name, settings)
    this.name = name
    this.config = config
    this.settings = settings
    this.#context = context
    this.#log = prefixed(logger('server'), `${name}: `)
    this.#chooser = buildChooser(settings, context.clock)
    const { balancer, kind, hashKey } = this.#chooser
    const { clock } = context
    this.#monitor = this.#buildMonitor()
    this.pool = new Pool(
      {
        balancer,
        weighted: kind.weighted,
        random: () => clock.random(),
        initiallyHealthy: this.#monitor.initiallyHealthy,
        panicThreshold: settings.panic_threshold,
      },
      {
        discovered: (backend) => this.#follow(backend),
        undiscovered: (backend) => this.#unfollow(backend),
        room: () => this.#admission.serve(),
        panicked: (panic) => this.#tellPanic(panic),
      },
    )
    this.#ramps = new Ramps(settings.slow_start, clock, (backend, share) => this.pool.ramp(backend, share))
    this.outliers = this.#buildOutliers()
    this.room = new Room(
      {
        maxConnections: settings.max_connections,
        maxPerClient: settings.max_connections_per_client,
        ratePerClient: settings.client_connection_rate,
      },
      clock,
    )
    this.#admission = new Admission({
      pool: this.pool,
      room: this.room,
      totals: this.totals,
      balancer,
      hashKey,
      access: buildAccess(settings),
      dialTimeoutMs: settings.backend_connection_timeout ?? DIAL_MS,
      redispatch: settings.redispatch,
      queueMs: settings.queue_timeout,
      descriptorCeiling: descriptorCeiling(),
      outliers: this.outliers,
      clock,
      log: this.#log,
      onEnd: (end, backend) => {
        context.accessLog?.(end, { server: name, balance: settings.balance, backend })
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
    return this.#monitor.lastCheck(backend.id)
  }

  /** Days until the certificate ends that a check of the backend has seen last; below 0 when it has ended. */
  certificateDays(backend: Backend): number | undefined {
    const ends = this.lastCheck(backend)?.certificateEnds
    return ends === undefined ? undefined : (ends - this.#context.clock.date()) / DAY_MS
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
    const { sources, clock, plane } = this.#context
    if (settings.backend_connection_timeout === undefined)
      this.#log.info(`backend_connection_timeout is not set: a dial may take ${DIAL_MS / 1000}s`)
    const located = new Promise<void>((resolve) => (this.#ready = resolve))
    this.#subscription = sources.subscribe(settings.discovery, {
      name,
      transport: transportOf(settings),
      publish: (listed) => void this.#learn(listed),
    })
    await Promise.race([located, pause(clock, FIRST_ANSWER_MS, this.#stopping.signal)])
    try {
      this.#listening = await plane.listen(this.#spec(), this.#admission)
    } catch (error) {
      this.#abandon()
      throw bindError(name, error)
    }
    this.#admission.attach(this.#listening)
    this.pool.traffic.readFrom(this.#listening)
    this.#ticker = clock.every(1000, () => this.pool.traffic.tick())
    this.#log.info(`listening on ${this.addresses.join(', ')}`)
  }

  /**
   * Accepts no more, lets flows finish for at most `graceMs`, closes what is left with `reason`. Resolves when
   * the last flow has been reported and the addresses are free.
   */
  async stop(graceMs: number, reason: Ending): Promise<void> {
    const listening = this.#listening
    this.#stopping.abort()
    if (listening) {
      await listening.drain()
      if (graceMs > 0 && listening.flows > 0) {
        const emptied = new Promise<void>((resolve) => (this.#emptied = resolve))
        await Promise.race([emptied, pause(this.#context.clock, graceMs, new AbortController().signal)])
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
    void this.#monitor.stop()
    this.outliers?.stop()
    this.#ramps.stop()
    this.#admission.close()
    this.#ticker?.()
    for (const cancel of this.#followed.values()) cancel()
    this.#followed.clear()
  }

  async #learn({ backends }: Listed): Promise<void> {
    const change = await this.pool.update(backends)
    if (!change) return
    this.outliers?.trim()
    this.#tell(change)
    this.#warnOfPriorities(backends)
    this.#updated = true
    if (this.#unlocated.size === 0) this.#ready()
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

  #follow(backend: Backend): void {
    // An update under way goes on after the server was stopped.
    if (this.#stopping.signal.aborted) return
    const { address } = backend.found
    if (isUnix(address)) return this.#locate(backend, [address])
    if (address.port === 0 && this.settings.bind.some(isUnix))
      this.#log.warn(`backend ${backend.text} cannot serve clients of a unix socket: they come to no port`)
    if (isIP(address.host)) return this.#locate(backend, [address])
    this.#unlocated.add(backend.id)
    const cancel = this.#context.names.watch(address.host, (ips) =>
      this.#locate(
        backend,
        ips.map((host) => ({ host, port: address.port })),
      ),
    )
    this.#followed.set(backend.id, cancel)
  }

  /** The name of a backend stands for these addresses now; for none while it does not exist. */
  #locate(backend: Backend, endpoints: readonly Address[]): void {
    const checked = backend.endpoints.length > 0
    this.pool.locate(backend, endpoints)
    this.#unlocated.delete(backend.id)
    if (endpoints.length === 0) this.#forgetChecks(backend)
    else this.#check(backend, checked)
    if (this.#updated && this.#unlocated.size === 0) this.#ready()
  }

  /** A backend without addresses is not checked; it starts anew when it has some again. */
  #forgetChecks(backend: Backend): void {
    this.#monitor.remove(backend.id)
    this.#ramps.forget(backend)
    this.pool.ramp(backend, 1)
    this.pool.unmark(backend)
  }

  #check({ id, found, endpoints }: Backend, again: boolean): void {
    if (this.settings.healthcheck.kind === 'none') return
    const target = checkedAt(this.settings.healthcheck, {
      address: this.#checkable(found.address),
      endpoints: endpoints.map((each) => this.#checkable(each)),
    })
    if (again) this.#monitor.retarget(id, target)
    else this.#monitor.add(id, target)
  }

  /** A backend on `host:*` is checked on the first port the server listens on. */
  #checkable(address: Address): Address {
    if (isUnix(address) || address.port !== 0) return address
    const first = this.settings.bind.find((bind) => !isUnix(bind))
    return first && !isUnix(first) ? { host: address.host, port: first.port } : address
  }

  #unfollow(backend: Backend): void {
    this.#followed.get(backend.id)?.()
    this.#followed.delete(backend.id)
    this.#unlocated.delete(backend.id)
    this.#monitor.remove(backend.id)
    this.outliers?.forget(backend)
    this.#ramps.forget(backend)
    backend.endpoints = []
    this.#lose(backend)
  }

  #lose(backend: Backend): void {
    if (this.settings.on_backend_loss === 'close') this.#listening?.drop(backend.row, 'backend-lost')
  }

  #buildMonitor(): Monitor {
    const { healthcheck } = this.settings
    const { interval, interval_down, timeout, passes, fails, initial_status } = healthcheck
    const { clock, gate } = this.#context
    const settings = {
      name: this.name,
      check: createCheck(healthcheck),
      intervalMs: interval,
      intervalDownMs: interval_down ?? interval,
      timeoutMs: timeout,
      passes,
      fails,
      initialStatus: initial_status,
    }
    return createMonitor(settings, clock, gate, {
      flipped: (id, healthy, reason) => this.#flip(id, healthy, reason),
      checked: (id, result) => this.#checked(id, result),
    })
  }

  #flip(id: number, healthy: boolean, reason: string): void {
    const backend = this.pool.find(id)
    if (!backend || !this.pool.mark(backend, healthy)) return
    this.#log[healthy ? 'info' : 'warn'](
      `backend ${backend.text} is ${healthy ? 'healthy' : 'unhealthy'}: ${reason}`,
    )
    this.#ramp(backend)
    if (!healthy) this.#lose(backend)
  }

  #checked(id: number, { status, advice }: Result): void {
    const backend = this.pool.find(id)
    if (!backend) return
    if (backend.untried && status === 'unhealthy') this.pool.mark(backend, false)
    if (advice) this.#heed(backend, { ...backend.advice, ...advice })
    this.outliers?.checked(backend, status === 'unhealthy')
  }

  /** Does as a backend's agent asks. */
  #heed(backend: Backend, advice: Advice): void {
    const { share, maxConnections, drain } = backend.advice
    if (share === advice.share && maxConnections === advice.maxConnections && drain === advice.drain) return
    this.pool.advise(backend, advice)
    this.#log.info(`backend ${backend.text} asks for ${asked(advice)}`)
  }

  #buildOutliers(): Outliers | undefined {
    const { outlier } = this.settings
    if (!outlier) return undefined
    const { pool } = this
    return new Outliers(outlier, this.#context.clock, {
      counts: () => pool,
      recheck: ({ id }) => this.#monitor.recheck(id),
      ejected: (backend, ms, why) => this.#eject(backend, `out for ${formatDuration(ms)}, ${TOO_MUCH[why]}`),
      returned: (backend) => this.#eject(backend, undefined),
    })
  }

  /** Takes a backend out for a reason, or lets it in again without one. */
  #eject(backend: Backend, why: string | undefined): void {
    this.pool.eject(backend, why !== undefined)
    if (why === undefined) this.#log.info(`backend ${backend.text} is no longer ejected`)
    else this.#log.warn(`backend ${backend.text} is ejected: ${why}`)
    this.#ramp(backend)
  }

  #ramp(backend: Backend): void {
    if (backend.healthy && !backend.ejected) this.#ramps.returns(backend)
    else this.#ramps.leaves(backend)
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
    return {
      binds: settings.bind,
      backlog: somaxconn(),
      clientIdleMs: settings.client_idle_timeout,
      backendIdleMs: settings.backend_idle_timeout,
      halfCloseMs: settings.half_close_timeout,
      undecidedMs: UNDECIDED_MS,
      keepAliveMs: KEEP_ALIVE_MS,
      report: this.#chooser.kind.report || this.outliers !== undefined,
    }
  }
}

const TOO_MUCH: Record<Failure, string> = {
  refused: 'it refused too many dials in a row',
  timeout: 'too many dials in a row timed out',
  reset: 'it reset too many flows in a row before a byte of its own',
  empty: 'it ended too many flows in a row without a byte of its own',
}

/** `50% of its weight, max_connections 30, drain`. */
function asked({ share, maxConnections, drain }: Advice): string {
  const parts = []
  if (share !== undefined) parts.push(`${Math.round(share * 100)}% of its weight`)
  if (maxConnections !== undefined) parts.push(`max_connections ${maxConnections}`)
  if (drain !== undefined) parts.push(drain ? 'drain' : 'no drain')
  return parts.join(', ')
}

/** `added a:80, b:80 and 98 more`; empty for nobody. */
function said(verb: string, texts: readonly string[]): string {
  if (texts.length === 0) return ''
  const more = texts.length > 10 ? ` and ${texts.length - 10} more` : ''
  return `${verb} ${texts.slice(0, 10).join(', ')}${more}`
}

function bindError(server: string, error: unknown): unknown {
  if (!(error instanceof Error) || !('syscall' in error)) return error
  const { address = 'its address' } = error as { address?: string }
  return new BindError(server, address, error as NodeJS.ErrnoException)
}

// Who of a server's backends may serve: what checks find, what real traffic shows, and how those that return begin.
//
//      monitor ─► flip ─────┐
//              └► advice ───┼─► pool: healthy, ejected, advised, ramped
//      outliers ─► eject ───┘

import type { Failure, ServerSettings } from '../config/server.ts'
import { isUnix } from '../core/address.ts'
import type { Address } from '../core/address.ts'
import type { Clock } from '../core/clock.ts'
import { formatDuration } from '../core/duration.ts'
import type { Logger } from '../core/log.ts'
import type { Advice, Result } from '../health/check.ts'
import type { Gate } from '../health/gate.ts'
import { createMonitor } from '../health/monitor.ts'
import type { LastCheck, Monitor } from '../health/monitor.ts'
import { checkedAt, createCheck } from '../health/settings.ts'
import type { Backend } from '../pool/backend.ts'
import type { Pool } from '../pool/pool.ts'
import { Outliers } from './outliers.ts'
import { Ramps } from './ramps.ts'

const TOO_MUCH: Record<Failure, string> = {
  refused: 'it refused too many dials in a row',
  timeout: 'too many dials in a row timed out',
  reset: 'it reset too many flows in a row before a byte of its own',
  empty: 'it ended too many flows in a row without a byte of its own',
}

export class Care {
  /** Undefined where real traffic is not watched. */
  readonly outliers: Outliers | undefined
  readonly #settings: ServerSettings
  readonly #log: Logger
  readonly #lost: (backend: Backend) => void
  readonly #monitor: Monitor
  readonly #ramps: Ramps
  /** Backends that are being checked. */
  readonly #checked = new Set<number>()
  #pool!: Pool

  /** `lost` is told of each backend that is down now. */
  constructor(
    name: string,
    settings: ServerSettings,
    { clock, gate }: { readonly clock: Clock; readonly gate: Gate },
    log: Logger,
    lost: (backend: Backend) => void,
  ) {
    this.#settings = settings
    this.#log = log
    this.#lost = lost
    this.#monitor = this.#buildMonitor(name, clock, gate)
    this.#ramps = new Ramps(settings.slow_start, clock, (backend, share) => this.#pool.ramp(backend, share))
    this.outliers = this.#buildOutliers(clock)
  }

  /** What a backend is before its first check has been counted. */
  get initiallyHealthy(): boolean {
    return this.#monitor.initiallyHealthy
  }

  /** The pool it cares for; before anything else but `initiallyHealthy` is used. */
  attach(pool: Pool): void {
    this.#pool = pool
  }

  /** The last check of a backend; undefined before the first one, and without checks. */
  lastCheck({ id }: Backend): LastCheck | undefined {
    return this.#monitor.lastCheck(id)
  }

  /** A backend has the endpoints it shows now. One without is not checked, and starts anew when it has some. */
  located(backend: Backend): void {
    if (backend.endpoints.length > 0) return this.#check(backend)
    this.#rest(backend)
    this.#pool.ramp(backend, 1)
    this.#pool.unmark(backend)
    this.outliers?.trim()
  }

  /** Discovery names the backend no more. */
  forget(backend: Backend): void {
    this.#rest(backend)
    this.outliers?.forget(backend)
  }

  stop(): void {
    void this.#monitor.stop()
    this.outliers?.stop()
    this.#ramps.stop()
  }

  #rest(backend: Backend): void {
    this.#checked.delete(backend.id)
    this.#monitor.remove(backend.id)
    this.#ramps.forget(backend)
  }

  #check({ id, found, endpoints }: Backend): void {
    const { healthcheck } = this.#settings
    if (healthcheck.kind === 'none') return
    const target = checkedAt(healthcheck, {
      address: this.#checkable(found.address),
      endpoints: endpoints.map((each) => this.#checkable(each)),
    })
    if (this.#checked.has(id)) return this.#monitor.retarget(id, target)
    this.#checked.add(id)
    this.#monitor.add(id, target)
  }

  /** A backend on `host:*` is checked on the first port the server listens on. */
  #checkable(address: Address): Address {
    if (isUnix(address) || address.port !== 0) return address
    const first = this.#settings.bind.find((bind) => !isUnix(bind))
    return first && !isUnix(first) ? { host: address.host, port: first.port } : address
  }

  #buildMonitor(name: string, clock: Clock, gate: Gate): Monitor {
    const { healthcheck } = this.#settings
    const { interval, interval_down, timeout, passes, fails, initial_status } = healthcheck
    const settings = {
      name,
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
      checked: (id, result) => this.#take(id, result),
    })
  }

  #flip(id: number, healthy: boolean, reason: string): void {
    const backend = this.#pool.find(id)
    if (!backend || !this.#pool.mark(backend, healthy)) return
    this.#log[healthy ? 'info' : 'warn'](
      `backend ${backend.text} is ${healthy ? 'healthy' : 'unhealthy'}: ${reason}`,
    )
    this.#ramp(backend)
    if (healthy) return
    this.outliers?.trim()
    this.#lost(backend)
  }

  #take(id: number, { status, advice }: Result): void {
    const backend = this.#pool.find(id)
    if (!backend) return
    if (backend.untried && status === 'unhealthy') this.#pool.mark(backend, false)
    if (advice) this.#heed(backend, { ...backend.advice, ...advice })
    this.outliers?.checked(backend, status === 'unhealthy')
  }

  /** Does as a backend's agent asks. */
  #heed(backend: Backend, advice: Advice): void {
    const { share, maxConnections, drain } = backend.advice
    if (share === advice.share && maxConnections === advice.maxConnections && drain === advice.drain) return
    this.#pool.advise(backend, advice)
    this.outliers?.trim()
    this.#log.info(`backend ${backend.text} asks for ${asked(advice)}`)
  }

  #buildOutliers(clock: Clock): Outliers | undefined {
    const { outlier } = this.#settings
    if (!outlier) return undefined
    return new Outliers(outlier, clock, {
      counts: () => this.#pool,
      recheck: ({ id }) => this.#monitor.recheck(id),
      ejected: (backend, ms, why) => this.#eject(backend, `out for ${formatDuration(ms)}, ${TOO_MUCH[why]}`),
      returned: (backend) => this.#eject(backend, undefined),
    })
  }

  /** Takes a backend out for a reason, or lets it in again without one. */
  #eject(backend: Backend, why: string | undefined): void {
    this.#pool.eject(backend, why !== undefined)
    if (why === undefined) this.#log.info(`backend ${backend.text} is no longer ejected`)
    else this.#log.warn(`backend ${backend.text} is ejected: ${why}`)
    this.#ramp(backend)
  }

  #ramp(backend: Backend): void {
    if (backend.healthy && !backend.ejected) this.#ramps.returns(backend)
    else this.#ramps.leaves(backend)
  }
}

/** `50% of its weight, max_connections 30, drain`. */
function asked({ share, maxConnections, drain }: Advice): string {
  const parts = []
  if (share !== undefined) parts.push(`${Math.round(share * 100)}% of its weight`)
  if (maxConnections !== undefined) parts.push(`max_connections ${maxConnections}`)
  if (drain !== undefined) parts.push(drain ? 'drain' : 'no drain')
  return parts.join(', ')
}

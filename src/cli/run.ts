// From a configuration to a running balancer, and from a signal back to nothing.

import type { Api } from '../api/http.ts'
import { startApi } from '../api/http.ts'
import { startMetrics } from '../api/metrics.ts'
import type { Config } from '../config/read.ts'
import { loadConfig } from '../config/source.ts'
import type { Origin, Source } from '../config/source.ts'
import { realClock } from '../core/clock.ts'
import { formatDuration } from '../core/duration.ts'
import { problemText } from '../core/errors.ts'
import type { Problem } from '../core/errors.ts'
import { closeLogs, configureLogging, logger } from '../core/log.ts'
import { Sources } from '../discovery/sources.ts'
import { State } from '../discovery/state.ts'
import { Names } from '../dns/names.ts'
import { Gate } from '../health/gate.ts'
import { Manager } from '../manager/manager.ts'
import { choosePlanes } from '../plane/choose.ts'
import { openAccessLog } from '../server/accesslog.ts'
import { SessionBudget } from '../server/sessionbudget.ts'
import { idleSections } from './missing.ts'
import { removePidfile, writePidfile } from './pidfile.ts'
import { version } from './version.ts'

const log = logger('main')

/** Loads the configuration of `source` and runs it until a signal ends it. Returns the exit status. */
export async function runSource(source: Source, pidfile?: string): Promise<number> {
  if (pidfile) {
    writePidfile(pidfile)
    process.once('exit', () => removePidfile(pidfile))
  }
  const { config, warnings } = await loadConfig(source)
  return runConfig(config, source.origin, warnings)
}

/**
 * Runs `config` until SIGTERM or SIGINT: then accepts no more, lets flows finish for `shutdown_timeout`, and
 * returns 0. A second signal ends the process at once. `onStarted` is called when everything listens.
 */
export async function runConfig(
  config: Config,
  origin: Origin,
  warnings: readonly Problem[] = [],
  onStarted: () => void = () => {},
): Promise<number> {
  const ended = nextSignal()
  await configureLogging(config.logging)
  log.info(`fairlead v${version}, node ${process.versions.node}, pid ${process.pid}`)
  for (const warning of [...warnings.map(problemText), ...idleSections(config)]) log.warn(warning)

  const { access, format } = config.logging
  const state = config.state_dir ? new State(config.state_dir, realClock) : undefined
  const manager = new Manager(config, {
    planes: choosePlanes(config, realClock),
    names: new Names(realClock),
    sources: new Sources(realClock, state),
    gate: new Gate(config.healthcheck_concurrency),
    sessions: new SessionBudget(),
    clock: realClock,
    accessLog: access ? openAccessLog(access, format, () => realClock.date()) : undefined,
  })
  const opened: Api[] = []
  try {
    await manager.initialize()
    const about = { version, origin, startedAt: realClock.date() }
    if (config.metrics.enabled) opened.push(await startMetrics(config.metrics, manager, about))
    if (config.api.enabled) opened.push(await startApi(config.api, manager, about))
    onStarted()
    await ended
    await drain(manager, config.shutdown_timeout)
    return 0
  } finally {
    await manager.stop(0, 'shutdown')
    await state?.settled()
    await Promise.all(opened.map((each) => each.close()))
  }
}

async function drain(manager: Manager, graceMs: number): Promise<void> {
  const waits = [false, true].flatMap((datagrams) => {
    const servers = [...manager.servers.values()].filter((each) => each.datagrams === datagrams)
    const flows = servers.reduce((sum, { room }) => sum + room.size, 0)
    const what = datagrams ? 'sessions' : 'open flows'
    return flows > 0 ? [`${formatDuration(servers[0]!.graceMs(graceMs))} for ${flows} ${what}`] : []
  })
  if (waits.length > 0) log.info(`waiting at most ${waits.join(' and ')}; a second signal ends at once`)
  await manager.stop(graceMs, 'shutdown')
  log.info('stopped')
}

/** Resolves at the first SIGTERM or SIGINT and keeps the process alive until then; a second one ends it. */
function nextSignal(): Promise<void> {
  // Nothing else need be open: a balancer may wait for its first server.
  const alive = setInterval(() => {}, 2 ** 30)
  return new Promise((resolve) => {
    let ending = false
    const onSignal = (signal: NodeJS.Signals) => {
      if (ending) {
        log.warn(`${signal} again: ending at once`)
        return void closeLogs().then(() => process.exit(1))
      }
      ending = true
      clearInterval(alive)
      log.info(`${signal}: accepting no more clients`)
      resolve()
    }
    process.on('SIGTERM', onSignal)
    process.on('SIGINT', onSignal)
  })
}

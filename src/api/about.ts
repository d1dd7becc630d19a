// What the program tells of itself: where its config came from, since when it runs, which version it is.

import { sourceName } from '../config/source.ts'
import type { Origin } from '../config/source.ts'
import { formatDuration } from '../core/duration.ts'
import { goTime } from './gotime.ts'

export interface About {
  readonly version: string
  readonly origin: Origin
  /** Milliseconds since 1970. */
  readonly startedAt: number
}

/** The object `GET /` answers, its keys sorted; `now` in milliseconds since 1970. */
export function aboutObject({ version, origin, startedAt }: About, now: number) {
  return {
    configuration: configurationOf(origin),
    pid: process.pid,
    startTime: goTime(startedAt),
    time: goTime(now),
    uptime: formatDuration(now - startedAt),
    version,
  }
}

function configurationOf(origin: Origin) {
  const { kind } = origin
  if (kind === 'file') return { kind, path: origin.path }
  // The name of a source is its address without the password it may hold.
  if (kind === 'url') return { kind, url: sourceName({ origin, substitute: false }) }
  return { kind, host: origin.host, key: origin.key }
}

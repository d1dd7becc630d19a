// How a server's sources are doing, as the API tells it.

import type { Changed } from '../discovery/change.ts'
import type { SourceStatus } from '../discovery/sources.ts'
import type { Server } from '../server/server.ts'
import { goTime } from './gotime.ts'

/** What `GET /servers/NAME/discovery` answers: one entry for each source, in the order of the section. */
export function discoveryObject(server: Server): object {
  return { kind: server.settings.discovery.kind, sources: server.sources().map(sourceObject) }
}

function sourceObject(status: SourceStatus): object {
  const { kind, source, push, lastSuccess, lastError, freshnessMs, held, lastChange } = status
  return {
    kind,
    source,
    push,
    last_success: lastSuccess === undefined ? null : goTime(lastSuccess),
    last_error: lastError ? { at: goTime(lastError.at), message: lastError.message } : null,
    age_seconds: freshnessMs === undefined ? null : Math.round(freshnessMs) / 1000,
    failing: status.failing,
    asks: status.asks,
    failures: status.failures,
    revision: status.revision,
    backends: status.backends,
    restored: status.restored,
    stale: status.stale,
    held: held ? { since: goTime(held.since), backends: held.backends } : null,
    waiting: status.waiting,
    rejected: status.rejected,
    last_change: lastChange ? changeObject(lastChange) : null,
  }
}

function changeObject({ at, added, removed, changed }: Changed): object {
  return { at: goTime(at), added, removed, changed }
}

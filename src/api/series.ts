// Which series there are, and where in a server or a backend each value stands.

import type { Backend } from '../pool/backend.ts'
import type { Carried } from '../pool/traffic.ts'
import type { Histogram } from '../server/histogram.ts'
import type { Server } from '../server/server.ts'
import type { Gate } from '../health/gate.ts'
import { countOf } from '../discovery/reading/rejects.ts'
import type { SourceStatus } from '../discovery/sources.ts'
import type { MetricType } from './exposition.ts'

/** A server with what is read of it once a scrape. */
export interface ServerView {
  readonly server: Server
  readonly carried: Carried
}

/** A backend with what is read of it once a scrape. */
export interface BackendView {
  readonly server: Server
  readonly backend: Backend
  readonly carried: Carried
}

/** One name and where its value is; a series without a value is left out. */
export interface Series<T> {
  readonly name: string
  readonly type: MetricType
  readonly help: string
  readonly value: (of: T) => number | undefined
}

/** Series with one value for each of a server's reasons. */
export interface ByReason {
  readonly name: string
  readonly help: string
  readonly values: (server: Server) => Readonly<Record<string, number>>
}

export interface Distribution {
  readonly name: string
  readonly help: string
  readonly histogram: (server: Server) => Histogram
}

export const PROCESS_SERIES: readonly Series<Gate>[] = [
  {
    name: 'fairlead_health_checks_running',
    type: 'gauge',
    help: 'Health checks under way, all servers together.',
    value: (gate) => gate.running,
  },
  {
    name: 'fairlead_health_checks_waiting',
    type: 'gauge',
    help: 'Health checks that are due and wait because healthcheck_concurrency is reached.',
    value: (gate) => gate.waiting,
  },
  {
    name: 'fairlead_health_checks_late_total',
    type: 'counter',
    help: 'Health checks that began later than they should have.',
    value: (gate) => gate.late,
  },
]

export const SERVER_SERIES: readonly Series<ServerView>[] = [
  {
    name: 'fairlead_server_active_connections',
    type: 'gauge',
    help: 'Clients inside, also those not connected to a backend yet.',
    value: ({ server }) => server.room.size,
  },
  {
    name: 'fairlead_server_connections_total',
    type: 'counter',
    help: 'Clients that came in, also those that were refused.',
    value: ({ server }) => server.totals.arrived,
  },
  {
    name: 'fairlead_server_received_bytes_total',
    type: 'counter',
    help: 'Bytes received from backends.',
    value: ({ carried }) => carried.rx,
  },
  {
    name: 'fairlead_server_sent_bytes_total',
    type: 'counter',
    help: 'Bytes of clients sent to backends.',
    value: ({ carried }) => carried.tx,
  },
  {
    name: 'fairlead_server_received_datagrams_total',
    type: 'counter',
    help: 'Datagrams received from backends; udp only.',
    value: ({ server, carried }) => (server.datagrams ? carried.responses : undefined),
  },
  {
    name: 'fairlead_server_sent_datagrams_total',
    type: 'counter',
    help: 'Datagrams of clients sent to backends; udp only.',
    value: ({ server, carried }) => (server.datagrams ? carried.requests : undefined),
  },
  {
    name: 'fairlead_server_elections_total',
    type: 'counter',
    help: 'Elections that found a backend.',
    value: ({ server }) => server.totals.elections,
  },
  {
    name: 'fairlead_server_redispatches_total',
    type: 'counter',
    help: 'Elections after a failed dial that found another backend.',
    value: ({ server }) => server.totals.redispatches,
  },
  {
    name: 'fairlead_server_queued',
    type: 'gauge',
    help: 'Clients that wait for a place at a backend.',
    value: ({ server }) => server.queued,
  },
  {
    name: 'fairlead_server_panic',
    type: 'gauge',
    help: '1 while so few backends are healthy that all are elected, else 0.',
    value: ({ server }) => Number(server.pool.panic),
  },
]

/** One value for each source of a server. */
export const SOURCE_SERIES: readonly Series<SourceStatus>[] = [
  {
    name: 'fairlead_discovery_age_seconds',
    type: 'gauge',
    help: 'Age of the last good answer of the discovery; missing before the first.',
    value: ({ freshnessMs }) => (freshnessMs === undefined ? undefined : freshnessMs / 1000),
  },
  {
    name: 'fairlead_discovery_asks_total',
    type: 'counter',
    help: 'Questions asked of the discovery.',
    value: (source) => source.asks,
  },
  {
    name: 'fairlead_discovery_failures_total',
    type: 'counter',
    help: 'Questions to the discovery that failed.',
    value: (source) => source.failures,
  },
  {
    name: 'fairlead_discovery_backends',
    type: 'gauge',
    help: 'Backends in the list last taken over.',
    value: (source) => source.backends,
  },
  {
    name: 'fairlead_discovery_rejected',
    type: 'gauge',
    help: 'Entries of the last good answer that could not be used.',
    value: ({ rejected }) => countOf(rejected),
  },
  {
    name: 'fairlead_discovery_changes_total',
    type: 'counter',
    help: 'Lists taken over that differed from the one before.',
    value: ({ revision }) => revision,
  },
  {
    name: 'fairlead_discovery_failing',
    type: 'gauge',
    help: '1 while questions to the discovery fail, else 0.',
    value: ({ failing }) => Number(failing),
  },
  {
    name: 'fairlead_discovery_push_connected',
    type: 'gauge',
    help: '1 while changes are heard of at once, 0 while that connection is lost; missing where there is none.',
    value: ({ push }) => (push === 'none' ? undefined : Number(push === 'connected')),
  },
  {
    name: 'fairlead_discovery_restored',
    type: 'gauge',
    help: '1 while the list is one that an earlier run has kept, else 0.',
    value: ({ restored }) => Number(restored),
  },
  {
    name: 'fairlead_discovery_stale',
    type: 'gauge',
    help: '1 while there was no good answer for longer than max_staleness, else 0.',
    value: ({ stale }) => Number(stale),
  },
  {
    name: 'fairlead_discovery_stale_total',
    type: 'counter',
    help: 'How often a list became older than max_staleness.',
    value: ({ counts }) => counts.stale,
  },
  {
    name: 'fairlead_discovery_held_backends',
    type: 'gauge',
    help: 'Backends that stay because of min_backends or max_removal although the last answer lacks them.',
    value: ({ held }) => held?.backends ?? 0,
  },
  {
    name: 'fairlead_discovery_holds_total',
    type: 'counter',
    help: 'Answers whose removals were held because of min_backends or max_removal.',
    value: ({ counts }) => counts.held,
  },
  {
    name: 'fairlead_discovery_waiting_backends',
    type: 'gauge',
    help: 'Backends that came back too often and wait for readmit_delay.',
    value: ({ waiting }) => waiting,
  },
  {
    name: 'fairlead_discovery_readmissions_delayed_total',
    type: 'counter',
    help: 'Returns of backends that had to wait for readmit_delay.',
    value: ({ counts }) => counts.readmissions,
  },
]

export const REASON_SERIES: readonly ByReason[] = [
  {
    name: 'fairlead_server_refusals_total',
    help: 'Clients turned away, by reason.',
    values: (server) => server.totals.refusals,
  },
  {
    name: 'fairlead_server_flow_ends_total',
    help: 'Flows that are over, by reason.',
    values: (server) => server.totals.endings,
  },
  {
    name: 'fairlead_server_ejections_total',
    help: 'Backends ejected because of how their flows fared, by the failure that was one too many.',
    values: (server) => server.outliers?.ejections ?? {},
  },
  {
    name: 'fairlead_server_dropped_datagrams_total',
    help: 'Datagrams dropped, by reason; udp only.',
    values: (server) => (server.datagrams ? { ...server.drops } : {}),
  },
]

export const DISTRIBUTIONS: readonly Distribution[] = [
  {
    name: 'fairlead_server_connect_seconds',
    help: 'Time a successful dial of a backend took.',
    histogram: (server) => server.totals.connect,
  },
  {
    name: 'fairlead_server_flow_duration_seconds',
    help: 'Time from the arrival of a client to the end of its flow.',
    histogram: (server) => server.totals.duration,
  },
  {
    name: 'fairlead_server_decision_seconds',
    help: 'Time it took to decide about a client that came in.',
    histogram: (server) => server.totals.decision,
  },
]

export const BACKEND_SERIES: readonly Series<BackendView>[] = [
  {
    name: 'fairlead_backend_healthy',
    type: 'gauge',
    help: '1 for a backend that is discovered and passes its checks, else 0.',
    value: ({ backend }) => Number(backend.discovered && backend.healthy),
  },
  {
    name: 'fairlead_backend_ejected',
    type: 'gauge',
    help: '1 for a backend that is out because of how its flows fared, else 0.',
    value: ({ backend }) => Number(backend.ejected),
  },
  {
    name: 'fairlead_backend_ramp',
    type: 'gauge',
    help: 'How far a backend has come back since slow_start began for it, 0 to 1.',
    value: ({ server, backend }) => server.pool.columns.ramp[backend.row],
  },
  {
    // The format knows seconds only: promtool refuses a name that ends in days.
    name: 'fairlead_backend_certificate_expiry',
    type: 'gauge',
    help: 'Days until the certificate ends that the last check of the backend has seen.',
    value: ({ server, backend }) => server.certificateDays(backend),
  },
  {
    name: 'fairlead_backend_active_connections',
    type: 'gauge',
    help: 'Flows connected to the backend.',
    value: ({ server, backend }) => server.active(backend),
  },
  {
    name: 'fairlead_backend_slots',
    type: 'gauge',
    help: 'Flows that hold a place at the backend, also those that are being connected.',
    value: ({ server, backend }) => server.pool.columns.slots[backend.row],
  },
  {
    name: 'fairlead_backend_connections_total',
    type: 'counter',
    help: 'Dials of the backend that succeeded.',
    value: ({ server, backend }) => server.pool.traffic.connects(backend.row),
  },
  {
    name: 'fairlead_backend_refused_connections_total',
    type: 'counter',
    help: 'Dials of the backend that failed.',
    value: ({ backend }) => backend.refused,
  },
  {
    name: 'fairlead_backend_received_bytes_total',
    type: 'counter',
    help: 'Bytes received from the backend.',
    value: ({ carried }) => carried.rx,
  },
  {
    name: 'fairlead_backend_sent_bytes_total',
    type: 'counter',
    help: 'Bytes of clients sent to the backend.',
    value: ({ carried }) => carried.tx,
  },
  {
    name: 'fairlead_backend_received_datagrams_total',
    type: 'counter',
    help: 'Datagrams received from the backend; udp only.',
    value: ({ server, carried }) => (server.datagrams ? carried.responses : undefined),
  },
  {
    name: 'fairlead_backend_sent_datagrams_total',
    type: 'counter',
    help: 'Datagrams of clients sent to the backend; udp only.',
    value: ({ server, carried }) => (server.datagrams ? carried.requests : undefined),
  },
]

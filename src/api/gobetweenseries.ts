// The names and helps gobetween has, all of them gauges, for dashboards that know them.

import type { BackendView, Series, ServerView } from './series.ts'

export const BUILD_HELP =
  "A metric with a constant '1' value labeled by version, revision, branch, and goversion from which gobetween was built."

const server = (name: string, help: string, value: (view: ServerView) => number): Series<ServerView> => ({
  name: `gobetween_server_${name}`,
  type: 'gauge',
  help,
  value,
})

const backend = (
  name: string,
  help: string,
  value: (view: BackendView) => number | undefined,
): Series<BackendView> => ({ name: `gobetween_backend_${name}`, type: 'gauge', help, value })

// Spelt as gobetween spells them.
export const GOBETWEEN_SERVER_SERIES = [
  server('count', 'Server Count.', ({ server }) => server.pool.size),
  server('active_connections', 'Server Actice Connections.', ({ server }) => server.room.size),
  server('rx_total', 'Server Rx Total.', ({ carried }) => carried.rx),
  server('tx_total', 'Server Tx Total.', ({ carried }) => carried.tx),
  server('rx_second', 'Server Rx per Second.', ({ carried }) => carried.rxSecond),
  server('tx_second', 'Server Tx per Second.', ({ carried }) => carried.txSecond),
]

export const GOBETWEEN_BACKEND_SERIES = [
  backend('active_connections', 'Backend Actice Connections.', ({ server, backend }) =>
    server.active(backend),
  ),
  backend('refused_connections', 'Backend Refused Connections.', ({ backend }) => backend.refused),
  backend('total_connections', 'Backend Total Connections.', ({ server, backend }) =>
    server.pool.traffic.connects(backend.row),
  ),
  backend('rx_bytes', 'Backend Rx Bytes.', ({ carried }) => carried.rx),
  backend('tx_bytes', 'Backend Tx Bytes.', ({ carried }) => carried.tx),
  backend('rx_second', 'Backend Rx per Second.', ({ carried }) => carried.rxSecond),
  backend('tx_second', 'Backend Tx per Second.', ({ carried }) => carried.txSecond),
  // Only once there is a result, as there.
  backend('live', 'Backend Alive.', ({ server, backend }) =>
    server.lastCheck(backend) ? Number(backend.healthy) : undefined,
  ),
]

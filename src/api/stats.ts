// A server's statistics as the API tells them: gobetween's keys in gobetween's order, then ours.

import { hostText, portText } from '../core/address.ts'
import { drains } from '../pool/backend.ts'
import type { Backend } from '../pool/backend.ts'
import type { Server } from '../server/server.ts'
import { Chunks } from './chunks.ts'
import { addList, goJson, mapped } from './gojson.ts'
import { goTime } from './gotime.ts'

/** What `GET /servers/NAME/stats` answers, made in slices: a server may have thousands of backends. */
export async function addStats(to: Chunks, server: Server): Promise<void> {
  const { rx, tx, rxSecond, txSecond, requests, responses } = server.pool.traffic.total()
  const { refusals, endings } = server.totals
  const around = {
    active_connections: server.room.size,
    rx_total: rx,
    tx_total: tx,
    rx_second: rxSecond,
    tx_second: txSecond,
    backends: null,
    refusals,
    endings,
    queued: server.queued,
    ...(server.datagrams && { requests_total: requests, responses_total: responses, dropped: server.drops }),
    ...(server.pool.panic && { panic: true }),
  }
  const [before, after] = goJson(around).split(/(?<="backends": )null/)
  to.add(before!)
  // Walked while it lives: a backend that goes meanwhile is not met any more.
  const backends = mapped(server.pool.backends, (each) => backendStats(server, each))
  await addList(to, backends, 1)
  to.add(after!)
}

/** The same as one text, for those in no hurry. */
export async function statsText(server: Server): Promise<string> {
  const chunks = new Chunks()
  await addStats(chunks, server)
  return Buffer.concat(chunks.pieces()).toString()
}

function backendStats(server: Server, backend: Backend) {
  const { address, priority, weight, maxConnections, sni } = backend.found
  const { rx, tx, rxSecond, txSecond, requests, responses } = server.pool.traffic.of(backend.row)
  return {
    host: hostText(address),
    port: portText(address),
    priority,
    weight,
    ...(maxConnections > 0 && { max_connections: maxConnections }),
    ...(sni !== '' && { sni }),
    stats: {
      // A name without addresses answers nobody, whatever the last check said.
      live: backend.healthy && !backend.ejected && backend.endpoints.length > 0,
      discovered: backend.discovered,
      total_connections: server.pool.traffic.connects(backend.row),
      active_connections: server.active(backend),
      refused_connections: backend.refused,
      rx,
      tx,
      rx_second: rxSecond,
      tx_second: txSecond,
      ...(server.datagrams && { requests, responses }),
    },
    last_check: lastCheck(server, backend),
    drain: drains(backend),
    ...(backend.ejected && { ejected: true }),
  }
}

function lastCheck(server: Server, backend: Backend) {
  const last = server.lastCheck(backend)
  if (!last) return null
  const { at, status, reason, ms } = last
  return { at: goTime(at), status, reason, ms: Math.round(ms * 1000) / 1000 }
}

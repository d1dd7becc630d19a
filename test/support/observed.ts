// What an operator sees of servers in this process: statistics as the API tells them, and log lines.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { Chunks } from '../../src/api/chunks.ts'
import { addStats } from '../../src/api/stats.ts'
import { configureLogging } from '../../src/core/log.ts'
import type { Manager } from '../../src/manager/manager.ts'
import { folder } from './folder.ts'
import { until } from './until.ts'

export interface BackendView {
  host: string
  port: string
  stats: {
    live: boolean
    discovered: boolean
    total_connections: number
    active_connections: number
    refused_connections: number
    rx: number
    tx: number
    /** Datagrams, of a server that has sessions. */
    requests?: number
    responses?: number
  }
  drain?: boolean
  last_check: { at: string; status: string; reason: string; ms: number } | null
}

export interface StatsView {
  active_connections: number
  rx_total: number
  tx_total: number
  backends: BackendView[]
  refusals: Record<string, number>
  endings: Record<string, number>
  queued: number
  requests_total?: number
  responses_total?: number
  dropped?: Record<string, number>
}

/** The statistics of a running server. */
export async function statsOf(manager: Manager, name = 'web'): Promise<StatsView> {
  const text = new Chunks()
  await addStats(text, manager.servers.get(name)!)
  return JSON.parse(Buffer.concat(text.pieces()).toString()) as StatsView
}

/** Those of one backend, by `host:port`. */
export async function backendStats(manager: Manager, address: string): Promise<BackendView | undefined> {
  const { backends } = await statsOf(manager)
  return backends.find(({ host, port }) => `${host}:${port}` === address)
}

/** Waits until the statistics of `web` are as `matches` wants them, and returns them. */
export async function statsUntil(
  manager: Manager,
  what: string,
  matches: (stats: StatsView) => boolean,
  limitMs?: number,
): Promise<StatsView> {
  let last = await statsOf(manager)
  const check = async () => matches((last = await statsOf(manager)))
  await until(check, what, limitMs).catch((error: Error) => {
    throw new Error(`${error.message}; last seen: ${JSON.stringify(last)}`)
  })
  return last
}

/** Sends what is logged from now on to a file of this test; resolves with all that was logged by then. */
export function logged(t: Test): () => Promise<string> {
  const output = join(folder(t), 'log')
  const toFile = () => configureLogging({ level: 'info', output, format: 'text' })
  void toFile()
  t.teardown(() => configureLogging({ level: 'panic', output: 'stderr', format: 'text' }))
  return async () => {
    await toFile()
    return readFileSync(output, 'utf8')
  }
}

/** A server's JSON on a free port of 127.0.0.1 with a static list, changed by `more`. */
export function serving(list: readonly { address: string }[] | readonly string[], more: object = {}): object {
  const lines = list.map((each) => (typeof each === 'string' ? each : each.address))
  return { bind: '127.0.0.1:0', discovery: { kind: 'static', static_list: lines }, ...more }
}

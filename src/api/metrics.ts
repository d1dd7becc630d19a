// The metrics endpoint: what Prometheus scrapes.

import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { pipeline } from 'node:stream'
import type { Registry } from 'prom-client'
import type { Config } from '../config/read.ts'
import { messageOf } from '../core/errors.ts'
import { logger } from '../core/log.ts'
import type { Manager } from '../manager/manager.ts'
import { lengthOf, streamOf } from './chunks.ts'
import { listenOn, PATIENCE } from './listening.ts'
import type { Listener } from './listening.ts'
import { scrape } from './scrape.ts'

const log = logger('metrics')

export type MetricsSettings = Config['metrics']

const TEXT = 'text/plain; charset=utf-8'

/**
 * Serves `/metrics`. An address that cannot be had is logged and nothing listens then: the balancer runs on.
 */
export async function startMetrics(
  settings: MetricsSettings,
  manager: Manager,
  { version }: { readonly version: string },
): Promise<Listener> {
  const { processMetrics } = await import('./process.ts')
  const render = shared(() => rendering(manager, version, settings.gobetween, registry))
  const registry = processMetrics()
  const server = createServer(PATIENCE, (request, response) => void answer(request, response, render))
  try {
    // The schema wants a bind where `enabled` is true.
    const listener = await listenOn(server, settings.bind!, 'the metrics endpoint')
    log.info(`metrics on ${listener.addresses.join(', ')}`)
    return listener
  } catch (error) {
    log.error(messageOf(error))
    return { addresses: [], close: async () => {} }
  }
}

type Render = () => Promise<readonly Buffer[]>

async function rendering(manager: Manager, version: string, gobetween: boolean, registry: Registry) {
  const own = await scrape(manager, { version, gobetween })
  await new Promise(setImmediate)
  return [...own, Buffer.from(await registry.metrics())]
}

/** Those who ask while one is being made get that one. */
function shared(render: Render): Render {
  let running: ReturnType<Render> | undefined
  return () => (running ??= render().finally(() => (running = undefined)))
}

async function answer(request: IncomingMessage, response: ServerResponse, render: Render): Promise<void> {
  const path = request.url!.split('?')[0]
  const known = request.method === 'GET' || request.method === 'HEAD'
  if (known && path === '/metrics') return answerMetrics(response, render)
  if (known && path === '/') return say(response, 200, 'metrics are at /metrics\n')
  say(response, 404, '404 page not found\n')
}

async function answerMetrics(response: ServerResponse, render: Render): Promise<void> {
  try {
    const pieces = await render()
    response.writeHead(200, {
      'Content-Type': 'text/plain; version=0.0.4; charset=utf-8',
      'Content-Length': lengthOf(pieces),
    })
    // A caller that leaves before the end is no fault.
    pipeline(streamOf(pieces), response, () => {})
  } catch (error) {
    log.error(error instanceof Error ? (error.stack ?? error.message) : String(error))
    say(response, 500, `${messageOf(error)}\n`)
  }
}

function say(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'Content-Type': TEXT, 'Content-Length': Buffer.byteLength(text) })
  response.end(text)
}

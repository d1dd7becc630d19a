// The routes, as gobetween has them: what each answers, and nothing of how.

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { dump, serverObject } from '../config/encode.ts'
import { FORMATS } from '../config/parse.ts'
import type { Format } from '../config/parse.ts'
import { logger } from '../core/log.ts'
import type { Manager } from '../manager/manager.ts'
import { aboutObject } from './about.ts'
import type { About } from './about.ts'
import { readBody } from './body.ts'
import { Chunks, lengthOf, streamOf } from './chunks.ts'
import { addObject, goJson, mapped } from './gojson.ts'
import { discoveryObject } from './discovery.ts'
import type { Descriptions } from './openapi.ts'
import { UnknownFormatError } from './problem.ts'
import { addStats } from './stats.ts'

interface Named {
  Params: { name: string }
}

const log = logger('api')

/** Sends `text`, which is JSON already. */
export function sendJson(reply: FastifyReply, text: string): FastifyReply {
  return reply.type('application/json; charset=utf-8').send(text)
}

/** Sends what has been gathered, which is JSON. */
function sendGathered(reply: FastifyReply, chunks: Chunks): FastifyReply {
  const pieces = chunks.pieces()
  reply.type('application/json; charset=utf-8').header('Content-Length', lengthOf(pieces))
  return reply.send(streamOf(pieces))
}

/** Sends `text` as it is. */
export function sendText(reply: FastifyReply, text: string): FastifyReply {
  return reply.type('text/plain; charset=utf-8').send(text)
}

/** The routes that need no password. */
export function openRoutes(app: FastifyInstance, schemas: Descriptions): void {
  app.get('/ping', { schema: schemas.ping }, (_request, reply) => sendText(reply, 'OK'))
}

/** All others. */
export function guardedRoutes(
  app: FastifyInstance,
  schemas: Descriptions,
  manager: Manager,
  about: About,
): void {
  app.get('/', { schema: schemas.about }, (_request, reply) =>
    sendJson(reply, goJson(aboutObject(about, manager.context.clock.date()))),
  )

  app.get('/dump', { schema: schemas.dump }, (request, reply) => sendText(reply, dumpOf(manager, request)))

  app.get('/servers', { schema: schemas.servers }, async (_request, reply) => {
    const gathered = new Chunks()
    await addObject(gathered, configsByName(manager))
    return sendGathered(reply, gathered)
  })

  app.get<Named>('/servers/:name', { schema: schemas.server }, (request, reply) => {
    const server = manager.servers.get(request.params.name)
    return sendJson(reply, server ? goJson(serverObject(server.config)) : 'null')
  })

  app.get<Named>('/servers/:name/stats', { schema: schemas.stats }, async (request, reply) => {
    const server = manager.servers.get(request.params.name)
    if (!server) return sendJson(reply, 'null')
    const gathered = new Chunks()
    await addStats(gathered, server)
    return sendGathered(reply, gathered)
  })

  app.get<Named>('/servers/:name/discovery', { schema: schemas.discovery }, (request, reply) => {
    const server = manager.servers.get(request.params.name)
    return sendJson(reply, server ? goJson(discoveryObject(server)) : 'null')
  })

  app.post<Named>('/servers/:name', { schema: schemas.create }, async (request, reply) => {
    const input = readBody((request.body as string | undefined) ?? '')
    const warnings = await manager.create(request.params.name, input)
    for (const { path, message } of warnings) log.warn(`${path}: ${message}`)
    return sendJson(reply, 'null')
  })

  app.delete<Named>('/servers/:name', { schema: schemas.remove }, async (request, reply) => {
    await manager.remove(request.params.name)
    return sendJson(reply, 'null')
  })

  app.get('/openapi.json', { schema: { hide: true } }, (_request, reply) =>
    sendJson(reply, goJson(app.swagger())),
  )
}

function dumpOf({ config, servers }: Manager, request: FastifyRequest): string {
  const { format = 'toml', secrets } = request.query as Record<string, unknown>
  if (!isFormat(format)) throw new UnknownFormatError(String(format))
  const running = mapped(servers.values(), (server) => server.config)
  return dump(config, running, format, { secrets: secrets === 'true' })
}

function isFormat(value: unknown): value is Format {
  return (FORMATS as readonly unknown[]).includes(value)
}

/** All servers sorted by name, as Go prints a map. */
function configsByName({ servers }: Manager): Iterable<readonly [string, unknown]> {
  const byName = [...servers.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
  return mapped(byName, ({ name, config }) => [name, serverObject(config)] as const)
}

// The REST API: a fastify application around the routes, on a listener of ours.
//
//      request ─► CORS ─► trailing slash ─► password ─► body ─► route ─► answer
//                                └► /ping, and whatever is not there

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { createServer } from 'node:http'
import type { RequestListener, Server } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { Config } from '../config/read.ts'
import { sourceName } from '../config/source.ts'
import { logger } from '../core/log.ts'
import type { Manager } from '../manager/manager.ts'
import type { About } from './about.ts'
import { basicAuth, CHALLENGE } from './auth.ts'
import { corsHeaders } from './cors.ts'
import { goJson } from './gojson.ts'
import { listenOn, PATIENCE } from './listening.ts'
import type { Listener } from './listening.ts'
import { problemOf } from './problem.ts'
import { guardedRoutes, openRoutes, sendText } from './routes.ts'
import { readKeyPair } from './tls.ts'
import type { KeyPair } from './tls.ts'

export type Api = Listener
export type ApiSettings = Config['api']

/** Largest body taken. */
const MOST_BYTES = 4 * 1024 * 1024

/** A name in a path may be as long as Node lets a request's head be. */
const LONGEST_NAME = 16 * 1024

/**
 * Serves the REST API over `manager`. Rejects with `ListenError` when the address cannot be had and with
 * `ConfigError` when `tls` cannot be used. What it needs is loaded here, so a balancer without API does not.
 */
export async function startApi(settings: ApiSettings, manager: Manager, about: About): Promise<Api> {
  const source = sourceName({ origin: about.origin, substitute: false })
  const pair = settings.tls && (await readKeyPair(settings.tls, source))
  const { app, server } = await build(settings, manager, about, pair)
  // The schema wants a bind where `enabled` is true.
  const listener = await listenOn(server, settings.bind!, 'the REST API')
  logger('api').info(`REST API on ${listener.addresses.join(', ')}${pair ? ' (https)' : ''}`)
  return {
    addresses: listener.addresses,
    close: async () => {
      await listener.close()
      await app.close()
    },
  }
}

async function build(settings: ApiSettings, manager: Manager, about: About, pair: KeyPair | undefined) {
  const [{ fastify }, { default: swagger }, openapi] = await Promise.all([
    import('fastify'),
    import('@fastify/swagger'),
    import('./openapi.ts'),
  ])
  let server!: Server
  const app: FastifyInstance = fastify({
    serverFactory: (handler) => (server = serverFor(handler, pair)),
    bodyLimit: MOST_BYTES,
    routerOptions: { maxParamLength: LONGEST_NAME, ignoreTrailingSlash: true },
    frameworkErrors: (error, _request, reply) => void answerProblem(error, reply),
  })
  const { basic_auth, cors } = settings
  // Schemas describe; a body is judged by the manager, and answers are text when they get here.
  app.setValidatorCompiler(() => () => true)
  app.setSerializerCompiler(() => String)
  app.setErrorHandler((error, _request, reply) => answerProblem(error, reply))
  app.setNotFoundHandler((_request, reply) => sendText(reply.code(404), '404 page not found'))
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'string' }, (_request, body, done) => done(null, body))
  app.addHook('onRequest', ignoreContentType)
  if (cors) app.addHook('onRequest', allowOthers)
  app.addHook('onRequest', withoutTrailingSlash)

  await app.register(swagger, openapi.document(about.version, basic_auth !== undefined))
  const schemas = openapi.descriptions()
  openRoutes(app, schemas)
  await app.register(async (guarded) => {
    if (basic_auth) guarded.addHook('onRequest', passwordHook(basic_auth.login, basic_auth.password))
    guardedRoutes(guarded, schemas, manager, about)
  })
  await app.ready()
  return { app, server }
}

function serverFor(handler: RequestListener, pair: KeyPair | undefined): Server {
  return pair ? createSecureServer({ ...PATIENCE, ...pair }, handler) : createServer(PATIENCE, handler)
}

function answerProblem(error: unknown, reply: FastifyReply): FastifyReply {
  const { status, message, type } = problemOf(error)
  return reply.code(status).type(type).send(goJson(message))
}

function passwordHook(login: string, password: string) {
  const allows = basicAuth(login, password)
  return async (request: FastifyRequest, reply: FastifyReply) => {
    if (!allows(request.headers.authorization))
      return reply.code(401).header('WWW-Authenticate', CHALLENGE).send()
  }
}

/** curl --data says its JSON is a form: whatever a body is called, it is read as JSON. */
async function ignoreContentType({ raw }: FastifyRequest) {
  delete raw.headers['content-type']
}

/** Before the password is asked for: browsers send none with a preflight. */
async function allowOthers(request: FastifyRequest, reply: FastifyReply) {
  const headers = corsHeaders(request.method, request.headers)
  if (!headers) return
  reply.headers(headers)
  if (request.method === 'OPTIONS') return reply.code(204).send()
}

/** A path that would be there without its last slash is found there, as gobetween says. */
async function withoutTrailingSlash({ raw, method, is404 }: FastifyRequest, reply: FastifyReply) {
  const [path = '', ...query] = raw.url!.split('?')
  if (is404 || path === '/' || !path.endsWith('/')) return
  return reply.redirect([path.replace(/\/+$/, ''), ...query].join('?'), method === 'GET' ? 301 : 307)
}

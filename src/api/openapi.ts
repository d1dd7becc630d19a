// What each route takes and answers, in the words of OpenAPI 3.1. It describes and never judges.

import { jsonSchema } from '../config/reference.ts'
import { ENDINGS, REFUSALS } from '../core/reasons.ts'
import { NO_DROPS } from '../plane/plane.ts'

type Json = Readonly<Record<string, unknown>>

const text = { type: 'string' }
const integer = { type: 'integer' }
const boolean = { type: 'boolean' }

const object = (properties: Json, optional: readonly string[] = []): Json => ({
  type: 'object',
  properties,
  required: Object.keys(properties).filter((key) => !optional.includes(key)),
})
const orNull = (schema: Json): Json => ({ oneOf: [schema, { type: 'null' }] })
const answer = (description: string, schema: Json, type = 'application/json'): Json => ({
  description,
  content: { [type]: { schema } },
})
const counts = (reasons: readonly string[]) =>
  object(Object.fromEntries(reasons.map((each) => [each, integer])))

const backend = object(
  {
    host: { ...text, description: 'IPv6 in brackets' },
    port: text,
    priority: integer,
    weight: integer,
    max_connections: { ...integer, description: 'left out when unlimited' },
    sni: { ...text, description: 'left out when empty' },
    stats: object(
      {
        live: boolean,
        discovered: boolean,
        total_connections: integer,
        active_connections: integer,
        refused_connections: integer,
        rx: { ...integer, description: 'bytes from the backend' },
        tx: { ...integer, description: 'bytes to the backend' },
        rx_second: integer,
        tx_second: integer,
        requests: { ...integer, description: 'datagrams to the backend; udp only' },
        responses: { ...integer, description: 'datagrams from the backend; udp only' },
      },
      ['requests', 'responses'],
    ),
    last_check: orNull(object({ at: text, status: text, reason: text, ms: { type: 'number' } })),
    drain: { ...boolean, description: 'takes no new connections' },
    ejected: { ...boolean, description: 'kept out because of how real clients fared; left out otherwise' },
  },
  ['max_connections', 'sni', 'ejected'],
)

const stats = object(
  {
    active_connections: integer,
    rx_total: { ...integer, description: 'bytes from backends to clients' },
    tx_total: { ...integer, description: 'bytes from clients to backends' },
    rx_second: integer,
    tx_second: integer,
    backends: { type: 'array', items: backend },
    refusals: counts(REFUSALS),
    endings: counts(ENDINGS),
    queued: { ...integer, description: 'clients that wait for a place' },
    requests_total: { ...integer, description: 'datagrams from clients to backends; udp only' },
    responses_total: { ...integer, description: 'datagrams from backends to clients; udp only' },
    dropped: { ...counts(Object.keys(NO_DROPS)), description: 'datagrams dropped, by why; udp only' },
    panic: { ...boolean, description: 'all backends are elected, healthy or not; left out otherwise' },
  },
  ['panic', 'requests_total', 'responses_total', 'dropped'],
)

const names = object({
  count: integer,
  first: { type: 'array', items: text, description: 'at most 100 of them' },
})

const source = object({
  kind: text,
  source: { ...text, description: 'what is asked' },
  push: {
    type: 'string',
    enum: ['none', 'connected', 'lost'],
    description: 'whether changes are heard of at once',
  },
  last_success: orNull(text),
  last_error: orNull(object({ at: text, message: text })),
  age_seconds: orNull({ type: 'number', description: 'since the last good answer' }),
  failing: { ...boolean, description: 'the last question failed' },
  asks: integer,
  failures: integer,
  revision: { ...integer, description: 'lists taken over' },
  backends: { ...integer, description: 'in the list taken over last' },
  restored: { ...boolean, description: 'the list is from an earlier run; nobody has answered since' },
  stale: { ...boolean, description: 'older than max_staleness' },
  held: orNull(object({ since: text, backends: { ...integer, description: 'that the last answer lacks' } })),
  waiting: { ...integer, description: 'backends that came back too often and wait' },
  rejected: { type: 'array', items: text, description: 'entries of the last answer that could not be used' },
  last_change: orNull(object({ at: text, added: names, removed: names, changed: names })),
})

const discovery = object({ kind: text, sources: { type: 'array', items: source } })

const about = object({
  configuration: object({ kind: text }),
  pid: integer,
  startTime: text,
  time: text,
  uptime: text,
  version: text,
})

const server = { type: 'object', description: 'a server: what was posted, every default filled in' }
const params = object({ name: { ...text, description: 'name of the server' } })
const unauthorized = { 401: { description: 'login or password is missing or wrong; no body' } }

/** For fastify: the description of each route. Costs some milliseconds, so it is made when the API starts. */
export function descriptions() {
  return {
    ping: {
      summary: 'Is the API there? Asks for no password',
      response: { 200: answer('`OK`', text, 'text/plain') },
    },
    about: {
      summary: 'The program',
      response: { 200: answer('since when what runs', about), ...unauthorized },
    },
    dump: {
      summary: 'The configuration with the servers that run now',
      querystring: object(
        {
          format: { type: 'string', enum: ['toml', 'json'], default: 'toml' },
          secrets: { type: 'string', enum: ['true', 'false'], default: 'false' },
        },
        ['format', 'secrets'],
      ),
      response: {
        200: answer('a configuration file', text, 'text/plain'),
        500: answer('unknown format', text),
        ...unauthorized,
      },
    },
    servers: {
      summary: 'All servers by name',
      response: {
        200: answer('name to server', { type: 'object', additionalProperties: server }),
        ...unauthorized,
      },
    },
    server: {
      summary: 'One server',
      params,
      response: { 200: answer('null when there is none', orNull(server)), ...unauthorized },
    },
    stats: {
      summary: 'Statistics of one server',
      params,
      response: { 200: answer('null when there is no such server', orNull(stats)), ...unauthorized },
    },
    discovery: {
      summary: 'How the discovery of one server is doing',
      params,
      response: { 200: answer('null when there is no such server', orNull(discovery)), ...unauthorized },
    },
    create: {
      summary: 'Create a server',
      params,
      body: serverSchema(),
      response: {
        200: answer('it listens', { type: 'null' }),
        400: answer('the body is not a JSON object', text, 'text/plain'),
        409: answer('it cannot be created, and why; nothing has changed', text),
        413: answer('the body is larger than 4 MiB', text),
        ...unauthorized,
      },
    },
    remove: {
      summary: 'Remove a server and close its connections',
      params,
      response: { 200: answer('it is gone, or never was there', { type: 'null' }), ...unauthorized },
    },
  }
}

export type Descriptions = ReturnType<typeof descriptions>

/** For `@fastify/swagger`: the document around the routes. */
export function document(version: string, authenticated: boolean) {
  const guarded = { components: { securitySchemes: { basic: { type: 'http' as const, scheme: 'basic' } } } }
  return {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'fairlead', description: 'A Layer-4 load balancer', version },
      ...(authenticated && { ...guarded, security: [{ basic: [] }] }),
    },
  }
}

/** One server as the configuration's own JSON Schema has it. */
function serverSchema(): Json {
  const { properties } = jsonSchema() as { properties: { servers: { additionalProperties: Json } } }
  return properties.servers.additionalProperties
}

// A conversation with a Consul agent: the keys that say how to reach it, and the questions it is asked.

import { EventEmitter } from 'node:events'
import type { ClientRequest, IncomingMessage } from 'node:http'
import { Agent as HttpAgent } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import { z } from 'zod'
import { isUnix, parseBackendAddress } from '../../core/address.ts'
import { DiscoveryError, messageOf } from '../../core/errors.ts'
import type { Problem } from '../../core/errors.ts'
import { flag, name, text } from '../../core/settings.ts'
import type { Settings } from '../../core/settings.ts'
import { secureContext } from '../../core/trust.ts'
import { certificateConflicts, readCertificates } from '../reading/certificates.ts'
import { quote } from '../reading/options.ts'

/** Larger answers are refused while they come. */
const MOST_MIB = 16
/** How long Consul keeps a question open, and up to a sixteenth more so that clients do not come together. */
const WAIT_S = 30
/** Longest a question may take that is not kept open. */
const SOON_MS = 60_000
const LATEST_MS = WAIT_S * 1_000 * (1 + 1 / 16) + 5_000

/** How an agent is reached. */
export const agentSettings = {
  consul_host: name()
    .refine((host) => placeOf(host) !== undefined, { error: 'host:port or unix:///path' })
    .describe('Consul agent to ask, host:port or unix:///path.'),
  consul_datacenter: text().default('').describe('Datacenter to ask for; empty is that of the agent.'),
  consul_service_datacenter: text().default('').describe('Another name of consul_datacenter.'),
  consul_auth_username: text()
    .default('')
    .describe('User name for HTTP basic auth at the agent; empty sends none.'),
  consul_auth_password: text().default('').describe('Password for HTTP basic auth at the agent.'),
  consul_acl_token: text()
    .default('')
    .describe('ACL token for the agent; it needs service:read for the service, and node:read.'),
  consul_tls_enabled: flag().default(false).describe('Asks the agent over TLS.'),
  consul_tls_cert_path: text().default('').describe('File with the client certificate, PEM.'),
  consul_tls_key_path: text()
    .default('')
    .describe('File with the private key of the client certificate, PEM.'),
  consul_tls_cacert_path: text()
    .default('')
    .describe('File with the CA certificates to trust, PEM; empty trusts those of the system and of Node.'),
}

type AgentSettings = Settings<typeof agentSettings>

/** What is wrong between them. */
export function agentConflicts(settings: AgentSettings): readonly Problem[] {
  const { consul_datacenter: datacenter, consul_service_datacenter: alias } = settings
  const problems = certificateConflicts('consul', settings)
  if (datacenter && alias && datacenter !== alias)
    problems.push({
      path: 'consul_service_datacenter',
      message: `what consul_datacenter says, ${quote(datacenter)}`,
    })
  return problems
}

/** What is asked for. */
export interface Wanted {
  readonly service: string
  /** Empty takes all. */
  readonly tag: string
  readonly passing: boolean
}

/** A good answer, not read yet. */
export interface Said {
  /** How far it goes in the history of the service, a number. */
  readonly index: string
  readonly body: Buffer
}

/** Questions reject with a sentence unless the answer is a good one. */
export interface Agent {
  /** The instances of a service; with `index` once they are past it, or half a minute later. */
  instances(wanted: Wanted, index?: string): Promise<Said>
  /** Whether ACLs let us read a service and the nodes it is on; undefined when nobody says. */
  mayRead(service: string): Promise<boolean | undefined>
}

/**
 * Talks with the agent; every connection is closed when this settles. Rejects with a DiscoveryError, or with the
 * signal's reason when that aborts. Certificates are read anew each time.
 */
export async function conversation<T>(
  settings: AgentSettings,
  signal: AbortSignal,
  talk: (agent: Agent) => Promise<T>,
): Promise<T> {
  signal.throwIfAborted()
  const context = new Context()
  const cancel = () => context.cancel()
  const client = await connect(settings)
  signal.addEventListener('abort', cancel)
  try {
    signal.throwIfAborted()
    return await talk(agentOf(client, settings, context))
  } catch (error) {
    throw signal.aborted ? (signal.reason as Error) : sentence(error)
  } finally {
    signal.removeEventListener('abort', cancel)
    client.destroy()
  }
}

/** What the client wants to know of the caller: whether he has left, and that he wants to see headers. */
class Context extends EventEmitter {
  readonly includeResponse = true
  canceled = false

  cancel(): void {
    this.canceled = true
    this.emit('cancel')
  }
}

type Response = IncomingMessage & { body?: Buffer }

/** The client, with what its own types leave out. */
interface Client {
  readonly health: { service(question: object): Promise<[Response, Buffer | undefined]> }
  _post(question: object): Promise<Response>
  _ext(event: 'onRequest', extension: (asking: Asking, next: () => void) => void): void
  destroy(): void
}

/** A request of the client that is about to be made. */
interface Asking {
  /** The options of `http.request`. */
  readonly req: object
  transport: { request(options: object): ClientRequest }
  readonly opts: { buffer?: boolean }
}

async function connect(settings: AgentSettings): Promise<Client> {
  const { default: Consul } = await import('consul')
  const { consul_tls_enabled: secure, consul_auth_username: user, consul_auth_password: password } = settings
  const auth = Buffer.from(`${user}:${password}`).toString('base64')
  const options = {
    secure,
    agent: secure
      ? new HttpsAgent({
          keepAlive: true,
          secureContext: secureContext(await readCertificates('consul', settings)),
        })
      : new HttpAgent({ keepAlive: true }),
    ...(user && { headers: { authorization: `Basic ${auth}` } }),
  }
  const client = new Consul(options) as unknown as Client
  client._ext('onRequest', (asking, next) => {
    const { transport } = asking
    asking.transport = { request: (options) => bounded(transport.request(options)) }
    asking.opts.buffer = true
    // By itself it takes neither a socket nor an IPv6 address.
    Object.assign(asking.req, placeOf(settings.consul_host))
    next()
  })
  return client
}

function placeOf(host: string) {
  const address = parseBackendAddress(host)
  if (!address) return undefined
  if (isUnix(address)) return { socketPath: address.path }
  return address.port > 0 ? { hostname: address.host, port: address.port } : undefined
}

/** The client would collect any amount, and wait for ever for the rest of an answer that was cut off. */
function bounded(request: ClientRequest): ClientRequest {
  return request.on('response', (response: IncomingMessage) => {
    let size = 0
    response.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size > MOST_MIB * 1024 * 1024)
        request.destroy(new DiscoveryError(`Consul answered with more than ${MOST_MIB} MiB`))
    })
    response.on('error', () => request.emit('error', new DiscoveryError('Consul cut its answer off')))
  })
}

function agentOf(client: Client, settings: AgentSettings, ctx: Context): Agent {
  const { consul_acl_token: token } = settings
  const dc = settings.consul_datacenter || settings.consul_service_datacenter
  return {
    async instances(wanted, index) {
      // A connection that died without a word must not keep a watch waiting, at its first question neither.
      const blocking =
        index === undefined ? { timeout: SOON_MS } : { index, wait: `${WAIT_S}s`, timeout: LATEST_MS }
      const [{ headers }, body] = await client.health.service({ ...wanted, dc, token, ctx, ...blocking })
      return { index: indexOf(headers), body: body ?? Buffer.alloc(0) }
    },
    async mayRead(service) {
      const question = {
        name: 'acl.authorize',
        path: '/internal/acl/authorize',
        query: dc ? { dc } : {},
        headers: token ? { 'x-consul-token': token } : {},
        body: [
          { Resource: 'service', Access: 'read', Segment: service },
          { Resource: 'node', Access: 'read', Segment: '' },
        ],
        ctx,
      }
      try {
        const { body } = await client._post(question)
        return verdicts.safeParse(parsed(body)).data?.every(({ Allow }) => Allow)
      } catch (error) {
        // ACLs are off (401), or this Consul does not know the question.
        if ([401, 404, 405].includes(refusal(error)?.statusCode ?? 0)) return undefined
        throw error
      }
    },
  }
}

/** Whoever gives no index, or knows no leader, does not know the instances either. */
function indexOf(headers: Response['headers']): string {
  if (headers['x-consul-knownleader'] === 'false') throw new DiscoveryError('Consul has no leader')
  const index = headers['x-consul-index']
  if (typeof index === 'string' && /^\d*[1-9]\d*$/.test(index)) return index
  throw new DiscoveryError(
    `expected a number as X-Consul-Index, got ${quote(String(index))}; is this Consul?`,
  )
}

const verdicts = z.array(z.object({ Allow: z.boolean() }))

function parsed(body: Buffer | undefined): unknown {
  try {
    return JSON.parse(String(body))
  } catch {
    // Not a verdict.
    return undefined
  }
}

/** The response with another status than success that a question was rejected with. */
function refusal(error: unknown): Response | undefined {
  const { isResponse, response } = error as { isResponse?: boolean; response?: Response }
  return isResponse ? response : undefined
}

/** What went wrong, as an operator needs it. The response stays behind: its request knows the token. */
function sentence(error: unknown): DiscoveryError {
  if (error instanceof DiscoveryError) return new DiscoveryError(plain(error))
  const response = refusal(error)
  if (!response) return new DiscoveryError(`cannot ask Consul: ${plain(error)}`)
  const { statusCode, body } = response
  const why = body?.length ? `: ${quote(body.toString('utf8', 0, 400).trim())}` : ''
  const hint = statusCode === 401 || statusCode === 403 ? '; is consul_acl_token right?' : ''
  return new DiscoveryError(`Consul answered ${statusCode}${why}${hint}`)
}

/** The client writes itself and the question in front. */
function plain(error: unknown): string {
  return messageOf(error).replace(/^consul: (\w+\.\w+: )?/, '')
}

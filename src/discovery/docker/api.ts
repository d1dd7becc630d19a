// A Docker engine asked over its HTTP API: answers of bounded size, and the stream of its events.

import { Agent } from 'node:http'
import type { ClientRequest, IncomingMessage } from 'node:http'
import { Agent as SecureAgent } from 'node:https'
import { addAbortSignal } from 'node:stream'
import { inspect } from 'node:util'
import { DiscoveryError, messageOf } from '../../core/errors.ts'
import { quiet } from '../../core/slices.ts'
import { secureContext } from '../../core/trust.ts'
import type { Trust } from '../../core/trust.ts'

/** What is read of an answer that only says why there is none, in bytes. */
const MOST_REASON = 16 * 1024

/** No event is longer, in characters. */
const MOST_LINE = 1024 * 1024

/** An engine that is gone without a word is noticed by the kernel, which asks after this long. */
const KEEP_ALIVE_MS = 30_000

/** Where an engine is asked. */
export type Endpoint = { readonly path: string } | Remote

interface Remote {
  readonly host: string
  readonly port: number
  readonly secure: boolean
}

/** Where an engine is asked whose endpoint names no port. */
const PORTS: Readonly<Record<string, number>> = { tcp: 2375, http: 80, https: 443 }

/**
 * Reads `unix:///path`, `tcp://host:port`, `http://host:port` or `https://host:port`; without a scheme it is tcp,
 * and without a port 2375, 80 or 443. Undefined when it is none of these.
 */
export function readEndpoint(text: string): Endpoint | undefined {
  const path = /^unix:(?:\/\/(?=\/))?(\/[^/].*)$/.exec(text)?.[1]
  if (path !== undefined) return { path }
  const remote = /^(?:(tcp|http|https):\/\/)?([^\s/@?#]+)\/?$/.exec(text)
  if (!remote || !URL.canParse(`tcp://${remote[2]}`)) return undefined
  const { hostname, port } = new URL(`tcp://${remote[2]}`)
  const scheme = remote[1] ?? 'tcp'
  if (hostname === '') return undefined
  return {
    host: hostname.replace(/^\[|\]$/g, ''),
    port: port === '' ? PORTS[scheme]! : Number(port),
    secure: scheme === 'https',
  }
}

/** What dockerode is asked with here. */
interface Modem {
  dial(
    options: {
      path: string
      method: 'GET'
      options: object
      isStream: true
      statusCodes: Readonly<Record<number, boolean>>
      abortSignal: AbortSignal
    },
    done: (error: Error | null, response: IncomingMessage) => void,
  ): void
}

/** Every status is ours to judge: dockerode would read the whole body of one it does not expect. */
const EVERY_STATUS = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [i, true]))

export class DockerApi {
  readonly #text: string
  readonly #endpoint: Endpoint
  readonly #certificates: (() => Promise<Trust>) | undefined

  /** Asks the engine at `text`, an endpoint; over TLS when there are `certificates` or it says so. Opens nothing. */
  constructor(text: string, certificates?: () => Promise<Trust>) {
    this.#text = text
    this.#endpoint = readEndpoint(text)!
    this.#certificates = certificates
  }

  /**
   * One answer, of at most `mostBytes`. Rejects with a sentence for the operator; when aborted, with the signal's
   * reason.
   */
  async get(path: string, query: object, mostBytes: number, signal: AbortSignal): Promise<Buffer> {
    const response = await this.#request(path, query, signal)
    return this.#read(response, mostBytes, signal)
  }

  /**
   * The events that match `filters`, until the engine ends them. Calls `established` once it will send them.
   * Rejects with what went wrong, and when aborted.
   */
  async *events(filters: object, signal: AbortSignal, established: () => void): AsyncGenerator<unknown> {
    const response = await this.#request('/events', { filters }, signal)
    established()
    for await (const line of this.#lines(response, signal)) {
      if (line.trim() === '') continue
      yield this.#event(line)
    }
  }

  #event(line: string): unknown {
    try {
      return JSON.parse(line)
    } catch {
      throw this.#fault('sent an event that is not JSON')
    }
  }

  /** An answer of status 200 whose body has yet to be read; it ends with `signal`. */
  async #request(path: string, query: object, signal: AbortSignal): Promise<IncomingMessage> {
    const response = await this.#dial(path, query, signal)
    if (response.statusCode === 200) return response
    const body = await this.#read(response, MOST_REASON, signal).catch(() => Buffer.of())
    signal.throwIfAborted()
    throw this.#fault(`answered ${path} with status ${response.statusCode}${reasonIn(body.toString())}`, {
      status: response.statusCode,
    })
  }

  async #dial(path: string, query: object, signal: AbortSignal): Promise<IncomingMessage> {
    try {
      const modem = await this.#modem()
      signal.throwIfAborted()
      return await new Promise((resolve, reject) => {
        // dockerode appends a query only to a path that ends in a question mark.
        const asked = { path: `${path}?`, method: 'GET', options: query, isStream: true } as const
        modem.dial({ ...asked, statusCodes: EVERY_STATUS, abortSignal: signal }, (error, response) => {
          if (error) return reject(error)
          // What follows the headers is read later: until then its end is nobody's fault.
          response.on('error', () => {})
          resolve(addAbortSignal(signal, response))
        })
      })
    } catch (error) {
      signal.throwIfAborted()
      throw new DiscoveryError(`cannot ask the Docker engine at ${this.#text}: ${messageOf(error)}`, {
        cause: error,
      })
    }
  }

  /** One for every question: it ends with it, and certificates may have been renewed. */
  async #modem(): Promise<Modem> {
    const { default: Docker } = await import('dockerode')
    const agent = await this.#agent()
    // Said in full: what is left out dockerode takes from DOCKER_HOST and its like.
    const all = { agent, ca: undefined, cert: undefined, key: undefined, timeout: undefined, headers: {} }
    const endpoint = this.#endpoint
    const where =
      'path' in endpoint
        ? { socketPath: endpoint.path, host: undefined, port: undefined, protocol: 'http' as const }
        : {
            socketPath: undefined,
            host: endpoint.host,
            port: endpoint.port,
            protocol: this.#secure ? ('https' as const) : ('http' as const),
          }
    return new Docker({ ...where, ...all }).modem as Modem
  }

  get #secure(): boolean {
    return !('path' in this.#endpoint) && (this.#endpoint.secure || this.#certificates !== undefined)
  }

  async #agent(): Promise<Agent> {
    if (!this.#secure) return straight(new Agent({ keepAlive: false }))
    const trust = await this.#certificates?.()
    return straight(
      new SecureAgent({
        keepAlive: false,
        secureContext: secureContext(trust ?? {}),
        // As gobetween: an engine is verified when there is something to verify it by.
        rejectUnauthorized: trust === undefined || trust.ca !== undefined,
      }),
    )
  }

  async #read(response: IncomingMessage, most: number, signal: AbortSignal): Promise<Buffer> {
    const chunks: Buffer[] = []
    let size = 0
    for await (const chunk of this.#chunks(response, signal)) {
      chunks.push(chunk)
      size += chunk.length
      if (size > most)
        throw this.#fault(`sent an answer of more than ${most} bytes`, { status: response.statusCode })
    }
    return Buffer.concat(chunks)
  }

  async *#lines(response: IncomingMessage, signal: AbortSignal): AsyncGenerator<string> {
    let rest = ''
    for await (const chunk of this.#chunks(response.setEncoding('utf8'), signal)) {
      const [first, ...others] = String(chunk).split('\n')
      rest += first
      for (const next of others) {
        yield rest
        rest = next
      }
      // So that an engine that floods us waits, and nobody else.
      await quiet()
      if (rest.length > MOST_LINE) throw this.#fault(`sent an event of more than ${MOST_LINE} characters`)
    }
  }

  /** The body as it comes. Whoever stops reading closes the connection. */
  async *#chunks(response: IncomingMessage, signal: AbortSignal): AsyncGenerator<Buffer> {
    try {
      for await (const chunk of response) yield chunk as Buffer
    } catch (error) {
      signal.throwIfAborted()
      throw this.#fault(`ended in the middle: ${messageOf(error)}`, { cause: error })
    }
  }

  #fault(
    what: string,
    { status, ...options }: ErrorOptions & { status?: number | undefined } = {},
  ): EngineFault {
    return new EngineFault(`the Docker engine at ${this.#text} ${what}`, status, options)
  }
}

/** What an engine did wrong. */
export class EngineFault extends DiscoveryError {
  /** The status it answered with, when that is what was wrong. */
  readonly status: number | undefined
  constructor(message: string, status: number | undefined, options?: ErrorOptions) {
    super(message, options)
    this.status = status
  }
}

/** An agent as Node makes them; `addRequest` is there in all its versions, though not in its types. */
type Adding = Agent & { addRequest(request: ClientRequest, options: object): void }

/**
 * An agent whose answers lead nowhere else. dockerode follows redirects, and nobody listens for the errors of
 * the request it makes then: an engine could end the process with one.
 */
function straight(agent: Agent): Agent {
  const add = (agent as Adding).addRequest.bind(agent)
  return Object.assign(agent, {
    addRequest(request: ClientRequest, options: object) {
      request.prependListener('response', ({ headers }: IncomingMessage) => delete headers.location)
      request.once('socket', (socket) => socket.setKeepAlive(true, KEEP_ALIVE_MS))
      // Else Node closes the connection without a word, and nobody would ever learn of it.
      request.once('upgrade', (_, socket) => {
        socket.destroy()
        request.emit('error', new Error('it switched protocols'))
      })
      add(request, options)
    },
    // dockerode writes its options out for every request, for whoever debugs it: sockets and keys are not for that.
    [inspect.custom]: () => 'Agent',
  })
}

/** The sentence an engine gives with a status, `{"message": "…"}` or a text; short enough for a log. */
function reasonIn(body: string): string {
  const text = messageIn(body).trim().split('\n')[0]!
  return text === '' ? '' : `: ${text.slice(0, 200)}`
}

function messageIn(body: string): string {
  try {
    return String((JSON.parse(body) as { message: unknown }).message)
  } catch {
    return body
  }
}

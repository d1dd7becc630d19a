// One answer over HTTP or HTTPS, bounded in size and ended by its signal.

import { get as getHttp } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { get as getHttps } from 'node:https'
import type { RequestOptions } from 'node:https'
import { secureContext } from './trust.ts'

const MOST_REDIRECTS = 5

/** RFC 9110, 15.4: what sends the asker elsewhere. */
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308])

/** How much is read of an answer that is not what was asked for. */
const BEGINNING_BYTES = 1024

export interface Question extends Omit<RequestOptions, 'agent'> {
  readonly signal: AbortSignal
  /** The largest body that is taken. */
  readonly mostBytes: number
}

export interface Fetched {
  readonly status: number
  readonly body: Buffer
}

/**
 * The answer to a GET of `url`, redirects followed, over a connection of its own that is closed when this
 * settles. Of an answer with another status than 2xx the body is only its beginning. Credentials, those in the
 * URL too, are told to no other origin. Certificates are checked against those of the system and of Node
 * unless the question brings its own. Rejects with the signal's reason when that aborts, and beyond
 * `mostBytes`.
 */
export async function fetchBytes(url: URL, question: Question): Promise<Fetched> {
  const { signal } = question
  signal.throwIfAborted()
  try {
    return await follow(url, question, MOST_REDIRECTS)
  } catch (error) {
    throw signal.aborted ? (signal.reason as Error) : error
  }
}

async function follow(url: URL, question: Question, redirects: number): Promise<Fetched> {
  const response = await open(url, question)
  const status = response.statusCode ?? 0
  const { location } = response.headers
  if (!REDIRECTS.has(status) || !location)
    return { status, body: await body(response, isSuccess(status) ? question.mostBytes : undefined) }

  response.destroy()
  if (redirects === 0) throw new Error('too many redirects')
  if (!URL.canParse(location, url.href)) throw new Error('redirected to an address that cannot be read')
  const next = new URL(location, url)
  if (next.origin !== url.origin) return follow(next, withoutCredentials(question), redirects - 1)
  if (!next.username && !next.password) [next.username, next.password] = [url.username, url.password]
  return follow(next, question, redirects - 1)
}

/** True for the statuses that say the answer is what was asked for. */
export function isSuccess(status: number): boolean {
  return status >= 200 && status <= 299
}

/** What was said to one host is nobody else's. */
function withoutCredentials({ signal, mostBytes, ca, rejectUnauthorized }: Question): Question {
  return {
    signal,
    mostBytes,
    ...(ca !== undefined && { ca }),
    ...(rejectUnauthorized !== undefined && { rejectUnauthorized }),
  }
}

function open(url: URL, { mostBytes: _, ...question }: Question): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    if (url.protocol !== 'http:' && url.protocol !== 'https:')
      return reject(
        new Error(`expected an address that starts with http:// or https://, got ${url.protocol}//`),
      )
    const options = { ...question, agent: false }
    const request =
      url.protocol === 'https:' ? getHttps(url, secured(options), resolve) : getHttp(url, options, resolve)
    request.on('error', reject)
    // Answered with 101, which nobody asked for, it ends without a word.
    request.on('close', () => reject(new Error('the connection was closed before the answer')))
  })
}

/** The whole body, or its beginning when no size is given. */
async function body(response: IncomingMessage, mostBytes?: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      size += chunk.length
      chunks.push(chunk)
      if (mostBytes === undefined && size >= BEGINNING_BYTES) break
      if (mostBytes !== undefined && size > mostBytes)
        throw new Error(`the answer is larger than ${mostBytes / 1024 / 1024} MiB`)
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ECONNRESET') throw error
    throw new Error('the connection was closed in the middle of the answer', { cause: error })
  }
  return Buffer.concat(chunks)
}

/** `tls.connect` takes a ready context in place of its parts. */
function secured(options: RequestOptions): RequestOptions {
  const context = { secureContext: secureContext(options) }
  return { ...options, ...context }
}

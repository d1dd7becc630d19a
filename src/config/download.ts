// One document over HTTP or HTTPS, bounded in time and size.

import { readFileSync } from 'node:fs'
import { get as getHttp } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { get as getHttps } from 'node:https'
import type { RequestOptions } from 'node:https'
import { rootCertificates } from 'node:tls'

const TIMEOUT_MS = 10_000
const MOST_BYTES = 64 * 1024 * 1024
const MOST_REDIRECTS = 5

export interface Download {
  readonly status: number
  readonly text: string
}

/**
 * The answer to a GET of `url`, redirects followed, whatever its status. Certificates are checked against
 * those of the system and of Node. Rejects after 10 s, and beyond 64 MiB.
 */
export async function download(url: URL, options: RequestOptions = {}): Promise<Download> {
  const signal = AbortSignal.timeout(TIMEOUT_MS)
  try {
    return await follow(url, { ...options, signal }, MOST_REDIRECTS)
  } catch (error) {
    if (signal.aborted) throw new Error(`no complete answer within ${TIMEOUT_MS / 1000} s`, { cause: error })
    throw error
  }
}

async function follow(url: URL, options: RequestOptions, redirects: number): Promise<Download> {
  const response = await open(url, options)
  const status = response.statusCode ?? 0
  const { location } = response.headers
  if (status < 300 || status >= 400 || !location) return { status, text: await body(response) }

  response.destroy()
  if (redirects === 0) throw new Error('too many redirects')
  const next = new URL(location, url)
  // What was said to one host is nobody else's.
  const { headers: _headers, auth: _auth, ...others } = options
  return follow(next, next.origin === url.origin ? options : others, redirects - 1)
}

function open(url: URL, options: RequestOptions): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    if (url.protocol !== 'http:' && url.protocol !== 'https:')
      return reject(
        new Error(`expected an address that starts with http:// or https://, got ${url.protocol}//`),
      )
    const secure = url.protocol === 'https:'
    const request = secure
      ? getHttps(url, { ca: systemCertificates(), ...options }, resolve)
      : getHttp(url, options, resolve)
    request.on('error', reject)
  })
}

async function body(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > MOST_BYTES) throw new Error(`the answer is larger than ${MOST_BYTES / 1024 / 1024} MiB`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

// Node trusts a list of its own and none that the administrator of a machine has added.
const BUNDLES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
]

function systemCertificates(): string[] {
  for (const path of [process.env.SSL_CERT_FILE, ...BUNDLES]) {
    try {
      if (path) return [...rootCertificates, readFileSync(path, 'utf8')]
    } catch {
      // Another system keeps its bundle elsewhere.
    }
  }
  return [...rootCertificates]
}

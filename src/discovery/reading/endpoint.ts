// A document behind a URL, for the kinds that fetch one: the keys they share, and how it is asked for.

import { validateHeaderName, validateHeaderValue } from 'node:http'
import { z } from 'zod'
import type { Problem } from '../../core/errors.ts'
import { fetchBytes, isSuccess } from '../../core/fetch.ts'
import { flag, text } from '../../core/settings.ts'
import type { Settings } from '../../core/settings.ts'
import type { Trust } from '../../core/trust.ts'
import { certificateConflicts, readCertificates } from './certificates.ts'
import { quote } from './options.ts'

/** The largest document: a hundred thousand backends with all that is said of them. */
const MOST_BYTES = 16 * 1024 * 1024

const keys = (what: string) => ({
  endpoint: text().refine(isWeb, { error: 'a URL that starts with http:// or https://' }).describe(what),
  headers: z
    .record(z.string(), z.string({ error: 'a string' }), { error: 'a table of strings' })
    .refine(areHeaders, { error: 'a table of header names and their values' })
    .default({})
    .describe('Headers sent along, a table such as { X-Tenant = "shop" }.'),
  bearer_token: text().default('').describe('Token sent as "Authorization: Bearer".'),
  tls_cacert_path: text()
    .default('')
    .describe('File with the CA certificates to trust, PEM; empty trusts those of the system.'),
  tls_cert_path: text().default('').describe('File with the client certificate, PEM.'),
  tls_key_path: text().default('').describe('File with the private key of the client certificate, PEM.'),
  tls_skip_verify: flag().default(false).describe('Takes any certificate the server shows.'),
})

type Keys = ReturnType<typeof keys>
type Own = Settings<Keys>
type Prefixed<P extends string, T> = { [K in keyof T & string as `${P}_${K}`]: T[K] }

/** What a kind with an endpoint takes over. */
export interface Endpoint<P extends string> {
  /** `json_endpoint`, `json_headers` and so on. */
  readonly settings: Prefixed<P, Keys>
  /** The URL without what may be secret in it. */
  readonly source: (settings: Prefixed<P, Own>) => string
  readonly conflicts: (settings: Prefixed<P, Own>) => readonly Problem[]
  /**
   * Fetches the document. Rejects when the answer's status is not 2xx or its body larger than 16 MiB, with
   * what the network says, and with the signal's reason when that aborts.
   */
  readonly fetch: (settings: Prefixed<P, Own>, signal: AbortSignal) => Promise<Buffer>
}

/** An endpoint whose keys begin with `prefix`; `what` describes its URL, `accept` is the type asked for. */
export function endpoint<const P extends string>(prefix: P, what: string, accept: string): Endpoint<P> {
  const own = (settings: Prefixed<P, Own>) => withoutPrefix(prefix, settings)
  return {
    settings: withPrefix(prefix, keys(what)) as Prefixed<P, Keys>,
    source: (settings) => shown(own(settings).endpoint),
    conflicts: (settings) => [
      ...certificateConflicts(prefix, settings as never),
      ...conflicts(own(settings)).map(({ path, message }) => ({ path: `${prefix}_${path}`, message })),
    ],
    fetch: async (settings, signal) => {
      const certificates = await readCertificates(prefix, settings as never)
      return fetchDocument(own(settings), certificates, accept, signal)
    },
  }
}

async function fetchDocument(
  settings: Own,
  certificates: Trust,
  accept: string,
  signal: AbortSignal,
): Promise<Buffer> {
  const { endpoint, headers, bearer_token, tls_skip_verify } = settings
  const { status, body } = await fetchBytes(new URL(endpoint), {
    signal,
    mostBytes: MOST_BYTES,
    headers: { accept, ...(bearer_token && { authorization: `Bearer ${bearer_token}` }), ...lower(headers) },
    ...certificates,
    ...(tls_skip_verify && { rejectUnauthorized: false }),
  })
  if (isSuccess(status)) return body
  const said = body.toString().replace(/\s+/g, ' ').trim()
  throw new Error(`${shown(endpoint)} answered ${status}${said && `: ${quote(said)}`}`)
}

/** Without user and password; a query may hold a token too. */
function shown(url: string): string {
  const { origin, pathname, search } = new URL(url)
  return origin + pathname + (search && '?…')
}

function conflicts({ endpoint, headers, bearer_token }: Own): Problem[] {
  const { username, password } = new URL(endpoint)
  if (bearer_token && ('authorization' in lower(headers) || username || password))
    return [{ path: 'bearer_token', message: 'no token beside other credentials' }]
  return []
}

function isWeb(url: string): boolean {
  return URL.canParse(url) && /^https?:$/.test(new URL(url).protocol)
}

function areHeaders(table: Readonly<Record<string, string>>): boolean {
  try {
    for (const [name, value] of Object.entries(table)) {
      validateHeaderName(name)
      validateHeaderValue(name, value)
    }
    return true
  } catch {
    // Any throw is its way to say no.
    return false
  }
}

function lower(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))
}

function withPrefix(prefix: string, table: object): object {
  return Object.fromEntries(
    Object.entries(table).map(([key, value]) => [`${prefix}_${key}`, value as unknown]),
  )
}

function withoutPrefix(prefix: string, table: object): Own {
  const own = Object.entries(table).map(([key, value]) => [key.slice(prefix.length + 1), value as unknown])
  return Object.fromEntries(own) as Own
}

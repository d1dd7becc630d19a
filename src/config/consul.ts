// A configuration kept under a key of Consul, asked for the way Consul's own tools do.

import { readFile } from 'node:fs/promises'
import type { RequestOptions } from 'node:https'
import { download } from './download.ts'
import type { Environment } from './environment.ts'

export interface ConsulKey {
  readonly kind: 'consul'
  /** `host:port` of an agent. */
  readonly host: string
  readonly key: string
  /** Unset: https when CONSUL_HTTP_SSL says so. */
  readonly scheme?: 'http' | 'https'
}

/** The value of the key. Rejects when there is none, or Consul does not give it. */
export async function readConsulKey(
  { host, key, scheme }: ConsulKey,
  environment: Environment,
): Promise<string> {
  const secure = scheme ? scheme === 'https' : isTrue(environment.CONSUL_HTTP_SSL)
  const url = new URL(`${secure ? 'https' : 'http'}://${host}`)
  url.pathname = `/v1/kv/${key.split('/').map(encodeURIComponent).join('/')}`
  url.searchParams.set('raw', '')
  if (environment.CONSUL_NAMESPACE) url.searchParams.set('ns', environment.CONSUL_NAMESPACE)

  const { status, text } = await download(url, await requestOptions(environment))
  if (status === 404) throw new Error(`key ${JSON.stringify(key)} does not exist`)
  if (status === 401 || status === 403)
    throw new Error(`not allowed to read key ${JSON.stringify(key)} (${status}); is CONSUL_HTTP_TOKEN set?`)
  if (status < 200 || status > 299) throw new Error(`Consul answered ${status}`)
  if (text === '') throw new Error(`empty value for key ${JSON.stringify(key)}`)
  return text
}

async function requestOptions(environment: Environment): Promise<RequestOptions> {
  const token = await tokenOf(environment)
  const { CONSUL_HTTP_AUTH: auth, CONSUL_TLS_SERVER_NAME: servername } = environment
  const ca = await fileOf(environment.CONSUL_CACERT)
  const cert = await fileOf(environment.CONSUL_CLIENT_CERT)
  const key = await fileOf(environment.CONSUL_CLIENT_KEY)
  return {
    ...(token && { headers: { 'X-Consul-Token': token } }),
    ...(auth && { auth }),
    ...(servername && { servername }),
    ...(ca && { ca }),
    ...(cert && { cert }),
    ...(key && { key }),
    ...(isFalse(environment.CONSUL_HTTP_SSL_VERIFY) && { rejectUnauthorized: false }),
  }
}

async function tokenOf({
  CONSUL_HTTP_TOKEN,
  CONSUL_HTTP_TOKEN_FILE,
}: Environment): Promise<string | undefined> {
  return CONSUL_HTTP_TOKEN || (await fileOf(CONSUL_HTTP_TOKEN_FILE))?.trim()
}

async function fileOf(path: string | undefined): Promise<string | undefined> {
  return path ? readFile(path, 'utf8') : undefined
}

const isTrue = (text = '') => /^(1|t|true)$/i.test(text)
const isFalse = (text = '') => /^(0|f|false)$/i.test(text)

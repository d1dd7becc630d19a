// Where a configuration comes from: a file, a URL, a key in Consul.

import { readFile } from 'node:fs/promises'
import { extname } from 'node:path'
import { ConfigError, messageOf } from '../core/errors.ts'
import type { Problem } from '../core/errors.ts'
import { readConsulKey } from './consul.ts'
import type { ConsulKey } from './consul.ts'
import { download } from './download.ts'
import { substitute } from './environment.ts'
import type { Environment } from './environment.ts'
import { parseText } from './parse.ts'
import type { Format } from './parse.ts'
import { readDocument } from './read.ts'
import type { Config, ReadOptions } from './read.ts'

export type Origin =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'url'; readonly url: string }
  | ConsulKey

export interface Source {
  readonly origin: Origin
  /** Unset: what the ending of the name says, toml without one. */
  readonly format?: Format
  /** Replaces `${NAME}` in the text. */
  readonly substitute: boolean
}

/** Fetches, parses and checks a configuration. Throws `ConfigError` whatever is wrong with it. */
export async function loadConfig(
  source: Source,
  options: ReadOptions = {},
  environment: Environment = process.env,
): Promise<{ config: Config; warnings: Problem[] }> {
  const name = sourceName(source)
  const raw = await fetchText(source.origin, environment).catch((error: unknown) => {
    throw new ConfigError(name, [{ path: '', message: `cannot be read: ${messageOf(error)}` }])
  })
  const text = source.substitute ? substitute(raw, environment) : raw
  return readDocument(parseText(text, source.format ?? formatOf(source.origin), name), name, options)
}

/** What a source is called in messages; never with the password a URL may hold. */
export function sourceName({ origin }: Source): string {
  if (origin.kind === 'file') return origin.path
  if (origin.kind === 'consul') return `consul ${origin.host} key ${origin.key}`
  const url = URL.canParse(origin.url) ? new URL(origin.url) : undefined
  if (!url) return origin.url
  url.username = url.password = ''
  return url.href
}

async function fetchText(origin: Origin, environment: Environment): Promise<string> {
  if (origin.kind === 'file') return readFile(origin.path, 'utf8')
  if (origin.kind === 'consul') return readConsulKey(origin, environment)
  if (!URL.canParse(origin.url)) throw new Error('expected an address such as http://host/fairlead.toml')
  const { status, text } = await download(new URL(origin.url))
  if (status < 200 || status > 299) throw new Error(`the server answered ${status}`)
  return text
}

function formatOf(origin: Origin): Format {
  return extname(endingOf(origin)).toLowerCase() === '.json' ? 'json' : 'toml'
}

function endingOf(origin: Origin): string {
  if (origin.kind === 'file') return origin.path
  if (origin.kind === 'consul') return origin.key
  return URL.canParse(origin.url) ? new URL(origin.url).pathname : origin.url
}

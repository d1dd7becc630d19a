// The API's certificate and key, read once as it starts.

import { readFile } from 'node:fs/promises'
import { createSecureContext } from 'node:tls'
import { ConfigError, messageOf } from '../core/errors.ts'
import type { Problem } from '../core/errors.ts'

export interface KeyPair {
  readonly cert: Buffer
  readonly key: Buffer
}

/**
 * Reads both files. Rejects with `ConfigError`, which names each file that cannot be read, or says that what
 * they hold is no certificate with its key; `source` names the configuration.
 */
export async function readKeyPair(
  { cert_path, key_path }: { readonly cert_path: string; readonly key_path: string },
  source: string,
): Promise<KeyPair> {
  const problems: Problem[] = []
  const read = (path: string, name: string) =>
    readFile(name).catch((error: unknown) => {
      problems.push({ path, message: `expected a file that can be read, got ${messageOf(error)}` })
    })
  const cert = await read('api.tls.cert_path', cert_path)
  const key = await read('api.tls.key_path', key_path)
  if (!cert || !key) throw new ConfigError(source, problems)
  try {
    createSecureContext({ cert, key })
  } catch (error) {
    const message = `expected a certificate and its key in PEM, got ${messageOf(error)}`
    throw new ConfigError(source, [{ path: 'api.tls', message }])
  }
  return { cert, key }
}

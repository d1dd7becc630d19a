// The files that TLS to a source needs: their keys, what is wrong between these, and what the files hold.

import { readFile } from 'node:fs/promises'
import { DiscoveryError, messageOf } from '../../core/errors.ts'
import type { Problem } from '../../core/errors.ts'
import type { Trust } from '../../core/trust.ts'

/** `json_tls_cert_path` and so on; empty paths are none. */
type Paths<P extends string> = Readonly<Record<`${P}_tls_${'cacert' | 'cert' | 'key'}_path`, string>>

/** A certificate wants its key, and a key its certificate. */
export function certificateConflicts<const P extends string>(prefix: P, settings: Paths<P>): Problem[] {
  const [cert, key] = [`${prefix}_tls_cert_path`, `${prefix}_tls_key_path`] as const
  if (Boolean(settings[cert]) === Boolean(settings[key])) return []
  const [missing, given] = settings[cert] ? [key, cert] : [cert, key]
  return [{ path: missing, message: `a file, as ${given} names one` }]
}

/** What the files hold; read for every question, for certificates are renewed. Rejects with the key of a file that cannot be read. */
export async function readCertificates<const P extends string>(
  prefix: P,
  settings: Paths<P>,
): Promise<Trust> {
  const read = async (key: keyof Paths<P>) => {
    if (!settings[key]) return undefined
    return readFile(settings[key], 'utf8').catch((error: unknown) => {
      throw new DiscoveryError(`${key}: ${messageOf(error)}`, { cause: error })
    })
  }
  const [ca, cert, key] = await Promise.all([
    read(`${prefix}_tls_cacert_path`),
    read(`${prefix}_tls_cert_path`),
    read(`${prefix}_tls_key_path`),
  ])
  return { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) }
}

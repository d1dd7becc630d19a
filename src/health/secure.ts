// Connections over TLS, and what the certificate they showed is worth.

import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { checkServerIdentity, connect } from 'node:tls'
import type {
  ConnectionOptions,
  DetailedPeerCertificate,
  PeerCertificate,
  SecureContext,
  TLSSocket,
} from 'node:tls'
import { isUnix } from '../core/address.ts'
import type { Address } from '../core/address.ts'
import { messageOf } from '../core/errors.ts'
import type { Problem } from '../core/errors.ts'
import { flag, name } from '../core/settings.ts'
import type { Settings } from '../core/settings.ts'
import { secureContext } from '../core/trust.ts'
import { unhealthy } from './check.ts'
import type { Result, Target } from './check.ts'
import { anyEndpoint, bound, destination, dial, failure, unknown } from './dial.ts'
import { headerOf } from './where.ts'
import type { Where } from './where.ts'

export const secureKeys = {
  tls_verify: flag()
    .default(false)
    .describe('Whether the certificate must be valid: in time, of a known authority, for the right name.'),
  tls_server_name: name()
    .optional()
    .describe('Name that is asked for and must be in the certificate; unset is the host of the backend.'),
  tls_cacert_path: name()
    .optional()
    .describe(
      'File of the authorities (PEM) that may have signed the certificate; unset are those of the system and of Node.',
    ),
}

export type SecureSettings = Settings<typeof secureKeys> & Where

/** What is wrong between the keys. */
export function secureConflicts({ tls_verify, tls_cacert_path }: SecureSettings): readonly Problem[] {
  if (tls_verify || tls_cacert_path === undefined) return []
  return [{ path: 'tls_cacert_path', message: 'nothing: tls_verify is false' }]
}

/**
 * A connection to `endpoint` whose handshake is done; rejects with why there is none. Destroyed when `signal`
 * aborts. `ahead` is sent before the handshake.
 */
export async function dialSecure(
  endpoint: Address,
  signal: AbortSignal,
  options: ConnectionOptions,
  ahead?: Uint8Array,
): Promise<TLSSocket> {
  const raw = ahead && dial(endpoint, signal, ahead)
  if (raw) await once(raw, 'connect')
  const there = { ...destination(endpoint), autoSelectFamily: false, ...(raw && { socket: raw }), ...options }
  const socket = bound(connect(there), signal)
  await once(socket, 'secureConnect')
  return socket
}

/** What is found over a connection whose certificate will do, and the reason of that. */
export type Inside = (socket: TLSSocket, target: Target, endpoint: Address) => Promise<Result>

/** Shakes hands with any endpoint, judges the certificate, and lets `inside` say the rest. */
export function securely(settings: SecureSettings, inside: Inside) {
  const ahead = headerOf(settings)
  const context = contextOf(settings)
  return async (target: Target, signal: AbortSignal): Promise<Result> => {
    const trusted = await context().catch(unusable)
    if ('status' in trusted) return trusted
    const name = settings.tls_server_name ?? hostOf(target.address)
    const options = {
      secureContext: trusted,
      servername: isIP(name) ? '' : name,
      // Judged below, where the date is told too.
      rejectUnauthorized: false,
      checkServerIdentity: (_: string, shown: PeerCertificate) =>
        settings.tls_verify ? checkServerIdentity(name, shown) : undefined,
    }
    return anyEndpoint(target, signal, async (endpoint, signal) => {
      const socket = await dialSecure(endpoint, signal, options, ahead)
      // getPeerX509Certificate takes the certificate out of the connection: whoever asks next is shown none.
      const ends = Date.parse(socket.getPeerCertificate().valid_to)
      const fault = settings.tls_verify ? faultOf(socket, name) : undefined
      if (fault) socket.destroy()
      const result = fault ? unhealthy(fault) : await inside(socket, target, endpoint).catch(failure)
      return Number.isNaN(ends) ? result : { ...result, certificateEnds: ends }
    })
  }
}

/** One for all connections of a check: making it reads every authority. Read again after a failure. */
function contextOf({ tls_cacert_path }: SecureSettings): () => Promise<SecureContext> {
  let made: Promise<SecureContext> | undefined
  const make = async () =>
    secureContext(tls_cacert_path === undefined ? {} : { ca: await readFile(tls_cacert_path) })
  return () => {
    made ??= make().catch((error: unknown) => {
      made = undefined
      throw error
    })
    return made
  }
}

/** Not the backend's fault. */
function unusable(error: unknown): Result {
  return unknown(`tls_cacert_path: ${messageOf(error)}`)
}

function hostOf(address: Address): string {
  return isUnix(address) ? 'localhost' : address.host
}

/** Why a certificate is refused. */
function faultOf(socket: TLSSocket, name: string): string | undefined {
  if (socket.authorized) return undefined
  // A code, whatever the type says.
  const code = String(socket.authorizationError)
  const shown = socket.getPeerCertificate(true)
  if (code === 'CERT_HAS_EXPIRED') return `certificate has expired on ${day(soonest(shown))}`
  if (code === 'CERT_NOT_YET_VALID')
    return `certificate is not valid before ${day(Date.parse(shown.valid_from))}`
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return checkServerIdentity(name, shown)?.message ?? code
  return `certificate: ${code.toLowerCase().replaceAll('_', ' ')}`
}

/** When the first certificate of the chain ends. A root is its own issuer; an unknown issuer is empty. */
function soonest(shown: DetailedPeerCertificate): number {
  const ends = Date.parse(shown.valid_to)
  const above: Partial<DetailedPeerCertificate> | undefined = shown.issuerCertificate
  const root = !above?.valid_to || above.fingerprint256 === shown.fingerprint256
  return root ? ends : Math.min(ends, soonest(shown.issuerCertificate))
}

/** `2026-01-02`, in UTC. */
export function day(date: number): string {
  return new Date(date).toISOString().slice(0, 10)
}

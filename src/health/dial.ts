// Connections that checks open: one try an endpoint, and what a failure is called.

import { setMaxListeners } from 'node:events'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { isUnix } from '../core/address.ts'
import type { Address } from '../core/address.ts'
import { oneLine } from '../core/errors.ts'
import { unhealthy } from './check.ts'
import type { Result, Target } from './check.ts'

/** Endpoints of one backend that are tried at once; a name with more addresses is judged by the first. */
const TRIED = 64

const REASONS: Record<string, string> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset',
  ETIMEDOUT: 'connection timed out',
  EHOSTUNREACH: 'host unreachable',
  ENETUNREACH: 'network unreachable',
  ENOENT: 'no such socket',
  EACCES: 'permission denied',
}

/** Shortages of this machine: they say nothing about the backend. */
const OURS = new Set(['EMFILE', 'ENFILE', 'EADDRNOTAVAIL', 'ENOBUFS', 'ENOMEM'])

/** Checks one endpoint; a rejection is why it is unhealthy. Closes what it opened when `signal` aborts. */
export type Attempt = (endpoint: Address, signal: AbortSignal) => Promise<Result>

/**
 * Tries every endpoint at once: healthy as soon as one is, and the other tries are aborted. Otherwise what the
 * first endpoint gave.
 */
export async function anyEndpoint(
  { endpoints }: Target,
  signal: AbortSignal,
  attempt: Attempt,
): Promise<Result> {
  signal.throwIfAborted()
  const [only, ...others] = endpoints
  if (!only) return failure(new Error('no address known'))
  if (!isUnix(only) && only.port === 0) return unknown('its port is the one each client came to')
  return others.length ? first(endpoints, signal, attempt) : attempt(only, signal).catch(failure)
}

async function first(endpoints: readonly Address[], signal: AbortSignal, attempt: Attempt): Promise<Result> {
  const over = new AbortController()
  setMaxListeners(TRIED + 1, over.signal)
  signal.addEventListener('abort', () => over.abort(signal.reason), { once: true, signal: over.signal })
  const tries = endpoints.slice(0, TRIED).map((endpoint) => attempt(endpoint, over.signal).catch(failure))
  const passed = tries.map(async (each) => {
    const result = await each
    return result.status === 'healthy' ? result : Promise.reject(new Error(result.reason))
  })
  try {
    return await Promise.any(passed).catch(() => tries[0]!)
  } finally {
    over.abort()
  }
}

/** What an error, or its cause, means for the backend: unhealthy, or unknown when the shortage is ours. */
export function failure(error: unknown): Result {
  const { code, cause } = error as NodeJS.ErrnoException
  const { code: below } = (cause ?? {}) as NodeJS.ErrnoException
  // No process could be started; from a unix socket it would mean that the backend accepts no more.
  const noProcess = below === 'EAGAIN'
  if (noProcess || OURS.has(code ?? below ?? '')) return unknown(`out of resources here: ${oneLine(error)}`)
  return unhealthy(REASONS[code ?? ''] ?? handshakeFault(error) ?? oneLine(error))
}

/** What OpenSSL says, without the place in its source. */
function handshakeFault(error: unknown): string | undefined {
  const { code, reason } = error as { code?: string; reason?: string }
  return code?.startsWith('ERR_SSL_') && reason ? `tls handshake failed: ${reason}` : undefined
}

export function unknown(reason: string): Result {
  return { status: 'unknown', reason }
}

/** Where a node:net or node:tls connection goes. A numeric host: nothing is looked up. */
export function destination(endpoint: Address): { path: string } | { host: string; port: number } {
  return isUnix(endpoint) ? { path: endpoint.path } : { host: endpoint.host, port: endpoint.port }
}

/**
 * A socket on its way to `endpoint`, destroyed when `signal` aborts; `ahead` is sent first. Closing it sends FIN,
 * not RST, as gobetween does: a backend that is only pinged logs no reset.
 */
export function dial(endpoint: Address, signal: AbortSignal, ahead?: Uint8Array): Socket {
  const socket = bound(connect({ ...destination(endpoint), autoSelectFamily: false }), signal)
  if (ahead) socket.write(ahead)
  return socket
}

/**
 * Signals of checks that only wait for a connection to be accepted. Where a check dials several addresses at once
 * the signal is not its own, and it is never seen as one that only waits.
 */
export const dialling = new WeakSet<AbortSignal>()

/** Destroys `socket` when `signal` aborts. Its errors never go unheard. */
export function bound<S extends Socket>(socket: S, signal: AbortSignal): S {
  socket.on('error', () => {})
  const abort = () => void socket.destroy(signal.reason as Error)
  if (signal.aborted) abort()
  signal.addEventListener('abort', abort, { once: true })
  if (socket.connecting) {
    dialling.add(signal)
    socket.once('connect', () => dialling.delete(signal))
  }
  socket.once('close', () => signal.removeEventListener('abort', abort))
  return socket
}

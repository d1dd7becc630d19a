// Connections that checks open: one try an endpoint, and what a failure is called.

import { setMaxListeners } from 'node:events'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { isUnix } from '../core/address.ts'
import type { Address } from '../core/address.ts'
import { messageOf } from '../core/errors.ts'
import { healthy, unhealthy } from './check.ts'
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

/** Resolves with why an endpoint is healthy, rejects with why not; closes what it opened when `signal` aborts. */
export type Attempt = (endpoint: Address, signal: AbortSignal) => Promise<string>

/**
 * Tries every endpoint at once: healthy as soon as one is, and the other tries are aborted. Otherwise what the
 * first endpoint gave.
 */
export async function anyEndpoint(
  { address, endpoints }: Target,
  signal: AbortSignal,
  attempt: Attempt,
): Promise<Result> {
  if (!isUnix(address) && address.port === 0) return unknown('its port is the one each client came to')
  signal.throwIfAborted()
  const [only, ...others] = endpoints
  if (!only) return failure(new Error('no address known'))
  try {
    return healthy(others.length ? await first(endpoints, signal, attempt) : await attempt(only, signal))
  } catch (error) {
    return failure(error)
  }
}

async function first(endpoints: readonly Address[], signal: AbortSignal, attempt: Attempt): Promise<string> {
  const over = new AbortController()
  setMaxListeners(TRIED + 1, over.signal)
  signal.addEventListener('abort', () => over.abort(signal.reason), { once: true, signal: over.signal })
  try {
    return await Promise.any(endpoints.slice(0, TRIED).map((endpoint) => attempt(endpoint, over.signal)))
  } catch (error) {
    throw (error as AggregateError).errors[0]
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
  if (noProcess || OURS.has(code ?? below ?? '')) return unknown(`out of resources here: ${messageOf(error)}`)
  return unhealthy(REASONS[code ?? ''] ?? messageOf(error))
}

export function unknown(reason: string): Result {
  return { status: 'unknown', reason }
}

/** Where a node:net or node:tls connection goes. A numeric host: nothing is looked up. */
export function destination(endpoint: Address): { path: string } | { host: string; port: number } {
  return isUnix(endpoint) ? { path: endpoint.path } : { host: endpoint.host, port: endpoint.port }
}

/**
 * A socket on its way to `endpoint`, destroyed when `signal` aborts. Closing it sends FIN, not RST, as gobetween
 * does: a backend that is only pinged logs no reset.
 */
export function dial(endpoint: Address, signal: AbortSignal): Socket {
  return bound(connect({ ...destination(endpoint), autoSelectFamily: false }), signal)
}

/** Destroys `socket` when `signal` aborts. */
export function bound<S extends Socket>(socket: S, signal: AbortSignal): S {
  const abort = () => void socket.destroy(signal.reason as Error)
  if (signal.aborted) abort()
  signal.addEventListener('abort', abort, { once: true })
  socket.once('close', () => signal.removeEventListener('abort', abort))
  return socket
}

// A listener of our own (API, metrics): bounded, never fatal once open, quick to close.

import { once } from 'node:events'
import type { Server } from 'node:http'
import type { Server as NetServer, Socket } from 'node:net'
import { addressText, isUnix } from '../core/address.ts'
import type { Address } from '../core/address.ts'
import { callerCeiling } from '../core/descriptors.ts'
import { Fault, messageOf } from '../core/errors.ts'
import { logger } from '../core/log.ts'
import { descriptorOf } from '../plane/portable/handle.ts'
import { open, shut as release } from '../plane/portable/open.ts'

/** Most connections at once: callers must not use up the descriptors of clients. */
const MOST_CONNECTIONS = 256

/** Callers the kernel keeps while we are busy. */
const BACKLOG = 128

/** A connection on which nothing moves for this long is closed: callers who stop reading hold no memory. */
const SILENT_MS = 60_000

/** Limits for `createServer`: a request that is not complete by then is answered 408 and closed. */
export const PATIENCE = {
  headersTimeout: 10_000,
  requestTimeout: 30_000,
  keepAliveTimeout: 30_000,
  connectionsCheckingInterval: 2_000,
} as const

export interface Listener {
  /** Where it really listens; port 0 as the port given. */
  readonly addresses: readonly string[]
  /** Closes the listener and every connection; resolves when all are closed. Twice is fine. */
  close(): Promise<void>
}

/** A listener of ours could not be opened; says whose and where. */
export class ListenError extends Fault {
  constructor(whose: string, bind: Address, cause: unknown) {
    super('BIND_FAILED', `${whose} cannot listen on ${addressText(bind)}: ${messageOf(cause)}`, { cause })
  }
}

/**
 * Opens `server` (HTTP or HTTPS) on `bind`. Rejects with `ListenError`, in which `whose` names the listener.
 * Later errors are logged and the listener stays open.
 */
export async function listenOn(server: Server, bind: Address, whose: string): Promise<Listener> {
  const sockets = new Set<Socket>()
  server.maxConnections = MOST_CONNECTIONS
  server.timeout = SILENT_MS
  const ceiling = callerCeiling()
  server.on('connection', (socket: Socket) => {
    if (descriptorOf(socket) >= ceiling) return socket.destroy()
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  const { server: opened, text } = await open(bind, BACKLOG).catch((error: unknown) => {
    throw new ListenError(whose, bind, error)
  })
  // The plane opens the listener, so that a bind means the same everywhere, and HTTP takes it over.
  if (isUnix(bind)) await reopen(server, opened, bind.path)
  else server.listen(opened)
  server.on('error', (error) => logger('api').error(`${whose}: ${messageOf(error)}`))
  return { addresses: [text], close: () => shut(server, sockets) }
}

/** Node hands on a port, not a path; by now no stale file is in the way. */
async function reopen(server: Server, opened: NetServer, path: string): Promise<void> {
  await release(opened)
  server.listen(path)
  await once(server, 'listening')
}

function shut(server: Server, sockets: ReadonlySet<Socket>): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    for (const socket of sockets) socket.destroy()
  })
}

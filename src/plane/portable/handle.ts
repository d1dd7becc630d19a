// What this plane knows of the inside of node:net, all of it in this file. Tried on Node 20 to 26.

import { Server, Socket } from 'node:net'
import type { SocketConstructorOpts } from 'node:net'

/** An open descriptor below a `net.Socket`, of TCP or of a unix socket. */
export interface Handle {
  /** -1 or undefined where the platform has none. */
  readonly fd?: number
  /** Bytes the kernel has not taken yet. */
  readonly writeQueueSize: number
  /** Twice is fine. */
  close(): void
  /** Fills `out` and returns 0, or an error number. TCP alone. */
  getpeername?(out: Endpoint): number
  getsockname?(out: Endpoint): number
  setNoDelay?(on: boolean): number
  setKeepAlive?(on: boolean, seconds: number): number
}

export interface Endpoint {
  address: string
  port: number
}

interface ListeningHandle extends Handle {
  onconnection: (error: number, handle: Handle | undefined) => void
}

/** How a socket reads: the callback has the socket as `this` and stops the reading by returning false. */
export interface Reading<S> {
  readonly buffer: Uint8Array | (() => Uint8Array)
  readonly callback: (this: S, length: number, buffer: Uint8Array) => boolean
}

export interface SocketSettings<S> {
  /** An accepted descriptor; none for a socket that will connect. */
  readonly handle?: Handle
  readonly onread: Reading<S>
  /** Seconds before a silent peer is probed; 0 is never. For a socket that will connect. */
  readonly keepAliveSeconds: number
}

/** The options of a half-open `net.Socket` that does not read before it is told to. */
export function socketOptions<S>({
  handle,
  onread,
  keepAliveSeconds,
}: SocketSettings<S>): SocketConstructorOpts {
  const options = {
    handle,
    onread,
    allowHalfOpen: true,
    manualStart: true,
    // Every write that is left pending shall be followed by 'drain', however small it is.
    writableHighWaterMark: 1,
    noDelay: handle === undefined,
    keepAlive: handle === undefined && keepAliveSeconds > 0,
    keepAliveInitialDelay: keepAliveSeconds * 1000,
  }
  return options
}

/** Bytes written to `socket` that the kernel has not taken yet; 0 when it is closed. */
export function unsent(socket: Socket): number {
  return handleOf(socket)?.writeQueueSize ?? 0
}

/** The descriptor of an open socket; -1 when it is closed, or where the platform has none. */
export function descriptorOf(socket: Socket): number {
  return handleOf(socket)?.fd ?? -1
}

const nobody: Endpoint = { address: '', port: 0 }

/** True when the other end of a TCP socket has reset it: the kernel knows no peer then, only a pending error. */
export function isReset(socket: Socket): boolean {
  const handle = handleOf(socket)
  return handle?.getpeername !== undefined && handle.getpeername(nobody) !== 0
}

/**
 * Hands every connection of a listening server to `accept` as a bare handle, so that a refused client costs no
 * `net.Socket` and an admitted one gets a single one of ours. `error` is a negative error number or 0.
 */
export function takeOver(server: Server, accept: (error: number, handle: Handle | undefined) => void): void {
  listeningHandle(server).onconnection = accept
}

// Linux copies these options from the listening socket to what it accepts, which saves three calls a client.
const INHERITS = process.platform === 'linux'

/** Sets TCP_NODELAY and keep-alive for all that `server` will accept, where the system can do that at once. */
export function tuneListener(server: Server, keepAliveSeconds: number): void {
  if (INHERITS) tune(listeningHandle(server), keepAliveSeconds)
}

/** Sets the same on one accepted descriptor, where it could not be inherited. */
export function tuneAccepted(handle: Handle, keepAliveSeconds: number): void {
  if (!INHERITS) tune(handle, keepAliveSeconds)
}

function tune(handle: Handle, keepAliveSeconds: number): void {
  handle.setNoDelay?.(true)
  if (keepAliveSeconds > 0) handle.setKeepAlive?.(true, keepAliveSeconds)
}

function listeningHandle(server: Server): ListeningHandle {
  return (server as unknown as { _handle: ListeningHandle })._handle
}

function handleOf(socket: Socket): Handle | null {
  return (socket as unknown as { _handle: Handle | null })._handle
}

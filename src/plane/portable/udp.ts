// node:dgram without its detours: addresses are numeric here, so that a socket is bound and connected at once.

import { createSocket } from 'node:dgram'
import type { BindOptions, Socket } from 'node:dgram'
import { isIPv6 } from 'node:net'

/** Datagrams a socket may have that the kernel has yet to take. */
export const MOST_UNSENT = 256

type Found = (error: null, address: string, family: number) => void

/** Bytes; unset is the system's own. */
export interface Buffers {
  readonly recvBufferSize?: number
  readonly sendBufferSize?: number
}

/** Stands in for `dns.lookup`, which would give a numeric address back in a later turn of the loop. */
function numeric(host: string, options: unknown, found?: Found): void {
  const done = found ?? (options as Found)
  done(null, host, 0) // A socket knows its family.
}

/** A socket for the family of `host`, an IP address; it has no descriptor before it is bound. */
export function socketFor(host: string, buffers: Buffers = {}): Socket {
  const type = isIPv6(host) ? 'udp6' : 'udp4'
  return createSocket({ type, ipv6Only: type === 'udp6', lookup: numeric, ...buffers })
}

/**
 * Of a socket that sends to many: datagrams for hosts that do not answer wait in it for seconds, and leave no room for
 * those of others. The system gives as much of it as it allows.
 */
export const SHARED: Buffers = { sendBufferSize: 4 * 1024 * 1024 }

/** Binds a socket of `socketFor`, now: undefined, or what was wrong. */
export function bindNow(socket: Socket, where: BindOptions): NodeJS.ErrnoException | undefined {
  let wrong: NodeJS.ErrnoException | undefined
  const note = (error: NodeJS.ErrnoException) => void (wrong = error)
  socket.on('error', note)
  try {
    socket.bind({ ...where, exclusive: true })
  } catch (error) {
    wrong = error as NodeJS.ErrnoException
  } finally {
    socket.off('error', note)
  }
  return wrong
}

/** The local end of what goes to `host`: from `source` where that is of the same family. */
export function originFor(host: string, source = ''): BindOptions {
  return source !== '' && isIPv6(source) === isIPv6(host) ? { port: 0, address: source } : { port: 0 }
}

/** The code of a dial that failed in our own hands. */
export function dialCode(error: NodeJS.ErrnoException): string {
  // Without a free port, `bind` finds every one of them in use.
  return error.code === 'EADDRINUSE' ? 'EADDRNOTAVAIL' : (error.code ?? 'UNKNOWN')
}

// What a bind means, on every plane: both families for a wildcard, a name by its first address, a stale unix socket
// replaced.

import { lookup } from 'node:dns/promises'
import { lstat, unlink } from 'node:fs/promises'
import { connect, isIP } from 'node:net'
import { addressText, isUnix } from '../core/address.ts'
import type { Address } from '../core/address.ts'

/**
 * Opens `bind` by `attempt`, which is given a numeric host and a port, or a path; `::` is to take IPv4 as well.
 * Rejects with the system's error of `attempt`, its `address` the text of the bind; nothing is left open then. A
 * file that nobody answers on does not keep a unix socket from listening.
 */
export async function openBind<T>(bind: Address, attempt: (where: Address) => Promise<T>): Promise<T> {
  try {
    return await (isUnix(bind) ? openPath(bind.path, attempt) : openPort(bind, attempt))
  } catch (error) {
    throw Object.assign(error as Error, { address: bindText(bind) })
  }
}

async function openPort<T>(
  { host, port }: { host: string; port: number },
  attempt: (where: Address) => Promise<T>,
): Promise<T> {
  const everywhere = host === '' || host === '::'
  if (!everywhere) return attempt({ host: await numeric(host), port })
  try {
    return await attempt({ host: '::', port })
  } catch (error) {
    if (!lacksIpv6(error)) throw error
    return attempt({ host: '0.0.0.0', port })
  }
}

async function openPath<T>(path: string, attempt: (where: Address) => Promise<T>): Promise<T> {
  try {
    return await attempt({ path })
  } catch (error) {
    if (codeOf(error) !== 'EADDRINUSE' || !(await isStale(path))) throw error
    await unlink(path)
    return attempt({ path })
  }
}

/** The first address of a name, IPv4 preferred. */
async function numeric(host: string): Promise<string> {
  if (isIP(host)) return host
  const addresses = await lookup(host, { all: true })
  return (addresses.find(({ family }) => family === 4) ?? addresses[0]!).address
}

function lacksIpv6(error: unknown): boolean {
  return ['EAFNOSUPPORT', 'EADDRNOTAVAIL', 'EINVAL'].includes(codeOf(error))
}

/** A socket in the file system that nobody listens on any more. */
async function isStale(path: string): Promise<boolean> {
  const file = await lstat(path)
  if (!file.isSocket()) return false
  return new Promise((resolve) => {
    const socket = connect({ path })
    const answer = (stale: boolean) => {
      socket.destroy()
      resolve(stale)
    }
    socket.once('error', (error) => answer(codeOf(error) === 'ECONNREFUSED'))
    socket.once('connect', () => answer(false))
  })
}

/** As it was configured: port 0 is no `*` here. */
function bindText(bind: Address): string {
  return isUnix(bind) || bind.port > 0 ? addressText(bind) : addressText(bind).replace(/\*$/, '0')
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? ''
}

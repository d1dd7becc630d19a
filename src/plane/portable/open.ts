// One bind opened: both families for a wildcard, a name by its first address, a stale unix socket replaced.

import { lookup } from 'node:dns/promises'
import { lstat, unlink } from 'node:fs/promises'
import { connect, createServer, isIP } from 'node:net'
import type { AddressInfo, ListenOptions, Server } from 'node:net'
import { addressText, isUnix, isWildcard } from '../../core/address.ts'
import type { Address } from '../../core/address.ts'

/** An open listener. */
export interface Opened {
  readonly server: Server
  /** Where it really listens. */
  readonly text: string
  /** The address every client came to; undefined where each has to be asked, or there is none. */
  readonly local: { readonly ip: string; readonly port: number } | undefined
}

/**
 * Listens on `bind`. Rejects with the system's error, its `address` the text of the bind; nothing is left open
 * then. A file that nobody answers on does not keep a unix socket from listening.
 */
export async function open(bind: Address, backlog: number): Promise<Opened> {
  try {
    const server = isUnix(bind) ? await openPath(bind.path, backlog) : await openPort(bind, backlog)
    return { server, ...whereabouts(bind, server) }
  } catch (error) {
    throw Object.assign(error as Error, { address: bindText(bind) })
  }
}

/** Accepts no more; resolves when the address is free. Twice is fine. */
export function shut(server: Server): Promise<void> {
  return new Promise((resolve) => void server.close(() => resolve()))
}

async function openPort({ host, port }: { host: string; port: number }, backlog: number): Promise<Server> {
  const everywhere = host === '' || host === '::'
  if (!everywhere) return attempt({ host: await numeric(host), port, backlog })
  try {
    return await attempt({ host: '::', port, backlog })
  } catch (error) {
    if (!lacksIpv6(error)) throw error
    return attempt({ host: '0.0.0.0', port, backlog })
  }
}

async function openPath(path: string, backlog: number): Promise<Server> {
  try {
    return await attempt({ path, backlog })
  } catch (error) {
    if (codeOf(error) !== 'EADDRINUSE' || !(await isStale(path))) throw error
    await unlink(path)
    return attempt({ path, backlog })
  }
}

function attempt(options: ListenOptions): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(options, () => resolve(server))
  })
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

function whereabouts(bind: Address, server: Server): Omit<Opened, 'server'> {
  if (isUnix(bind)) return { text: addressText(bind), local: { ip: '', port: 0 } }
  const { address: ip, port } = server.address() as AddressInfo
  return { text: addressText({ host: ip, port }), local: isWildcard(bind) ? undefined : { ip, port } }
}

/** As it was configured: port 0 is no `*` here. */
function bindText(bind: Address): string {
  return isUnix(bind) || bind.port > 0 ? addressText(bind) : addressText(bind).replace(/\*$/, '0')
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? ''
}

// One bind opened by node:net.

import { createServer } from 'node:net'
import type { AddressInfo, Server } from 'node:net'
import { addressText, isUnix, isWildcard } from '../../core/address.ts'
import type { Address } from '../../core/address.ts'
import { openBind } from '../bind.ts'

/** An open listener. */
export interface Opened {
  readonly server: Server
  /** Where it really listens. */
  readonly text: string
  /** The address every client came to; undefined where each has to be asked, or there is none. */
  readonly local: { readonly ip: string; readonly port: number } | undefined
}

/** Listens on `bind`; rejects as `openBind` does. */
export async function open(bind: Address, backlog: number): Promise<Opened> {
  const server = await openBind(bind, (where) => attempt(where, backlog))
  return { server, ...whereabouts(bind, server) }
}

/** Accepts no more; resolves when the address is free. Twice is fine. */
export function shut(server: Server): Promise<void> {
  return new Promise((resolve) => void server.close(() => resolve()))
}

function attempt(where: Address, backlog: number): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen({ ...where, backlog }, () => resolve(server))
  })
}

function whereabouts(bind: Address, server: Server): Omit<Opened, 'server'> {
  if (isUnix(bind)) return { text: addressText(bind), local: { ip: '', port: 0 } }
  const { address: ip, port } = server.address() as AddressInfo
  return { text: addressText({ host: ip, port }), local: isWildcard(bind) ? undefined : { ip, port } }
}

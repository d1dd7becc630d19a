// The sockets of one bind of datagrams. Node does not tell which address a datagram was sent to, so that a wildcard is
// one socket for each address of this machine: answers leave by the socket that was asked.

import type { Socket } from 'node:dgram'
import { networkInterfaces } from 'node:os'
import { addressText, isUnix } from '../../core/address.ts'
import type { Address } from '../../core/address.ts'
import { canonicalIp } from '../../core/ip.ts'
import { openBind } from '../bind.ts'
import { bindNow, SHARED, socketFor } from './udp.ts'

/** A port that the system gives for one address may be taken at another. */
const TRIES = 16

/** The open sockets of one bind. */
export interface Doors {
  readonly sockets: readonly Socket[]
  /** Where it really listens. */
  readonly text: string
}

/** Opens `bind` with room for `receiveBuffer` bytes at each socket; rejects as `openBind` does. */
export function openDoors(bind: Address, receiveBuffer: number): Promise<Doors> {
  return openBind(bind, (where) => attempt(where, receiveBuffer))
}

async function attempt(where: Address, receiveBuffer: number): Promise<Doors> {
  if (isUnix(where)) throw Object.assign(new Error('no datagrams there'), { code: 'EPROTONOSUPPORT' })
  const { host } = where
  const wildcard = host === '::' || host === '0.0.0.0'
  const hosts = wildcard ? localAddresses(host === '::') : [host.includes('%') ? host : canonicalIp(host)]
  const tries = wildcard && where.port === 0 ? TRIES : 1
  let last: unknown
  for (let i = 0; i < tries; i++) {
    try {
      const sockets = openAll(hosts, { port: where.port, wildcard, receiveBuffer })
      return { sockets, text: addressText({ host, port: sockets[0]!.address().port }) }
    } catch (error) {
      last = error
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') break
    }
  }
  throw last as Error
}

interface Asked {
  readonly port: number
  readonly wildcard: boolean
  readonly receiveBuffer: number
}

/** All at one port, or none. */
function openAll(hosts: readonly string[], { port, wildcard, receiveBuffer }: Asked): Socket[] {
  const sockets: Socket[] = []
  let missing: NodeJS.ErrnoException | undefined
  for (const host of hosts) {
    const socket = socketFor(host, { ...SHARED, ...(receiveBuffer > 0 && { recvBufferSize: receiveBuffer }) })
    const wrong = bindNow(socket, { address: host, port: sockets[0]?.address().port ?? port })
    if (!wrong) {
      sockets.push(socket)
      continue
    }
    socket.close()
    missing = wrong
    // An address that has gone meanwhile, or is being tried for duplicates.
    if (wildcard && wrong.code === 'EADDRNOTAVAIL') continue
    for (const open of sockets) open.close()
    throw wrong
  }
  if (sockets.length === 0) throw missing ?? new Error('this machine has no address')
  return sockets
}

/** Those of this machine; with the interface where an address means nothing without. */
function localAddresses(both: boolean): string[] {
  const found = Object.entries(networkInterfaces()).flatMap(([name, addresses = []]) =>
    addresses
      .filter(({ family }) => both || family === 'IPv4')
      .map(({ address }) => (/^fe[89ab]/i.test(address) ? `${address}%${name}` : address)),
  )
  return [...new Set(found)]
}

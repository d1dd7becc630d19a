// The sockets of one bind of datagrams. Node does not tell which address a datagram was sent to, so that a wildcard is
// one socket for each address of this machine: answers leave by the socket that was asked.

import type { Socket } from 'node:dgram'
import { networkInterfaces } from 'node:os'
import { addressText, isUnix, isWildcard } from '../../core/address.ts'
import type { Address } from '../../core/address.ts'
import { canonicalIp } from '../../core/ip.ts'
import { openBind } from '../bind.ts'
import type { Door } from './door.ts'
import { bindNow, SHARED, socketFor } from './udp.ts'

/** A port that the system gives for one address may be taken at another. */
const TRIES = 16

/** Makes the door of a socket that is open. */
type MakeDoor = (socket: Socket) => Door

/** Told of an address where no socket could be opened. */
type Complain = (problem: string) => void

interface Asked {
  /** Numeric; `::` is both families. */
  readonly host: string
  readonly port: number
  readonly receiveBuffer: number
}

/** What is open of one bind. */
export class Doors {
  /** Where it really listens. */
  readonly text: string
  readonly #asked: Asked
  readonly #make: MakeDoor
  readonly #doors = new Map<string, Door>()

  constructor(asked: Asked, sockets: ReadonlyMap<string, Socket>, make: MakeDoor) {
    this.text = addressText(asked)
    this.#asked = asked
    this.#make = make
    for (const [host, socket] of sockets) this.#doors.set(host, make(socket))
  }

  /** True when the addresses of the machine are what is listened on: they come and go. */
  get wildcard(): boolean {
    return isWildcard(this.#asked)
  }

  /**
   * Opens a socket for each address that is new to this machine, and closes those of addresses that it has no more, but
   * for those with sessions: the address may come back to them.
   */
  refresh(complain: Complain): void {
    try {
      const hosts = new Set(hostsOf(this.#asked))
      for (const [host, door] of this.#doors) if (!hosts.has(host)) this.#leave(host, door)
      for (const host of hosts) if (!this.#doors.has(host)) this.#open(host, complain)
    } catch (error) {
      complain((error as Error).message) // The system would not say which addresses there are.
    }
  }

  /** Resolves when the addresses are free. */
  async close(): Promise<void> {
    await Promise.all([...this.#doors.values()].map((door) => door.close()))
  }

  #leave(host: string, door: Door): void {
    if (door.sessions.size > 0) return
    this.#doors.delete(host)
    void door.close()
  }

  #open(host: string, complain: Complain): void {
    const socket = openOne(host, this.#asked)
    if (!(socket instanceof Error)) this.#doors.set(host, this.#make(socket))
    else if (!isPassing(socket)) complain(socket.message)
  }
}

/** Opens `bind` with room for `receiveBuffer` bytes at each socket; rejects as `openBind` does. */
export function openDoors(bind: Address, receiveBuffer: number, make: MakeDoor): Promise<Doors> {
  return openBind(bind, (where) => attempt(where, receiveBuffer, make))
}

async function attempt(where: Address, receiveBuffer: number, make: MakeDoor): Promise<Doors> {
  if (isUnix(where)) throw Object.assign(new Error('no datagrams there'), { code: 'EPROTONOSUPPORT' })
  const asked = { ...where, receiveBuffer }
  const tries = isWildcard(asked) && asked.port === 0 ? TRIES : 1
  let last: unknown
  for (let i = 0; i < tries; i++) {
    try {
      const sockets = openAll(asked)
      const { port } = [...sockets.values()][0]!.address()
      return new Doors({ ...asked, port }, sockets, make)
    } catch (error) {
      last = error
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') break
    }
  }
  throw last as Error
}

/** All at one port, or none. */
function openAll(asked: Asked): Map<string, Socket> {
  const sockets = new Map<string, Socket>()
  let { port } = asked
  let missing: NodeJS.ErrnoException | undefined
  for (const host of hostsOf(asked)) {
    const socket = openOne(host, { ...asked, port })
    if (!(socket instanceof Error)) {
      sockets.set(host, socket)
      port = socket.address().port
      continue
    }
    missing = socket
    if (isWildcard(asked) && isPassing(missing)) continue
    for (const open of sockets.values()) open.close()
    throw missing
  }
  if (sockets.size === 0) throw missing ?? new Error('this machine has no address')
  return sockets
}

/** A bound socket, or why there is none. */
function openOne(host: string, { port, receiveBuffer }: Asked): Socket | NodeJS.ErrnoException {
  const socket = socketFor(host, { ...SHARED, ...(receiveBuffer > 0 && { recvBufferSize: receiveBuffer }) })
  const wrong = bindNow(socket, { address: host, port })
  if (wrong) socket.close()
  return wrong ?? socket
}

/** Of an address that has gone meanwhile, or is being tried for duplicates. */
function isPassing({ code }: NodeJS.ErrnoException): boolean {
  return code === 'EADDRNOTAVAIL'
}

/** Where there is to be a socket now. */
function hostsOf(asked: Asked): string[] {
  const { host } = asked
  if (isWildcard(asked)) return localAddresses(host === '::')
  return [host.includes('%') ? host : canonicalIp(host)]
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

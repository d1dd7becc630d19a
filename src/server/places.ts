// Where a server's backends are: addresses are known at once, host names are followed.

import { isIP } from 'node:net'
import { isUnix } from '../core/address.ts'
import type { Address } from '../core/address.ts'
import type { Cancel } from '../core/clock.ts'
import type { Names } from '../dns/names.ts'
import type { Backend } from '../pool/backend.ts'

/** Told of every change: these addresses, most useful first; none while a name does not exist. */
type Located = (backend: Backend, endpoints: readonly Address[]) => void

export class Places {
  readonly #names: Names
  readonly #located: Located
  /** How to stop following the addresses behind a backend's host name, by backend. */
  readonly #followed = new Map<number, Cancel>()
  /** Backends whose name has not been resolved yet. */
  readonly #pending = new Set<number>()

  constructor(names: Names, located: Located) {
    this.#names = names
    this.#located = located
  }

  /** How many backends have a name that nobody has resolved yet. */
  get pending(): number {
    return this.#pending.size
  }

  /** Follows a backend until it is forgotten; what is an address already is told before this returns. */
  follow(backend: Backend): void {
    const { address } = backend.found
    if (isUnix(address) || isIP(address.host)) return this.#located(backend, [address])
    this.#pending.add(backend.id)
    const cancel = this.#names.watch(address.host, (ips) => {
      this.#pending.delete(backend.id)
      this.#located(
        backend,
        ips.map((host) => ({ host, port: address.port })),
      )
    })
    this.#followed.set(backend.id, cancel)
  }

  forget({ id }: Backend): void {
    this.#followed.get(id)?.()
    this.#followed.delete(id)
    this.#pending.delete(id)
  }

  stop(): void {
    for (const cancel of this.#followed.values()) cancel()
    this.#followed.clear()
  }
}

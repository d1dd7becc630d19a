// How the udp servers of a process share its descriptors: each of their sessions has a socket of its own.

import type { Cancel } from '../core/clock.ts'
import { descriptorCeiling, descriptorLimit } from '../core/descriptors.ts'

interface Share {
  readonly asked: number
  readonly changed: (most: number) => void
  most: number
}

export class SessionBudget {
  /** Sessions of one server: half of all descriptors. */
  readonly most: number
  /** Sessions of all servers together: of the descriptors that clients may have a quarter is for connections. */
  readonly total: number
  readonly #shares = new Set<Share>()

  constructor(limit = descriptorLimit()) {
    this.most = Math.max(1, Math.floor(limit / 2))
    this.total = Math.max(1, Math.floor((3 * descriptorCeiling(limit)) / 4))
  }

  /** Servers that share. */
  get servers(): number {
    return this.#shares.size
  }

  /**
   * One more server shares, and asks for so many sessions. `changed` is told what it may have: now, and whenever that
   * is another number because others come and go. Returns what ends its share; twice is fine.
   */
  join(asked: number, changed: (most: number) => void): Cancel {
    const share = { asked: Math.min(asked, this.most), changed, most: 0 }
    this.#shares.add(share)
    this.#divide()
    return () => {
      if (this.#shares.delete(share)) this.#divide()
    }
  }

  #divide(): void {
    const level = this.#level()
    for (const share of this.#shares) {
      const most = Math.min(share.asked, level)
      if (most === share.most) continue
      share.most = most
      share.changed(most)
    }
  }

  /** The most that each may have who asks for more: who asks for less leaves the rest to others. */
  #level(): number {
    const asked = [...this.#shares].map((share) => share.asked).sort((a, b) => a - b)
    let left = this.total
    for (const [i, each] of asked.entries()) {
      const level = Math.floor(left / (asked.length - i))
      if (each > level) return Math.max(1, level)
      left -= each
    }
    return Infinity
  }
}

// A backend as discovery describes it.

import { addressText } from './address.ts'
import type { Address } from './address.ts'

export interface Found {
  readonly address: Address
  /** What makes two descriptions the same backend: the text of the address, and the name it serves if any. */
  readonly identity: string
  /** Its share of new flows among its priority group; 0 takes none while a sibling has more. */
  readonly weight: number
  /** The lowest number with an electable backend serves. */
  readonly priority: number
  /** Most flows at once; 0 is unlimited. */
  readonly maxConnections: number
  /** The TLS server name it answers to; empty for any. */
  readonly sni: string
  /** Takes no new flows and keeps those it has. */
  readonly drain: boolean
}

/** `address` with the settings a backend has when nobody says otherwise. */
export function found(address: Address, settings: Partial<Omit<Found, 'address' | 'identity'>> = {}): Found {
  const { weight = 1, priority = 1, maxConnections = 0, sni = '', drain = false } = settings
  const text = addressText(address)
  return {
    address,
    identity: sni ? `${text} sni=${sni}` : text,
    weight,
    priority,
    maxConnections,
    sni,
    drain,
  }
}

/** True when two descriptions of one backend say the same. */
export function sameSettings(a: Found, b: Found): boolean {
  if (a === b) return true
  return (
    a.weight === b.weight &&
    a.priority === b.priority &&
    a.maxConnections === b.maxConnections &&
    a.sni === b.sni &&
    a.drain === b.drain
  )
}

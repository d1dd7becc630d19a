// What the sessions of one listening share.

import type { DatagramSpec } from '../plane.ts'
import type { Door } from './door.ts'
import type { Elders } from './elders.ts'
import type { Household } from './register.ts'
import type { Session } from './session.ts'
import type { Shots } from './shots.ts'

export interface House extends Household<Session> {
  readonly datagrams: DatagramSpec
  /** Those that may be evicted. */
  readonly elders: Elders<Session>
  readonly shots: Shots
  /** How many were told `later`. */
  holding: number
  /** A datagram had to be dropped: too many waited, or the kernel did not take it. */
  undecided(): void
  unsent(): void
  /** A session is over: its place is free. */
  left(): void
}

/** Who sends: the door it came in by, what it is known by there, and where answers go. */
export interface Client {
  readonly door: Door
  readonly key: string
  /** As the system has it, with a zone. */
  readonly address: string
}

// What the sessions of one listening share.

import type { DatagramSpec, Desk, ListenSpec } from '../plane.ts'
import type { Deadlines } from './deadlines.ts'
import type { Door } from './door.ts'
import type { Elders } from './elders.ts'
import type { Rows } from './rows.ts'
import type { Session } from './session.ts'
import type { Shots } from './shots.ts'
import type { Turn } from './turn.ts'

export interface House {
  readonly spec: ListenSpec
  readonly datagrams: DatagramSpec
  readonly desk: Desk
  readonly turn: Turn
  readonly rows: Rows
  readonly deadlines: Deadlines
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
  /** It is about to be reported. */
  forget(session: Session): void
}

/** Who sends: the door it came in by, what it is known by there, and where answers go. */
export interface Client {
  readonly door: Door
  readonly key: string
  /** As the system has it, with a zone. */
  readonly address: string
}

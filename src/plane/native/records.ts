// What the threads say and are told, byte by byte: the other side of native/src/records.h.

import { ENDINGS, REFUSALS } from '../../core/reasons.ts'
import type { Reason } from '../../core/reasons.ts'

/** Kinds of what a thread says. */
export const SAYS = {
  ARRIVED: 1,
  HEADED: 2,
  DIAL_FAILED: 3,
  CONNECTED: 4,
  FIRST_BYTE: 5,
  ENDED: 6,
  DRAINED: 7,
  STOPPED: 8,
  TROUBLE: 9,
  GLIMPSED: 10,
} as const

/** Kinds of what a thread is told. */
export const TOLD = {
  LISTEN: 1,
  DIAL: 2,
  WAIT: 3,
  LATER: 4,
  REFUSE: 5,
  DROP: 6,
  DRAIN: 7,
  STOP: 8,
} as const

export const FAMILY = { NONE: 0, UNIX: 1, IPV4: 4, IPV6: 6 } as const

/** Something went wrong with accepting, with the loop of a thread, or with a new listener. */
export const TROUBLE = { ACCEPT: 1, LOOP: 2, LISTEN: 3 } as const

/** Offsets in the payload of everything said about a flow. */
export const WHO = {
  LISTENING: 0,
  SLOT: 4,
  LIFE: 8,
  BIND: 12,
  FLOW: 16,
  FD: 24,
  PORTS: 28,
  FAMILY: 32,
  IP: 40,
  LOCAL_IP: 56,
  BYTES: 72,
} as const

export const HEADED = { ENDED: 72, LENGTH: 76, BYTES: 80 } as const
export const DIAL_FAILED = { ROW: 72, NOTE: 76, ERROR: 80, LOST: 84, MS: 88 } as const
export const GLIMPSED = { ROW: 72, LENGTH: 76, BYTES: 80 } as const
export const REACHED = { ROW: 72, MS: 80 } as const
// prettier-ignore
export const ENDED = {
  REASON: 72, ROW: 76, NOTE: 80, RX: 88, TX: 96, WAITED: 104, CONNECT: 112, FIRST_BYTE: 120, DURATION: 128,
  CLIENT: 136, BACKEND: 144, REQUESTS: 152, RESPONSES: 160,
} as const
export const TROUBLED = { WHAT: 0, ERROR: 4, LISTENING: 8, BIND: 12 } as const

/** In the errno of a failed dial: it was `bind` that failed. */
export const ERROR_SOURCE = 1 << 16

/** Offsets in the payload of everything told about a flow, then of a dial and a wait. */
export const ANSWER = { SLOT: 0, LIFE: 4, FLOW: 8, BYTES: 16 } as const
// prettier-ignore
export const DIAL = {
  ROW: 16, NOTE: 20, TIMEOUT: 24, FAMILY: 28, PORT: 32, PATH_BYTES: 36, AHEAD_BYTES: 40, SCOPE: 44, IP: 48, BYTES: 64,
} as const
export const WAIT = { AT_LEAST: 16, AT_MOST: 20, MS: 24, BYTES: 32 } as const
export const REFUSE = { REASON: 16, BYTES: 24 } as const

/** Every reason by the number it has in records. */
export const REASONS: readonly Reason[] = [...REFUSALS, ...ENDINGS]

const NUMBERS = new Map(REASONS.map((reason, number) => [reason, number]))

/** The number of a reason in records. */
export function numberOf(reason: Reason): number {
  return NUMBERS.get(reason)!
}

/** What a connection's kernel never told: `path.rtt_us` and `path.retransmits`. */
export const NOT_MEASURED = 0xffff_ffff

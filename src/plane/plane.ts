// The contract between a server, which decides, and a plane, which moves bytes.
//
//      plane                                  desk
//        │  arrived(client) ─────────────────► access, room, elect
//        │ ◄──────────── dial | wait | later | refuse
//        │  headed(client, bytes)  after wait
//        │  dialFailed(client, failure) ─────► another backend, or refuse
//        │  ended(FlowEnd) ──────────────────► slot and room given back, counted, logged
//
// Only numbers, strings and bytes cross, so a plane may ask from a ring its threads fill: late, and in batches.

import type { Address } from '../core/address.ts'
import type { Ending, Reason } from '../core/reasons.ts'

export interface Plane {
  readonly name: 'portable' | 'native'
  /**
   * Opens every bind, or none: rejects with the first error (its `address` names the bind) and nothing left
   * open. The desk is asked from then on, never before this settles.
   */
  listen(spec: ListenSpec, desk: Desk): Promise<Listening>
}

/** Where and how to listen; times in milliseconds, 0 is without limit. */
export interface ListenSpec {
  /** An empty host is every address of both families; `::` likewise; `0.0.0.0` is IPv4 only. */
  readonly binds: readonly Address[]
  /** Length of the accept queue asked of the kernel. */
  readonly backlog: number
  /** Since the last byte read from or written to that side. */
  readonly clientIdleMs: number
  readonly backendIdleMs: number
  /** After one side has ended, without a byte in the remaining direction. */
  readonly halfCloseMs: number
  /** Longest a flow may stay without an answer of the desk, `later` apart; then it is refused as `undecided`. */
  readonly undecidedMs: number
  /** Idle time before the kernel probes a silent peer, on both sides. */
  readonly keepAliveMs: number
  /** The desk wants `connected` and `firstByte`. */
  readonly report: boolean
  /** `FlowEnd.paths` is wanted, where the plane can ask the kernel. */
  readonly measure?: boolean
  readonly sockets?: SocketOptions
  /** Clients send datagrams: flows are sessions, and of the above what says TCP, backlog or half-close is moot. */
  readonly datagrams?: DatagramSpec
}

/** How datagrams (UDP) become sessions, and how many of these there may be. 0 is without limit. */
export interface DatagramSpec {
  /**
   * Clients are told apart by address and port, or by address alone: then answers go to the port heard of last. The
   * address they sent to tells them apart too.
   */
  readonly sessionKey: 'address' | 'ip'
  /**
   * Datagrams of a client for one session. The one after them begins another, and the old one goes on relaying
   * answers. 1 is fire and forget: sent and over, with no answer relayed.
   */
  readonly maxRequests: number
  /** Datagrams of a backend after which the session is over. */
  readonly maxResponses: number
  /**
   * One more evicts whoever was heard of longest ago: of those never answered, while these are more than an eighth of
   * the most (rounded up, the new one counted), else of the answered; where there is none of the one kind, of the other.
   */
  readonly maxSessions: number
  /**
   * A backend that is unreachable (ICMP) is told as a failed dial, with `lost` when it had been reached; datagrams it
   * has not answered yet go to the next one. False: the session stays as it is.
   */
  readonly tellUnreachable: boolean
  /** So many datagrams of the backend are shown to the desk, from the first one on. */
  readonly glimpses: number
  /** Room for datagrams nobody has read yet, in bytes (SO_RCVBUF); 0 is the system's. */
  readonly receiveBuffer: number
  /** Who may come in; undefined is everybody. The plane drops all others unasked. */
  readonly access: AccessTable | undefined
}

/** Who may come in, as sorted words that any plane can search; see `access/boundaries.ts`. */
export interface AccessTable {
  readonly ipv4: Turns
  readonly ipv6: Turns
}

/** Addresses at which the verdict turns, ascending from address 0: one word each for IPv4 and four for IPv6. */
export interface Turns {
  readonly words: Uint32Array
  /** The verdict from address 0 on. */
  readonly firstAllows: boolean
}

/** What is asked of the sockets themselves. All but `source` is for the native plane alone. */
export interface SocketOptions {
  /** Longest that sent bytes may stay unacknowledged, on both sides (TCP_USER_TIMEOUT); ms, 0 is the kernel's. */
  readonly userTimeoutMs: number
  /** A client is told of when it has sent something, or after so long (TCP_DEFER_ACCEPT); ms, 0 is at once. */
  readonly deferAcceptMs: number
  /** Clients at once whose first bytes came with their SYN (TCP_FASTOPEN); 0 is none. */
  readonly fastOpen: number
  /** Listen on addresses this machine does not have yet (IP_FREEBIND). */
  readonly freebind: boolean
  /** Dial from the address of the client, and listen on addresses of others (IP_TRANSPARENT). */
  readonly transparent: boolean
  /** Of what goes to backends (SO_MARK); 0 is none. */
  readonly mark: number
  /** The IP address dials of its family come from; empty is the kernel's choice. */
  readonly source: string
}

/** A client that has come in. The plane hands the same facts with every question about its flow. */
export interface Arrival {
  /** A number this listening never gives twice. */
  readonly flow: number
  /** Canonical text (IPv4-mapped addresses as IPv4); empty on a unix listener. */
  readonly ip: string
  readonly port: number
  /** The address it came to; empty and 0 on a unix listener. */
  readonly localIp: string
  readonly localPort: number
  /** Which of `spec.binds` it came in by. */
  readonly bind: number
  /** The accepted descriptor, -1 where the platform has none. The kernel gives the lowest free number. */
  readonly fd: number
}

/** Connect to a backend and relay. Takes one slot of `backend`, paid back by one `dialFailed` or `ended`. */
export interface Dial {
  readonly dial: {
    /** The backend's row: what the plane counts bytes under. */
    readonly backend: number
    /** Where to connect: a numeric IP and port, or a path. */
    readonly address: Address
    /** 0 is the kernel's own limit. */
    readonly timeoutMs: number
    /** Written to the backend before the client's first byte; at most 255 KiB. */
    readonly ahead?: Uint8Array
    /** Why this backend; comes back in `FlowEnd`. 32 bits. */
    readonly note: number
  }
}

/**
 * Read first: `headed` is called with `atLeast` to `atMost` bytes, or with fewer when the client has ended. `atMost`
 * is 64 KiB at most. Of a session it is called with the beginning of the first datagram, at once and once.
 */
export interface Wait {
  readonly wait: { readonly atLeast: number; readonly atMost: number; readonly ms: number }
}

/**
 * Keep the flow, unread, until `Listening.answer`, whatever its client does meanwhile; the desk bounds the time. Only
 * `stop` ends such a flow sooner. A session may have been evicted before the plane heard this: then its end follows
 * the answer.
 */
export interface Later {
  readonly later: true
}

/** Close the client. */
export interface Refuse {
  readonly refuse: Reason
}

export type Answer = Dial | Wait | Later | Refuse

/**
 * Why a dial failed. `descriptors` and `ports` are our own shortage, `unable` is what our own socket was asked in vain:
 * none of these is the backend's fault.
 */
export type DialFault = 'refused' | 'timeout' | 'unreachable' | 'descriptors' | 'ports' | 'unable' | 'other'

export interface DialFailure {
  /** The backend had been reached, and is no more: a session that has to move. */
  readonly lost: boolean
  readonly backend: number
  /** The note of the `Dial`. */
  readonly note: number
  readonly why: DialFault
  /** The system's word for it, for the log: `ECONNREFUSED`. */
  readonly code: string
  /** How long the dial took, in milliseconds. */
  readonly ms: number
}

/** The one record of a flow that is over. Bytes are exact; times in milliseconds, -1 where it never came so far. */
export interface FlowEnd {
  readonly client: Arrival
  readonly reason: Reason
  /** Row of the backend whose slot is paid back; -1 when it held none. */
  readonly backend: number
  /** The note of the last `Dial`; 0 without one. */
  readonly note: number
  /** Bytes read from the backend. */
  readonly rx: number
  /** Bytes read from the client. */
  readonly tx: number
  /** Datagrams of the client, and of the backend; 0 for a connection. */
  readonly requests: number
  readonly responses: number
  /** From accept to the last dial. */
  readonly waitedMs: number
  /** How long the successful dial took. */
  readonly connectMs: number
  /** From connected to the first byte of the backend. */
  readonly firstByteMs: number
  /** From accept to the end. */
  readonly durationMs: number
  /** With `spec.measure`, on a plane that can. */
  readonly paths?: Paths | undefined
}

/** What the kernel knew of both connections at the end (TCP_INFO); undefined for a unix socket, or none. */
export interface Paths {
  readonly client: Path | undefined
  readonly backend: Path | undefined
}

export interface Path {
  /** Smoothed round-trip time. */
  readonly rttMs: number
  /** Segments sent again, over the whole life. */
  readonly retransmits: number
}

/**
 * The server's side: synchronous, on the main thread, never re-entered, never throws. An answer may reach the
 * flow after its client has left: `ended` follows all the same.
 */
export interface Desk {
  arrived(client: Arrival): Answer
  /** `bytes` is valid during the call only; they stay with the flow and are sent on to the backend. */
  headed(client: Arrival, bytes: Uint8Array, ended: boolean): Answer
  dialFailed(client: Arrival, failure: DialFailure): Answer
  /** With `spec.report` only. */
  connected(client: Arrival, backend: number, ms: number): void
  /** With `spec.report` only. */
  firstByte(client: Arrival, backend: number, ms: number): void
  /** With `glimpses` only: the beginning of a datagram of the backend, 64 bytes at most, valid during the call. */
  glimpsed(client: Arrival, backend: number, bytes: Uint8Array): void
  /** Exactly once for every flow that was not refused at `arrived`. */
  ended(end: FlowEnd): void
}

/** Why datagrams were dropped; counts. */
export interface Drops {
  /** By the kernel: nobody read them in time (SO_RXQ_OVFL, SO_MEMINFO). Portable: unknown, 0. */
  readonly queue: number
  /** Of clients that may not come in. */
  readonly access: number
  /** Too many waited for a decision: 8 or 64 KiB of a session, too many sessions, or a full ring. */
  readonly undecided: number
  /** New clients while the server drains. */
  readonly draining: number
  /** Could not be sent on, either way. */
  readonly send: number
}

/** Of connections none is dropped. */
export const NO_DROPS: Drops = { queue: 0, access: 0, undecided: 0, draining: 0, send: 0 }

/** A server's open listeners and the flows that came in by them. */
export interface Listening {
  /** Where it really listens, one text a bind: port 0 as the port given. */
  readonly addresses: readonly string[]
  /** Flows not over yet. */
  readonly flows: number
  /** Answers a flow that was told `later`. */
  answer(flow: number, answer: Dial | Refuse): void
  /** Bytes read from backends of that row since `listen`; never falls, whoever has the row. */
  rx(row: number): number
  /** Bytes read from clients for backends of that row since `listen`. */
  tx(row: number): number
  /** Dials of that row that succeeded since `listen`. */
  connects(row: number): number
  /** Datagrams of clients for that row, and of its backends, since `listen`. */
  requests(row: number): number
  responses(row: number): number
  /** Datagrams dropped since `listen`, by why; all 0 for connections. */
  drops(): Drops
  /**
   * At most so many sessions from now on, 1 or more; those that are too many go as new ones come. Until `stop`; of
   * connections it means nothing.
   */
  limitSessions(most: number): void
  /** Ends every flow that holds the row. */
  drop(row: number, reason: Ending): void
  /**
   * Accepts no more. Resolves when the addresses are free to be bound again; those of datagrams stay taken until
   * `stop`, as answers go out by them.
   */
  drain(): Promise<void>
  /** Drains, ends every flow with `reason` and resolves when the last `ended` has been reported. */
  stop(reason: Ending): Promise<void>
}

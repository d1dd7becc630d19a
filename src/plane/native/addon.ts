// What the addon exports: native/src/addon.c.

/** A running plane. */
export type Handle = { readonly handle: unique symbol }

/** An address as C reads it: `family` is 4, 6 or 1 for a path; `bytes` its 4 or 16 bytes, or the path's. */
export interface Whereabouts {
  readonly family: number
  readonly port: number
  readonly bytes: Uint8Array
  /** Of an IPv6 address: the number of its interface; missing is any. */
  readonly scope?: number
}

/** Of a socket that listens. Missing is 0: the system's way. */
export interface OpenOptions {
  readonly backlog: number
  readonly keepAliveSeconds: number
  readonly userTimeoutMs?: number
  readonly transparent?: number
  readonly freebind?: number
  readonly fastOpen?: number
  readonly deferAcceptSeconds?: number
  /** 1: for datagrams; then most of the above means nothing. */
  readonly datagrams?: number
  readonly receiveBuffer?: number
  /** 1: all datagrams of an IP address come to one of the sockets. */
  readonly byAddress?: number
}

/** See `AccessTable`; the numbers are 1 where address 0 is allowed. */
export interface AccessWords {
  readonly ipv4: Uint32Array
  readonly ipv4Allows: number
  readonly ipv6: Uint32Array
  readonly ipv6Allows: number
}

/** What is the same for all flows of a listening; times are whole milliseconds and 0 is without limit. */
export interface Spec {
  readonly clientIdleMs: number
  readonly backendIdleMs: number
  readonly halfCloseMs: number
  readonly undecidedMs: number
  readonly keepAliveSeconds: number
  readonly report: number
  readonly measure: number
  readonly userTimeoutMs?: number
  readonly mark?: number
  readonly transparent?: number
  readonly source?: Whereabouts | undefined
  /** 1: it is one of datagrams, and the rest is as in `DatagramSpec`, of one thread. */
  readonly datagrams?: number
  readonly byIp?: number
  readonly maxRequests?: number
  readonly maxResponses?: number
  readonly maxSessions?: number
  readonly tellUnreachable?: number
  readonly glimpses?: number
  readonly access?: AccessWords | undefined
}

export interface Addon {
  /** Of what it exports and of the records: `ADDON_VERSION` in load.ts is the one this program speaks. */
  readonly version: number
  /** The reasons the plane gives by itself, and their places in the list of core/reasons.ts. */
  readonly reasons: Readonly<Record<string, number>>
  /**
   * Starts `threads` threads over shared memory: 64 bytes, then a ring up and a ring down of `ringBytes` each for
   * every thread. Pipes take descriptors below `ceiling`. `wake` is called on the main thread when there is
   * something to read. All of these throw Errors with `errno` and `syscall`.
   */
  start(threads: number, memory: Uint8Array, ringBytes: number, ceiling: number, wake: () => void): Handle
  /** Ends threads and flows without a word. Twice is fine. */
  stop(plane: Handle): void
  /** Ends the sleep of a thread. */
  rouse(plane: Handle, thread: number): void
  /** A listening without listeners; keeps the process alive until `forget`. Returns its number. */
  listening(plane: Handle, spec: Spec): number
  /** No thread knows the listening any more. */
  forget(plane: Handle, listening: number): void
  /** Counters for a block of rows of one thread; they must live until `forget`. */
  rows(plane: Handle, listening: number, thread: number, block: number, counters: Float64Array): void
  /** Adds what a listening has dropped: datagrams by queue (towards backends), access, undecided, draining, send. */
  drops(plane: Handle, listening: number, sums: Float64Array): void
  /** From now on, of each thread; 1 or more. */
  limitSessions(plane: Handle, listening: number, most: number): void
  /** Datagrams the kernel has dropped at a socket since it was opened. */
  dropped(fd: number): number
  /** Opens `count` sockets that share an address. Their descriptors are the caller's. */
  open(where: Whereabouts, count: number, options: OpenOptions): { fds: number[]; port: number }
  /** Which of these this process may not set on a socket; undefined when it may. */
  probe(options: { readonly mark: number; readonly transparent: number }): 'mark' | 'transparent' | undefined
  /** Closes a descriptor that no thread was given. */
  close(fd: number): void
}

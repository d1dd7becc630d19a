// The two ends of a ring of records in shared memory: the other side of native/src/ring.h, which draws it.

const WRITTEN = 0
const READ = 64
const ASLEEP = 68
const HEAD = 128
const FILLER = 0
/** Of a record: its length in bytes and its kind. */
const RECORD = 8

/** Bytes of memory for a ring that holds 512 KiB, so that records may have 128. */
export const RING_BYTES = HEAD + 512 * 1024

/** The memory all rings of a plane are in, seen in every way. */
export class Memory {
  readonly shared: SharedArrayBuffer
  readonly u8: Uint8Array
  readonly i32: Int32Array
  readonly f64: Float64Array

  constructor(bytes: number) {
    this.shared = new SharedArrayBuffer(bytes)
    this.u8 = new Uint8Array(this.shared)
    this.i32 = new Int32Array(this.shared)
    this.f64 = new Float64Array(this.shared)
  }
}

/** The longest record that finds room for sure, wherever the ring stands: half of it. */
const MOST_TOLD = 256 * 1024

/** What both ends know: where the ring is and how far this end has come. Bytes are counted modulo 2^32. */
class End {
  readonly memory: Memory
  protected readonly start: number
  protected readonly size = RING_BYTES - HEAD
  protected own = 0

  constructor(memory: Memory, start: number) {
    this.memory = memory
    this.start = start
  }

  protected counter(which: number): number {
    return Atomics.load(this.memory.i32, (this.start + which) >> 2)
  }

  protected setCounter(which: number, value: number): void {
    Atomics.store(this.memory.i32, (this.start + which) >> 2, value)
  }

  protected place(position = this.own): number {
    return this.start + HEAD + (position & (this.size - 1))
  }
}

/** The end that reads what a thread says. */
export class Inbox extends End {
  /** Of the record `next` came to. */
  kind = 0

  readonly #reports: number
  /** Reports have been given out to here, and questions may be to there. */
  #ahead = 0
  #limit = 0

  /** `reports` has a bit for every kind that `report` gives out; the others are questions. */
  constructor(memory: Memory, start: number, reports: number) {
    super(memory, start)
    this.#reports = reports
  }

  /** Questions that are there by now are those `next` gives out. */
  mark(): void {
    this.#limit = this.counter(WRITTEN)
  }

  /** Where the payload of the next report begins in the memory; -1 when there is none. It stays until `release`. */
  report(): number {
    const { i32 } = this.memory
    const written = this.counter(WRITTEN)
    while (this.#ahead !== written) {
      const at = this.place(this.#ahead)
      this.#ahead = (this.#ahead + i32[at >> 2]!) | 0
      this.kind = i32[(at >> 2) + 1]!
      if ((this.#reports & (1 << this.kind)) !== 0) return at + RECORD
    }
    return -1
  }

  /** The same of what is no report, up to the mark and to where reports have been given out. */
  next(): number {
    const { i32 } = this.memory
    if (((this.#ahead - this.#limit) | 0) < 0) this.#limit = this.#ahead
    while (((this.#limit - this.own) | 0) > 0) {
      const at = this.place()
      this.own = (this.own + i32[at >> 2]!) | 0
      this.kind = i32[(at >> 2) + 1]!
      if (this.kind !== FILLER && (this.#reports & (1 << this.kind)) === 0) return at + RECORD
    }
    return -1
  }

  get waiting(): boolean {
    return this.counter(WRITTEN) !== this.own
  }

  /** Gives the thread the room of all that was read. */
  release(): void {
    this.setCounter(READ, this.own)
  }
}

/** The end that tells a thread. What finds no room waits here, in order. */
export class Outbox extends End {
  #late: { kind: number; payload: Uint8Array }[] = []
  #published = 0

  /**
   * Has `write` fill a record's payload of `bytes`; it is called with where that begins, later if there is no room
   * now. Throws a `RangeError` for more than 255 KiB.
   */
  tell(kind: number, bytes: number, write: (memory: Memory, at: number) => void): void {
    if (bytes + RECORD > MOST_TOLD) throw new RangeError(`expected at most ${MOST_TOLD} bytes, got ${bytes}`)
    const at = this.#late.length > 0 ? -1 : this.#reserve(kind, bytes)
    if (at >= 0) return write(this.memory, at)
    const own = new Memory((bytes + 7) & ~7)
    write(own, 0)
    this.#late.push({ kind, payload: own.u8 })
  }

  /** Shows the thread all that was told. True when it sleeps and has to be roused. */
  publish(): boolean {
    let caughtUp = 0
    for (const { kind, payload } of this.#late) {
      const at = this.#reserve(kind, payload.length)
      if (at < 0) break
      this.memory.u8.set(payload, at)
      caughtUp++
    }
    if (caughtUp > 0) this.#late.splice(0, caughtUp)
    if (this.#published === this.own) return false
    this.#published = this.own
    this.setCounter(WRITTEN, this.own)
    return Atomics.compareExchange(this.memory.i32, (this.start + ASLEEP) >> 2, 1, 0) === 1
  }

  /** Records that wait for room. */
  get late(): number {
    return this.#late.length
  }

  #reserve(kind: number, payload: number): number {
    const { i32 } = this.memory
    const bytes = (RECORD + payload + 7) & ~7
    const rest = this.size - (this.own & (this.size - 1))
    const free = this.size - ((this.own - this.counter(READ)) >>> 0)
    const filler = bytes > rest ? rest : 0
    if (filler + bytes > free) return -1
    if (filler > 0) {
      i32[this.place() >> 2] = filler
      i32[(this.place() >> 2) + 1] = FILLER
      this.own = (this.own + filler) | 0
    }
    const at = this.place()
    i32[at >> 2] = bytes
    i32[(at >> 2) + 1] = kind
    this.own = (this.own + bytes) | 0
    return at + RECORD
  }
}

// Datagrams of a client that wait for a backend, or were sent and not answered yet: the next backend may need them.

const MOST = 8
const MOST_BYTES = 64 * 1024
/** Of those that were sent: it costs little, and one-way talk is never answered. */
const MOST_SENT_BYTES = 4 * 1024
/** Nobody says later than that that a port is closed. */
const SENT_MS = 1_000

export class Kept {
  #datagrams: Uint8Array[] = []
  #bytes = 0
  #sentAt = 0

  /** In the order they came. */
  get all(): readonly Uint8Array[] {
    return this.#datagrams
  }

  /** False when there is no room for it. */
  add(bytes: Uint8Array): boolean {
    if (!this.#fits(bytes, MOST_BYTES)) return false
    this.#push(bytes)
    return true
  }

  /** Keeps it, and lets go of the oldest as long as there is no room. */
  renew(bytes: Uint8Array, mostBytes = MOST_BYTES): void {
    while (!this.#fits(bytes, mostBytes)) this.#bytes -= this.#datagrams.shift()!.length
    this.#push(bytes)
  }

  /** All of them have been sent. */
  sent(now: number): void {
    this.#sentAt = now
  }

  /** One more is sent: the newest are kept, but none that is too large by itself. */
  remember(bytes: Uint8Array, now: number): void {
    this.forget(now)
    if (bytes.length > MOST_SENT_BYTES) return
    this.#sentAt = now
    this.renew(bytes, MOST_SENT_BYTES)
  }

  /** Lets go of what was sent so long ago that it has arrived. */
  forget(now: number): void {
    if (now - this.#sentAt > SENT_MS) this.clear()
  }

  clear(): void {
    if (this.#datagrams.length === 0) return
    this.#datagrams = []
    this.#bytes = 0
  }

  #fits(bytes: Uint8Array, mostBytes: number): boolean {
    return this.#datagrams.length < MOST && this.#bytes + bytes.length <= mostBytes
  }

  #push(bytes: Uint8Array): void {
    this.#datagrams.push(bytes)
    this.#bytes += bytes.length
  }
}

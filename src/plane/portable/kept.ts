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
  add(bytes: Uint8Array, mostBytes = MOST_BYTES): boolean {
    if (this.#datagrams.length >= MOST || this.#bytes + bytes.length > mostBytes) return false
    this.#datagrams.push(bytes)
    this.#bytes += bytes.length
    return true
  }

  /** All of them have been sent. */
  sent(now: number): void {
    this.#sentAt = now
  }

  /** One more is sent: it is kept where there is room. */
  remember(bytes: Uint8Array, now: number): void {
    this.forget(now)
    this.#sentAt = now
    this.add(bytes, MOST_SENT_BYTES)
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
}

// Datagrams of a client that wait for a backend, or for its first answer: they may have to be sent once more.

const MOST = 8
const MOST_BYTES = 64 * 1024

export class Kept {
  #datagrams: Uint8Array[] = []
  #bytes = 0

  /** In the order they came. */
  get all(): readonly Uint8Array[] {
    return this.#datagrams
  }

  /** False when there is no room for it. */
  add(bytes: Uint8Array): boolean {
    if (this.#datagrams.length >= MOST || this.#bytes + bytes.length > MOST_BYTES) return false
    this.#datagrams.push(bytes)
    this.#bytes += bytes.length
    return true
  }

  clear(): void {
    if (this.#datagrams.length === 0) return
    this.#datagrams = []
    this.#bytes = 0
  }
}

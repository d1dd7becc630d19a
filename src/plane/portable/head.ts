// A client's first bytes, kept while the desk reads them; never more than it asked for.

const FIRST_BYTES = 2048

export class Head {
  length = 0
  /** The desk is asked at this many bytes. */
  need = 0
  #most = 0
  #memory: Uint8Array = Buffer.allocUnsafeSlow(0)

  /** Waits for `need` bytes and keeps up to `most`. */
  expect(need: number, most: number): void {
    this.need = need
    this.#most = most
  }

  /** The bytes read so far. */
  get bytes(): Uint8Array {
    return this.#memory.subarray(0, this.length)
  }

  /** Where the next bytes go; never empty while bytes are needed. */
  room(): Uint8Array {
    if (this.length === this.#memory.length) this.#grow()
    return this.#memory.subarray(this.length, Math.min(this.#memory.length, this.#most))
  }

  #grow(): void {
    const wanted = Math.max(this.need, FIRST_BYTES, 2 * this.length)
    const larger = Buffer.allocUnsafeSlow(Math.min(wanted, this.#most))
    larger.set(this.bytes)
    this.#memory = larger
  }
}

// Rows in the order of their text, kept in one typed array: one binary search and one move a change.

const FIRST_ROOM = 16

export class SortedRows {
  #text: readonly string[]
  #buffer = new Int32Array(FIRST_ROOM)
  #size = 0
  /** Made when asked for: a view a change would be most of an update's garbage. */
  #view: Int32Array | undefined

  /** Rows are compared by `text[row]`, then by number; the text of a row here must not change. */
  constructor(text: readonly string[]) {
    this.#text = text
  }

  get size(): number {
    return this.#size
  }

  /** The rows in order; a view that a later change may move under the reader. */
  get rows(): Int32Array {
    return (this.#view ??= this.#buffer.subarray(0, this.#size))
  }

  /** Puts a row in its place; one that is there already stays. */
  insert(row: number): void {
    const at = this.#find(row)
    if (at < this.#size && this.#buffer[at] === row) return
    if (this.#size === this.#buffer.length) {
      const roomier = new Int32Array(this.#size * 2)
      roomier.set(this.#buffer)
      this.#buffer = roomier
    }
    this.#buffer.copyWithin(at + 1, at, this.#size)
    this.#buffer[at] = row
    this.#resize(this.#size + 1)
  }

  /** Takes a row out; one that is not there is no error. */
  remove(row: number): void {
    const at = this.#find(row)
    if (at >= this.#size || this.#buffer[at] !== row) return
    this.#buffer.copyWithin(at, at + 1, this.#size)
    this.#resize(this.#size - 1)
  }

  /** Takes the place of what is here: `rows` are in order already. */
  assign(rows: Int32Array): void {
    if (rows.length > this.#buffer.length) this.#buffer = new Int32Array(rows.length * 2)
    this.#buffer.set(rows)
    this.#resize(rows.length)
  }

  #resize(size: number): void {
    this.#size = size
    this.#view = undefined
  }

  #find(row: number): number {
    const text = this.#text[row]!
    let low = 0
    let high = this.#size
    while (low < high) {
      const middle = (low + high) >>> 1
      const other = this.#buffer[middle]!
      const before = this.#text[other]!
      if (before < text || (before === text && other < row)) low = middle + 1
      else high = middle
    }
    return low
  }
}

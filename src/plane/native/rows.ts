// What is counted of each backend row: every thread adds up in its own blocks, and all are read in place.
//
//      block 0: rows 0-15    block 1: rows 16-47    block 2: rows 48-111    ...   eight numbers a row

const FIRST_BLOCK = 16
const COLUMNS = 8
const [RX, TX, CONNECTS, REQUESTS, RESPONSES] = [0, 1, 2, 3, 4]

/** Hands a thread its counters of a block. */
type Give = (thread: number, block: number, counters: Float64Array) => void

export class Rows {
  readonly #threads: number
  readonly #give: Give
  /** By block, then by thread. */
  readonly #blocks: Float64Array[][] = []

  constructor(threads: number, give: Give) {
    this.#threads = threads
    this.#give = give
  }

  /** Makes sure that every thread can count under `row`. */
  reserve(row: number): void {
    while (FIRST_BLOCK * (2 ** this.#blocks.length - 1) <= row) {
      const block = this.#blocks.length
      const bytes = 8 * COLUMNS * FIRST_BLOCK * 2 ** block
      const counters = Array.from(
        { length: this.#threads },
        () => new Float64Array(new SharedArrayBuffer(bytes)),
      )
      this.#blocks.push(counters)
      for (const [thread, each] of counters.entries()) this.#give(thread, block, each)
    }
  }

  rx(row: number): number {
    return this.#sum(row, RX)
  }

  tx(row: number): number {
    return this.#sum(row, TX)
  }

  connects(row: number): number {
    return this.#sum(row, CONNECTS)
  }

  requests(row: number): number {
    return this.#sum(row, REQUESTS)
  }

  responses(row: number): number {
    return this.#sum(row, RESPONSES)
  }

  #sum(row: number, column: number): number {
    const block = 31 - Math.clz32(row / FIRST_BLOCK + 1)
    const counters = this.#blocks[block]
    if (!counters) return 0
    const at = (row - FIRST_BLOCK * (2 ** block - 1)) * COLUMNS + column
    let sum = 0
    for (let thread = 0; thread < counters.length; thread++) sum += counters[thread]![at]!
    return sum
  }
}

// Rules of one address family as a sorted list of the addresses at which the verdict turns.

export type Verdict = 'allow' | 'deny'

/** One rule: what becomes of the clients of a network. */
export interface Rule {
  readonly verdict: Verdict
  /** 4 or 16 bytes; those below the prefix mean nothing. */
  readonly network: Uint8Array
  /** Leading bits that count. */
  readonly prefix: number
}

/** The verdict of boundaries `width` words wide on the address at `from` in `bytes`: a binary search. */
export function allowed(
  { words, firstAllows }: Pick<Boundaries, 'words' | 'firstAllows'>,
  width: number,
  bytes: Uint8Array,
  from = 0,
): boolean {
  let low = 0
  let high = words.length / width
  while (high - low > 1) {
    const middle = (low + high) >>> 1
    if (isAbove(words, middle * width, width, bytes, from)) high = middle
    else low = middle
  }
  return (low & 1) === 0 ? firstAllows : !firstAllows
}

function isAbove(words: Uint32Array, at: number, width: number, bytes: Uint8Array, from: number): boolean {
  for (let i = 0; i < width; i++) {
    const byte = from + 4 * i
    const mine = words[at + i]!
    const theirs =
      ((bytes[byte]! << 24) | (bytes[byte + 1]! << 16) | (bytes[byte + 2]! << 8) | bytes[byte + 3]!) >>> 0
    if (mine !== theirs) return mine > theirs
  }
  return false
}

/** A network as the sweep sees it: its first and last address, and which rule it is. */
interface Range {
  readonly first: bigint
  readonly last: bigint
  readonly index: number
}

/** One flat array, which planes read too. */
export class Boundaries {
  /** `size / 4` words a boundary, ascending, from address 0 on. */
  readonly words: Uint32Array
  /** The verdict from address 0 on; it turns at every boundary after that. */
  readonly firstAllows: boolean
  readonly #width: number

  /** The rules whose networks have `size` bytes; the earliest that matches wins, `otherwise` where none does. */
  constructor(size: 4 | 16, otherwise: Verdict, rules: readonly Rule[]) {
    const turns = sweep(rangesOf(size, rules), rules, otherwise === 'allow', (1n << BigInt(8 * size)) - 1n)
    this.#width = size / 4
    this.firstAllows = turns.firstAllows
    this.words = new Uint32Array(turns.at.length * this.#width)
    turns.at.forEach((address, i) => this.#write(i, address))
  }

  /** Looks up the address that starts at `from` in `bytes`. */
  allows(bytes: Uint8Array, from: number): boolean {
    return allowed(this, this.#width, bytes, from)
  }

  #write(boundary: number, address: bigint): void {
    for (let i = 0; i < this.#width; i++) {
      const shift = BigInt(32 * (this.#width - 1 - i))
      this.words[boundary * this.#width + i] = Number((address >> shift) & 0xffffffffn)
    }
  }
}

/** Ascending by first address; of those that begin together the widest first. */
function rangesOf(size: number, rules: readonly Rule[]): Range[] {
  const ranges: Range[] = []
  rules.forEach(({ network, prefix }, index) => {
    if (network.length !== size) return
    const below = (1n << BigInt(8 * size - prefix)) - 1n
    const address = BigInt(`0x${Buffer.from(network).toString('hex')}`)
    ranges.push({ first: address & ~below, last: address | below, index })
  })
  return ranges.sort((a, b) => compare(a.first, b.first) || compare(b.last, a.last))
}

/**
 * Walks the ranges from the lowest address up. Two networks are nested or apart, so those around the present
 * address are a stack, and the verdict is that of the earliest rule on it.
 */
function sweep(ranges: readonly Range[], rules: readonly Rule[], otherwise: boolean, highest: bigint): Turns {
  const turns = new Turns(otherwise)
  const around: Range[] = []
  const leave = () => {
    const { last } = around.pop()!
    if (last < highest) turns.add(last + 1n, verdict())
  }
  const verdict = () => {
    const innermost = around.at(-1)
    return innermost ? rules[innermost.index]!.verdict === 'allow' : otherwise
  }
  for (const range of ranges) {
    while (around.length > 0 && around.at(-1)!.last < range.first) leave()
    const index = Math.min(range.index, around.at(-1)?.index ?? Infinity)
    around.push({ ...range, index })
    turns.add(range.first, verdict())
  }
  while (around.length > 0) leave()
  return turns
}

/** The addresses at which the verdict becomes another; the first is 0. */
class Turns {
  readonly at: bigint[] = [0n]
  firstAllows: boolean

  constructor(firstAllows: boolean) {
    this.firstAllows = firstAllows
  }

  /** From `address` on; called with ascending addresses, where the last word on an address counts. */
  add(address: bigint, allows: boolean): void {
    if (allows === this.#allows()) return
    if (address === 0n) this.firstAllows = allows
    else if (this.at.at(-1) === address) this.at.pop()
    else this.at.push(address)
  }

  #allows(): boolean {
    return (this.at.length & 1) === 1 ? this.firstAllows : !this.firstAllows
  }
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0
}

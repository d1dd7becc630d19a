// The highest FNV-1a among thousands of texts, found without hashing them.
//
// One step of FNV-1a is h' = (h ^ byte) × p, and ^ touches only the low eight bits of h. So with
// h = upper + low, a text of n bytes takes h to
//
//     upper × pⁿ  +  FNV-1a of the text carried on from low      (mod 2³²)
//     └ shift ──┘    └ offset: one of 256 per text ──────────┘
//
// For each low byte and length the offsets stand sorted. The highest sum is the highest offset that does
// not carry the sum over 2³²; when every offset does, the highest of all.

import type { Electable } from './balancer.ts'
import { FNV_PRIME, fnvText } from './fnv.ts'

/** An offset and a place share one float: offset × PLACES + (PLACES − 1 − place), so that the first text is highest of equals. */
const PLACES = 2 ** 21

/** Texts passed over, because their backend is full, before the search gives up. */
const MOST_PASSES = 64

interface SameLength {
  /** The prime to the power of the length. */
  readonly power: number
  readonly places: readonly number[]
}

/** An index over the members of an electable; the part of a low byte is built when it is first asked for. */
export class HighestHash {
  readonly #rows: Int32Array
  readonly #texts: readonly string[]
  readonly #groups: readonly SameLength[]
  readonly #sorted: (readonly Float64Array[] | undefined)[] = []

  constructor({ members, columns }: Electable) {
    this.#rows = members.slice()
    const texts: string[] = []
    for (let place = 0; place < members.length; place++) texts.push(columns.text[members[place]!]!)
    this.#texts = texts
    this.#groups = groupByLength(this.#texts)
  }

  /** True when the index was built from the same texts in the same rows. */
  covers({ members, columns }: Electable): boolean {
    if (members.length !== this.#rows.length) return false
    for (let i = 0; i < members.length; i++) {
      if (members[i] !== this.#rows[i] || columns.text[members[i]!] !== this.#texts[i]) return false
    }
    return true
  }

  /**
   * The electable row whose text hashes highest when carried on from `state`; the first text wins a tie.
   * Undefined when too many had to be passed over.
   */
  highest(state: number, electable: Electable): number | undefined {
    const sorted = (this.#sorted[state & 255] ??= this.#sort(state & 255))
    let highest = -1
    let best = 0
    let passes = 0
    for (let g = 0; g < sorted.length; g++) {
      const offsets = sorted[g]!
      const shift = Math.imul(state & ~255, this.#groups[g]!.power) >>> 0
      let at = countBelow(offsets, (2 ** 32 - shift) * PLACES) - 1
      for (let left = offsets.length; left > 0; left--, at--) {
        if (at < 0) at = offsets.length - 1
        const offset = Math.floor(offsets[at]! / PLACES)
        const place = PLACES - 1 - (offsets[at]! - offset * PLACES)
        const hash = (shift + offset) % 2 ** 32
        if (hash < highest || (hash === highest && place > best)) break
        if (electable.has(this.#rows[place]!)) {
          highest = hash
          best = place
          break
        }
        if (++passes > MOST_PASSES) return undefined
      }
    }
    return highest < 0 ? undefined : this.#rows[best]
  }

  #sort(low: number): Float64Array[] {
    return this.#groups.map(({ places }) => {
      const offsets = new Float64Array(places.length)
      for (let i = 0; i < places.length; i++) {
        offsets[i] = fnvText(this.#texts[places[i]!]!, low) * PLACES + (PLACES - 1 - places[i]!)
      }
      return offsets.sort()
    })
  }
}

function groupByLength(texts: readonly string[]): SameLength[] {
  const places = new Map<number, number[]>()
  texts.forEach((text, place) => {
    const length = byteLength(text)
    const group = places.get(length)
    if (group) group.push(place)
    else places.set(length, [place])
  })
  return Array.from(places, ([length, places]) => ({ power: power(length), places }))
}

/** Buffer.byteLength, without the cost of a native call for what is nearly always ASCII. */
function byteLength(text: string): number {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 127) return Buffer.byteLength(text)
  return text.length
}

function power(length: number): number {
  let product = 1
  for (let i = 0; i < length; i++) product = Math.imul(product, FNV_PRIME)
  return product
}

/** How many of the ascending `values` are below `limit`. */
function countBelow(values: Float64Array, limit: number): number {
  let low = 0
  let high = values.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (values[middle]! < limit) low = middle + 1
    else high = middle
  }
  return low
}

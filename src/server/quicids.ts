// Which backend has a QUIC connection, by the ids its datagrams carry: clients keep them when their address changes.
//
//     client ── Initial, to an id of its own choice ──► elected by that id          chosen
//     client ◄── Initial, from an id of the backend's ── glimpsed                   issued
//     client ── everything after that, to the issued id, from any address ──► the same backend

import { MOST_ID, readLongHeader, readShortHeader } from '../plane/quic.ts'

/** The one of a backend's addresses that has the connection. */
export interface Home {
  /** The `id` of the backend. */
  readonly backend: number
  readonly host: string
}

/** What the first datagram of a session asks for. */
export interface Asked {
  /** Where its connection is, if anywhere. */
  readonly home: Home | undefined
  /** The bytes to elect by; undefined where the client's address has to do. */
  readonly key: Uint8Array | undefined
}

const NOTHING: Asked = { home: undefined, key: undefined }

/** A client has to choose at least so many bytes (RFC 9000, 7.2). Most that is not QUIC says less. */
const LEAST_CHOSEN = 8

/**
 * Bounded: of ids clients chose and of ids backends issued, `most` each, and the one unused for longest goes. Clients
 * cannot push out what backends have issued.
 */
export class QuicIds {
  readonly #most: number
  readonly #chosen = new Map<string, Home>()
  readonly #issued = new Map<string, Home>()
  /** How many issued ids have so many bytes: a short header does not say where its id ends. */
  readonly #lengths = new Uint32Array(MOST_ID + 1)

  constructor(most: number) {
    this.#most = most
  }

  /** Ids known. */
  get size(): number {
    return this.#chosen.size + this.#issued.size
  }

  /** Reads a client's datagram. The answer keeps nothing of `bytes`. */
  read(bytes: Uint8Array): Asked {
    const header = readLongHeader(bytes)
    if (!header) return { home: this.#byShort(bytes), key: undefined }
    const { destination } = header
    const id = textOf(destination)
    const home = touch(this.#issued, id) ?? touch(this.#chosen, id)
    if (destination.length >= LEAST_CHOSEN) return { home, key: destination.slice() }
    return home ? { home, key: undefined } : NOTHING
  }

  /** A client's connection, asked for by `key`, is now at home there. */
  choose(key: Uint8Array, home: Home): void {
    const id = textOf(key)
    this.#chosen.delete(id)
    this.#chosen.set(id, home)
    if (this.#chosen.size > this.#most) this.#chosen.delete(oldest(this.#chosen))
  }

  /** Reads a datagram of the backend at `home`. */
  learn(bytes: Uint8Array, home: Home): void {
    const header = readLongHeader(bytes)
    if (!header || header.version === 0 || header.source.length === 0) return
    const id = textOf(header.source)
    if (!this.#issued.delete(id)) this.#lengths[id.length]!++
    this.#issued.set(id, home)
    if (this.#issued.size <= this.#most) return
    const gone = oldest(this.#issued)
    this.#issued.delete(gone)
    this.#lengths[gone.length]!--
  }

  /** The longest that is known: a shorter one may be like its beginning by chance. */
  #byShort(bytes: Uint8Array): Home | undefined {
    for (let length = MOST_ID; length > 0; length--) {
      if (this.#lengths[length] === 0) continue
      const id = readShortHeader(bytes, length)
      const home = id && touch(this.#issued, textOf(id))
      if (home) return home
    }
    return undefined
  }
}

/** One character a byte. */
function textOf(id: Uint8Array): string {
  return Buffer.from(id.buffer, id.byteOffset, id.length).toString('latin1')
}

/** Looks up, and counts as a use. */
function touch(homes: Map<string, Home>, id: string): Home | undefined {
  const home = homes.get(id)
  if (home) {
    homes.delete(id)
    homes.set(id, home)
  }
  return home
}

/** A map keeps the order in which ids were last used. */
function oldest(homes: Map<string, Home>): string {
  return homes.keys().next().value!
}

// Long text in pieces: gathered, and sent, without ever keeping others waiting for the whole of it.

import { Readable } from 'node:stream'

/** A piece is made as soon as this much text has come together. */
const PIECE_CHARS = 32 * 1024

/** Text that grows at its end. */
export class Chunks {
  readonly #pieces: Buffer[] = []
  #text = ''

  add(text: string): void {
    this.#text += text
    if (this.#text.length >= PIECE_CHARS) this.#cut()
  }

  /** Everything added so far. */
  pieces(): readonly Buffer[] {
    if (this.#text !== '') this.#cut()
    return this.#pieces
  }

  #cut(): void {
    this.#pieces.push(Buffer.from(this.#text))
    this.#text = ''
  }
}

/** Bytes in `pieces`. */
export function lengthOf(pieces: readonly Buffer[]): number {
  return pieces.reduce((sum, piece) => sum + piece.length, 0)
}

/** `pieces` as a stream that lets the event loop turn after each: a socket with room would take all at once. */
export function streamOf(pieces: readonly Buffer[]): Readable {
  return Readable.from(paced(pieces))
}

async function* paced(pieces: readonly Buffer[]): AsyncGenerator<Buffer> {
  for (const piece of pieces) {
    yield piece
    await new Promise(setImmediate)
  }
}

// Whole lists out of an endless text: each ends with an empty line, and only the last one counts.

/** The longest list, in bytes. */
const MOST_BYTES = 1024 * 1024

/** Bytes as text and back without loss; a character may be cut in two between pieces. */
const BYTES = 'latin1'

export class Blocks {
  /** What has come of the list that is not whole yet. */
  #begun = ''

  /**
   * Takes in a piece of the text. Returns the last list that is whole with it, undefined when none is. An empty
   * line with no line before it is an empty list. Throws when a list is longer than 1 MiB.
   */
  add(chunk: Buffer): Buffer | undefined {
    // Text from Windows.
    const text = '\n' + this.#begun + chunk.toString(BYTES).replaceAll('\r', '')
    const end = text.lastIndexOf('\n\n')
    this.#begun = end < 0 ? text.slice(1) : text.slice(end + 2)
    if (this.#begun.length > MOST_BYTES) throw new Error(`a list is longer than ${MOST_BYTES} bytes`)
    if (end < 0) return undefined
    const start = end === 0 ? 0 : text.lastIndexOf('\n\n', end - 1)
    return Buffer.from(text.slice(start < 0 ? 1 : start + 2, end), BYTES)
  }
}

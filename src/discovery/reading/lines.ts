// The lines of a text that came as bytes, one at a time and not more than anybody needs.

/** No backend needs a longer line, in characters. */
export const LONGEST_LINE = 4096

/** More lines than anybody has backends. */
const MOST_LINES = 100_000

/** So many bytes are more characters than the longest line has, whatever they say. */
const MOST_BYTES = 4 * (LONGEST_LINE + 1)

/**
 * The lines of `text`; of one that is too long for a backend only a beginning that is too long as well. Throws
 * beyond 100,000 lines, and the signal's reason when that has aborted.
 */
export function* linesOf(text: Buffer, signal: AbortSignal): Generator<string> {
  let count = 0
  for (let from = 0; from < text.length; count++) {
    signal.throwIfAborted()
    if (count === MOST_LINES) throw new Error(`the text has more than ${MOST_LINES} lines`)
    const feed = text.indexOf(0x0a, from)
    const end = feed < 0 ? text.length : feed
    yield text.toString('utf8', from, Math.min(end, from + MOST_BYTES))
    from = end + 1
  }
}

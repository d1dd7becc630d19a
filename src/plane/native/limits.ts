// Numbers of the configuration as C takes them: whole, and no larger than there is room for.

/** The most an option of a socket can be. */
export const MOST_OPTION = 2 ** 31 - 1
/** The most a word of a record can be. */
export const MOST_WORD = 2 ** 32 - 1
/** C counts in ns with 64 bits, and adds them to the time since the machine started: a hundred years. */
const MOST_MS = 100 * 365 * 86_400_000

/** A limit in whole milliseconds. A part of one is not 0, which is without limit. */
export function wholeMs(ms: number, most = MOST_MS): number {
  return Math.min(Math.ceil(ms), most)
}

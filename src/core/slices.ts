// Long work in short slices: clients that arrive meanwhile are decided between two of them.

/** A slice ends after this long, in milliseconds. */
const SLICE_MS = 2

/** Calls `work` for each item in order and lets the event loop turn whenever a slice is used up. */
export async function inSlices<T>(items: Iterable<T>, work: (item: T) => void): Promise<void> {
  let began = performance.now()
  let count = 0
  for (const item of items) {
    work(item)
    if ((++count & 15) === 0 && performance.now() - began > SLICE_MS) {
      await new Promise(setImmediate)
      began = performance.now()
    }
  }
}

// Long work in short slices, taken when nobody else wants the event loop: clients are decided between them.

/** A slice ends after this long, in milliseconds. */
const SLICE_MS = 1

/** A turn of the loop that took no longer brought nothing, in milliseconds. */
const QUIET_MS = 0.05

/** However busy the loop is, long work goes on after this many turns. */
const MOST_TURNS = 40

/** Calls `work` for each item in order, and waits for a quiet loop whenever a slice is used up. */
export async function inSlices<T>(items: Iterable<T>, work: (item: T) => void): Promise<void> {
  const slice = slices()
  let count = 0
  for (const item of items) {
    work(item)
    const others = (++count & 3) === 0 && slice()
    if (others) await others
  }
}

/**
 * For long work that waits by itself, yet never for others: what this returns is called and awaited between two
 * steps, and takes a while whenever a slice is used up.
 */
export function slices(): () => Promise<void> | undefined {
  let began = performance.now()
  const next = async () => {
    await quiet()
    began = performance.now()
  }
  return () => (performance.now() - began > SLICE_MS ? next() : undefined)
}

/**
 * Resolves when a turn of the event loop has brought nothing, or after 40 turns. libuv accepts one client a
 * turn, so one turn between two slices would let a queue of clients grow for as long as the work goes on.
 */
export async function quiet(): Promise<void> {
  for (let turn = 0; turn < MOST_TURNS; turn++) {
    const began = performance.now()
    await new Promise(setImmediate)
    if (performance.now() - began < QUIET_MS) return
  }
}

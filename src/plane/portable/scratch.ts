// The memory bytes pass through: one buffer every socket reads into, and slabs they are written from.
//
//      slab  [ pending write | pending write | stage ...             ]
//             pinned by the peers they go to   ^used: next write's copy
//
// A view of the read buffer is never written itself: the kernel may take only a part, and the rest would be
// overwritten by the next read of any socket. A write that is left pending pins its slab; others share it.

/** The most one read can bring. */
const READ_BYTES = 128 * 1024
/** Views up to this length are made once. */
const CACHED = 2048
/** Slabs that may be pinned before pending writes get memory of their own size instead. */
const MOST_PINNED = 64
/** Idle slabs kept for the next burst of slow readers. */
const MOST_KEPT = 16

/** What every relaying socket reads into; its content lasts until the next read of any of them. */
export const readBuffer: Uint8Array = Buffer.allocUnsafeSlow(READ_BYTES)

/** Memory that pending writes share; given back when the last of them is done. */
export class Slab {
  readonly memory: Uint8Array = Buffer.allocUnsafeSlow(2 * READ_BYTES)
  readonly views = views()
  used = 0
  pins = 0
}

const reads = views()
const kept: Slab[] = []
let current = new Slab()
let pinned = 0
let shared = true

/**
 * Copies the first `length` bytes of the read buffer to where they can be written from. The copy lasts until
 * the next call, or as long as it is pinned.
 */
export function stage(length: number): Uint8Array {
  const bytes = cachedView(readBuffer, reads, length)
  // A few bytes must not hold a whole slab when very many readers are slow.
  shared = current.pins > 0 || pinned < MOST_PINNED
  const copy = shared ? room(current, length) : Buffer.allocUnsafeSlow(length)
  copy.set(bytes)
  return copy
}

/** Keeps the copy staged last; null when it is memory of its own that needs no `unpin`. */
export function pin(length: number): Slab | null {
  if (!shared) return null
  const slab = current
  if (slab.pins++ === 0) pinned++
  slab.used += length
  if (slab.used > READ_BYTES) current = kept.pop() ?? new Slab()
  return slab
}

/** The write that pinned the slab is over. */
export function unpin(slab: Slab): void {
  if (--slab.pins > 0) return
  pinned--
  slab.used = 0
  if (slab !== current && kept.length < MOST_KEPT) kept.push(slab)
}

function room(slab: Slab, length: number): Uint8Array {
  if (slab.used === 0) return cachedView(slab.memory, slab.views, length)
  return slab.memory.subarray(slab.used, slab.used + length)
}

function views(): (Uint8Array | null)[] {
  return new Array<Uint8Array | null>(CACHED + 1).fill(null)
}

function cachedView(memory: Uint8Array, cache: (Uint8Array | null)[], length: number): Uint8Array {
  if (length > CACHED) return memory.subarray(0, length)
  return (cache[length] ??= memory.subarray(0, length))
}

// FNV-1a with 32 bits (Fowler, Noll, Vo; RFC 9923), the hash gobetween maps clients with.

export const FNV_BASIS = 2166136261
export const FNV_PRIME = 16777619

/** FNV-1a of `bytes`, carried on from `state`; an unsigned 32-bit number. */
export function fnvBytes(bytes: Uint8Array, state = FNV_BASIS): number {
  let hash = state
  for (let i = 0; i < bytes.length; i++) hash = Math.imul(hash ^ bytes[i]!, FNV_PRIME)
  return hash >>> 0
}

/** FNV-1a of the UTF-8 bytes of `text`, carried on from `state`; an unsigned 32-bit number. */
export function fnvText(text: string, state = FNV_BASIS): number {
  let hash = state
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code > 127) return fnvBytes(Buffer.from(text), state)
    hash = Math.imul(hash ^ code, FNV_PRIME)
  }
  return hash >>> 0
}

/**
 * Spreads every bit of `hash` over all 32: the finalizer of MurmurHash3 (Austin Appleby, public domain).
 * FNV-1a alone leaves texts that differ in their last byte close together.
 */
export function spread(hash: number): number {
  let h = hash
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

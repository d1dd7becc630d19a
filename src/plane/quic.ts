// Connection ids at the beginning of a QUIC datagram (RFC 8999; RFC 9000, 17.2 and 17.3). Nothing more of it is read.
//
//     long     1 . . . . . . .   version   n   destination   m   source   …
//              1 byte            4         1   n bytes       1   m
//     short    0 . . . . . . .   destination                              …
//              1 byte            as many bytes as who issued it knows

/** Longest id of QUIC 1 and 2. */
export const MOST_ID = 20

/** With so many bytes every id of these versions is there. */
export const HEADER_BYTES = 7 + 2 * MOST_ID

/** Ids as they stand in the datagram, which they do not outlive. */
export interface LongHeader {
  /** 0 in what a server says of versions it has: there the ids are those of the client. */
  readonly version: number
  readonly destination: Uint8Array
  readonly source: Uint8Array
}

/** The ids of a long header; undefined for a short one, and for what is none. Bytes of anything may look like one. */
export function readLongHeader(bytes: Uint8Array): LongHeader | undefined {
  if (bytes.length < 7 || isShort(bytes)) return undefined
  const source = 6 + bytes[5]!
  if (bytes[5]! > MOST_ID || source >= bytes.length) return undefined
  const end = source + 1 + bytes[source]!
  if (bytes[source]! > MOST_ID || end > bytes.length) return undefined
  const version = ((bytes[1]! << 24) | (bytes[2]! << 16) | (bytes[3]! << 8) | bytes[4]!) >>> 0
  return { version, destination: bytes.subarray(6, source), source: bytes.subarray(source + 1, end) }
}

/** The destination id of a short header, if ids have `length` bytes; undefined for what is none. */
export function readShortHeader(bytes: Uint8Array, length: number): Uint8Array | undefined {
  return isShort(bytes) && bytes.length > length ? bytes.subarray(1, 1 + length) : undefined
}

function isShort(bytes: Uint8Array): boolean {
  return bytes.length > 0 && (bytes[0]! & 0x80) === 0
}

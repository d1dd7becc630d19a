// Beginnings of QUIC datagrams.

/** The client's Initial of RFC 9001, A.2: to an id of its own choice, 8394c8f03e515708, from none. */
export const clientInitial = Buffer.from(
  'c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11d242b123dc9bd8bab936b47d92ec356c',
  'hex',
)

/** The server's Initial of RFC 9001, A.3: to none, from the id it issues, f067a5502a4262b5. */
export const serverInitial = Buffer.from(
  'cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a5816b6394100f37a1c69797554780bb3',
  'hex',
)

/** The Retry of RFC 9001, A.4: to none, from f067a5502a4262b5. */
export const retry = Buffer.from(
  'ff000000010008f067a5502a4262b5746f6b656e04a265ba2eff4d829058fb3f0f2496ba',
  'hex',
)

/** A datagram with a long header of QUIC 1. */
export function longHeader(destination: Uint8Array, source: Uint8Array = Buffer.alloc(0)): Buffer {
  const ids = [Buffer.from([destination.length]), destination, Buffer.from([source.length]), source]
  return Buffer.concat([Buffer.from('c000000001', 'hex'), ...ids, Buffer.alloc(20)])
}

/** A datagram with a short header. */
export function shortHeader(destination: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([0x4c]), destination, Buffer.alloc(20, 0xab)])
}

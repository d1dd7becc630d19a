// Basic authentication (RFC 7617), compared in a time that does not depend on how much is right.

import { createHash, timingSafeEqual } from 'node:crypto'

export const CHALLENGE = 'Basic realm="Authorization Required"'

/** Tells whether an `Authorization` header holds this login and password. */
export function basicAuth(login: string, password: string): (header: string | undefined) => boolean {
  const expected = digest(`${login}:${password}`)
  return (header) => {
    const given = /^basic +([\w+/=-]+) *$/i.exec(header ?? '')?.[1]
    // Digests have one length, whatever was sent.
    return given !== undefined && timingSafeEqual(digest(Buffer.from(given, 'base64')), expected)
  }
}

function digest(value: string | Buffer): Buffer {
  return createHash('sha256').update(value).digest()
}

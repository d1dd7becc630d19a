// Go's escapes in a double-quoted string, as bytes.

import { name } from '../core/settings.ts'

const SIMPLE: Record<string, number> = { a: 7, b: 8, f: 12, n: 10, r: 13, t: 9, v: 11, '\\': 92, '"': 34 }

const ESCAPE = /\\(?:([abfnrtv\\"])|x([\da-fA-F]{2})|([0-7]{3})|u([\da-fA-F]{4})|U([\da-fA-F]{8}))|([^\\]+)/y

/**
 * The bytes of what stands between the quotes of a Go string literal: `\n`, `\x00`, `\101`, `\u00e9` and the
 * other escapes of the Go specification, everything else as UTF-8. Undefined when Go would refuse it: an
 * unknown escape, a bare double quote or newline.
 */
export function unescapeGo(text: string): Uint8Array | undefined {
  return /["\n]/.test(text.replaceAll(/\\./gs, '')) ? undefined : unescapeText(text)
}

/** The same where double quotes and newlines stand for themselves. Undefined for an unknown escape only. */
export function unescapeText(text: string): Uint8Array | undefined {
  const parts: Uint8Array[] = []
  for (ESCAPE.lastIndex = 0; ESCAPE.lastIndex < text.length;) {
    const match = ESCAPE.exec(text)
    const part = match && bytesOf(match)
    if (!part) return undefined
    parts.push(part)
  }
  return Buffer.concat(parts)
}

/** Text with Go's escapes, not empty; quotes and newlines stand for themselves. */
export const escaped = () =>
  name().refine((text) => unescapeText(text) !== undefined, {
    error: 'text with Go escapes, such as "PING\\r\\n"',
  })

function bytesOf([, simple, hex, octal, short, long, plain]: RegExpExecArray): Uint8Array | undefined {
  if (plain !== undefined) return Buffer.from(plain)
  if (simple !== undefined) return Uint8Array.of(SIMPLE[simple]!)
  if (hex !== undefined) return Uint8Array.of(parseInt(hex, 16))
  if (octal !== undefined) return byte(parseInt(octal, 8))
  return rune(parseInt(short ?? long!, 16))
}

function byte(value: number): Uint8Array | undefined {
  return value <= 0xff ? Uint8Array.of(value) : undefined
}

/** A code point as UTF-8; halves of a surrogate pair are none. */
function rune(value: number): Uint8Array | undefined {
  if (value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) return undefined
  return Buffer.from(String.fromCodePoint(value))
}

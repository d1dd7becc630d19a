// What an answer may have to be: exact bytes, a text somewhere, a pattern, a whole line.

import { RE2JS } from 're2js'
import { shown } from './talk.ts'
import type { Expect } from './talk.ts'

/** The most of an answer that a pattern is asked to look at again whenever more has come, in bytes. */
const LOOKED_AT = 4096

/** Exactly `length` bytes that `matches` likes. */
export function exactly(length: number, matches: (answer: Buffer) => boolean): Expect {
  return (came, over) => {
    if (came.length < length) {
      if (over) throw new Error(`closed after ${came.length} of ${length} bytes`)
      return undefined
    }
    const answer = came.subarray(0, length)
    if (!matches(answer)) throw new Error(`answered ${shown(answer)}`)
    return { used: length, said: `answered ${shown(answer)}` }
  }
}

/** Begins with `bytes`. Wrong as soon as a byte is. */
export function startsWith(bytes: Uint8Array): Expect {
  return (came, over) => {
    const length = Math.min(came.length, bytes.length)
    const right = came.compare(bytes, 0, length, 0, length) === 0
    if (!right || (over && length < bytes.length)) throw unlike(came, Buffer.from(bytes))
    return length < bytes.length ? undefined : heard(came, length)
  }
}

/** Has `bytes` somewhere. */
export function contains(bytes: Uint8Array): Expect {
  return (came, over) => {
    const at = came.indexOf(bytes)
    if (at >= 0) return heard(came, at + bytes.length)
    if (over) throw unlike(came, Buffer.from(bytes))
    return undefined
  }
}

/** Matches `pattern` somewhere in its first 4096 bytes, a character a byte. */
export function matching(pattern: RE2JS): Expect {
  return (came, over) => {
    const matcher = pattern.matcher(came.toString('latin1', 0, LOOKED_AT))
    if (matcher.find()) return heard(came, matcher.end())
    if (over || came.length >= LOOKED_AT) throw unlike(came, Buffer.from(pattern.pattern()))
    return undefined
  }
}

/** A line, without its end, that `judge` puts into words; it throws when the line is wrong. */
export function line(judge: (line: string) => string): Expect {
  return (came) => {
    const end = came.indexOf('\n')
    if (end < 0) return undefined
    return { used: end + 1, said: judge(came.toString('latin1', 0, end).replace(/\r$/, '')) }
  }
}

/** A pattern that takes linear time; undefined when it is none. */
export function compiled(pattern: string): RE2JS | undefined {
  try {
    return RE2JS.compile(pattern)
  } catch {
    // Any throw is its way to say no.
    return undefined
  }
}

/** Text from outside, quoted and short enough for a reason. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > 200 ? text.slice(0, 200) + '…' : text)
}

function heard(came: Buffer, used: number) {
  return { used, said: `answered ${shown(came)}` }
}

function unlike(came: Buffer, expected: Buffer): Error {
  return new Error(`answered ${shown(came)}, expected ${shown(expected)}`)
}

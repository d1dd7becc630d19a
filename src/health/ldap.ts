// Healthy when a directory lets nobody in particular log in: an anonymous bind of LDAPv3 succeeds.

import { check } from './check.ts'
import { quoted } from './expects.ts'
import { conversing, shown } from './talk.ts'
import type { Expect } from './talk.ts'
import { where } from './where.ts'

// LDAPMessages in BER (RFC 4511, 4.1.1 and 4.2): number 1, bind as version 3 with no name and no password;
// number 2, unbind.
const BIND = Buffer.from('300c020101600702010304008000', 'hex')
const UNBIND = Buffer.from('30050201024200', 'hex')

const SEQUENCE = 0x30
const INTEGER = 0x02
const BIND_RESPONSE = 0x61
const ENUMERATED = 0x0a
const OCTET_STRING = 0x04

export const ldap = check({ settings: where, protocols: ['tcp', 'tls'] }, (settings) =>
  conversing(settings, [{ send: BIND }, { expect: bindResponse }, { send: UNBIND }]),
)

const bindResponse: Expect = (came, over) => {
  const message = element(came, SEQUENCE)
  if (!message) {
    if (over && came.length > 0) throw new Error(`answered ${shown(came)}, expected LDAP`)
    return undefined
  }
  const number = part(message.content, INTEGER)
  const { content } = part(number.rest, BIND_RESPONSE)
  const result = part(content, ENUMERATED)
  const name = part(result.rest, OCTET_STRING)
  const text = part(name.rest, OCTET_STRING).content.toString()
  const code = result.content.readUIntBE(0, result.content.length)
  if (code !== 0) throw new Error(`answered result ${code}${text && `: ${quoted(text)}`}`)
  return { used: came.length - message.rest.length, said: 'bound' }
}

interface Element {
  readonly content: Buffer
  /** What comes after it. */
  readonly rest: Buffer
}

/** The element `bytes` begin with; undefined while a part of it is missing. Throws when it is of another tag. */
function element(bytes: Buffer, tag: number): Element | undefined {
  if (bytes.length > 0 && bytes[0] !== tag) throw new Error(`answered ${shown(bytes)}, expected LDAP`)
  if (bytes.length < 2) return undefined
  const short = bytes[1]! < 0x80
  const width = short ? 0 : bytes[1]! & 0x7f
  if (width > 4) throw new Error(`answered ${shown(bytes)}, expected LDAP`)
  const from = 2 + width
  if (bytes.length < from) return undefined
  const length = short ? bytes[1]! : width === 0 ? 0 : bytes.readUIntBE(2, width)
  if (bytes.length < from + length) return undefined
  return { content: bytes.subarray(from, from + length), rest: bytes.subarray(from + length) }
}

/** An element within one that has come whole. */
function part(bytes: Buffer, tag: number): Element {
  const found = element(bytes, tag)
  if (!found || (tag === ENUMERATED && ![1, 2, 3, 4].includes(found.content.length)))
    throw new Error(`answered ${shown(bytes)}, expected LDAP`)
  return found
}

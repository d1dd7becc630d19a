// Healthy when a MySQL or MariaDB server greets, and answers to a login without a password.
//
//   server  greeting, or an error packet (too many connections, host blocked)
//   us      login
//   server  OK | error packet | "use another method", which we answer with no password again
//   us      COM_QUIT
//
// A connection that leaves before it has logged in is a connect error, and after max_connect_errors of those the
// server blocks this host. A login that is refused is not counted, so there is one even without `mysql_user`.

import { text } from '../core/settings.ts'
import { check } from './check.ts'
import { quoted } from './expects.ts'
import { conversing, shown } from './talk.ts'
import type { Expect } from './talk.ts'
import { where } from './where.ts'

const OK = 0x00
const SWITCH = 0xfe
const ERROR = 0xff
const VERSION = 10

const QUIT = Buffer.from([1, 0, 0, 0, 1])

// https://dev.mysql.com/doc/dev/mysql-server/latest/group__group__cs__capabilities__flags.html
const CAPABILITIES = 0x1 | 0x200 | 0x8000 | 0x80000 // long password, 4.1 protocol, 4.1 login, methods by name
const UTF8 = 33

/** "Unknown login method" and "only over TLS": as little a fault of the server as a wrong user. */
const REFUSED = new Set([1251, 3159])

const settings = {
  ...where,
  mysql_user: text()
    .optional()
    .describe(
      'User that must be able to log in without a password; unset lets a refusal count as an answer.',
    ),
}

export const mysql = check({ settings, protocols: ['tcp', 'tls'] }, (settings) => {
  const { mysql_user: user } = settings
  return conversing(settings, [
    { expect: packet(greeting) },
    { send: login(user ?? '') },
    { expect: packet(outcome(user === undefined)) },
    { send: QUIT },
  ])
})

/** What a packet with that body and number says. */
type Judge = (body: Buffer, number: number) => { said: string; reply?: Buffer; again?: boolean }

/** One packet: three bytes of length, a number, a body. */
function packet(judge: Judge): Expect {
  return (came) => {
    if (came.length < 4) return undefined
    const length = came.readUIntLE(0, 3)
    // A login has few and short packets; anything else is another protocol.
    if (length === 0 || length > 16_384) throw new Error(`answered ${shown(came)}, expected MySQL`)
    if (came.length < 4 + length) return undefined
    return { used: 4 + length, ...judge(came.subarray(4, 4 + length), came[3]!) }
  }
}

const greeting: Judge = (body) => {
  if (body[0] === ERROR) throw new Error(answered(errorOf(body)))
  if (body[0] !== VERSION) throw new Error(`answered ${shown(body)}, expected MySQL`)
  return { said: 'greeted' }
}

function outcome(anybody: boolean): Judge {
  return (body, number) => {
    if (body[0] === OK) return { said: 'logged in' }
    if (body[0] === SWITCH) return { said: 'wants another login', reply: empty(number + 1), again: true }
    if (body[0] !== ERROR) throw new Error(`answered ${shown(body)}, expected MySQL`)
    const error = errorOf(body)
    const refused = error.state.startsWith('28') || REFUSED.has(error.code)
    if (!anybody || !refused) throw new Error(answered(error))
    return { said: answered(error) }
  }
}

interface ServerError {
  readonly code: number
  /** SQLSTATE; empty where the server gives none. */
  readonly state: string
  readonly text: string
}

function errorOf(body: Buffer): ServerError {
  const code = body.length < 3 ? 0 : body.readUInt16LE(1)
  const [, state = '', text = ''] = /^(?:#(.{5}))?([^]*)$/.exec(body.toString('utf8', 3)) ?? []
  return { code, state, text }
}

function answered({ code, text }: ServerError): string {
  return `answered error ${code}: ${quoted(text)}`
}

/** A login in the form of 4.1, its password empty. */
function login(user: string): Buffer {
  const head = Buffer.alloc(32)
  head.writeUInt32LE(CAPABILITIES, 0)
  head.writeUInt32LE(2 ** 24 - 1, 4)
  head[8] = UTF8
  const body = Buffer.concat([head, Buffer.from(`${user}\0\0mysql_native_password\0`)])
  return Buffer.concat([header(body.length, 1), body])
}

function empty(number: number): Buffer {
  return header(0, number)
}

function header(length: number, number: number): Buffer {
  return Buffer.from([length & 0xff, length >> 8, 0, number & 0xff])
}

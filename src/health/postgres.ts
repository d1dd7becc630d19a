// Healthy when a PostgreSQL server asks for a password, or lets in.
//
//   us      StartupMessage(user, database)
//   server  Authentication… (a password is wanted) | AuthenticationOk … ReadyForQuery | ErrorResponse(SQLSTATE, message)
//
// Without `postgres_user` nobody in particular asks, and a server that turns nobody away is alive all the same.

import { name } from '../core/settings.ts'
import { check } from './check.ts'
import { quoted } from './expects.ts'
import { GOODBYE, LONGEST, conversing, shown } from './talk.ts'
import type { Expect, Heard } from './talk.ts'
import { where } from './where.ts'

const PROTOCOL = 0x00030000
const TERMINATE = Buffer.from('X\0\0\0\x04', 'latin1')

/** Who asks when no user is named, and for what. */
const NOBODY = 'fairlead'
const DATABASE = 'postgres'

/**
 * SQLSTATEs of a server that works and would not have us: a user or password (class 28), a database that does not
 * exist. "Starting up" (57P03) and "too many clients" (53300) are none of them.
 */
const REFUSED = /^(28...|3D000)$/

const settings = {
  ...where,
  postgres_user: name()
    .optional()
    .describe(
      'User that must be allowed to ask for entry, without a password; unset lets a refusal count as an answer.',
    ),
  postgres_database: name()
    .optional()
    .describe('Database it asks for; unset is that of the user’s name, or postgres without a user.'),
}

export const postgres = check({ settings, protocols: ['tcp', 'tls'] }, (settings) => {
  const { postgres_user: user, postgres_database: database } = settings
  const hello = startup(user ?? NOBODY, database ?? user ?? DATABASE)
  return conversing(settings, [{ send: hello }, { expect: entry(user === undefined) }, GOODBYE])
})

/** https://www.postgresql.org/docs/current/protocol-message-formats.html */
function startup(user: string, database: string): Buffer {
  const pairs = ['user', user, 'database', database, 'application_name', 'fairlead', '', '']
  const body = Buffer.from(pairs.join('\0').slice(0, -1) + '\0')
  const head = Buffer.alloc(8)
  head.writeUInt32BE(head.length + body.length, 0)
  head.writeUInt32BE(PROTOCOL, 4)
  return Buffer.concat([head, body])
}

/** Messages that come between being let in and being served: settings, the key to cancel with, notices. */
const ASIDES = 'SKNv'

function entry(anybody: boolean): Expect {
  return (came) => {
    if (came.length === 0) return undefined
    const type = String.fromCharCode(came[0]!)
    const length = came.length < 5 ? 5 : came.readUInt32BE(1)
    if (!`REZ${ASIDES}`.includes(type) || length < 5 || length > LONGEST)
      throw new Error(`answered ${shown(came)}, expected PostgreSQL`)
    if (came.length < 5 || came.length < 1 + length) return undefined
    const body = came.subarray(5, 1 + length)
    return { used: 1 + length, ...heardOf(type, body, anybody) }
  }
}

type Said = Omit<Heard, 'used'>

function heardOf(type: string, body: Buffer, anybody: boolean): Said {
  if (type === 'E') return refusal(body, anybody)
  if (type === 'Z') return { said: 'let in', reply: TERMINATE }
  // A user or database that does not exist is told after the password, so there is more to hear.
  const wanted = type === 'R' && (body.length < 4 || body.readUInt32BE(0) !== 0)
  // A server that waits for a password takes our leaving for what it is.
  return wanted ? { said: 'asked for a password' } : { said: '', again: true }
}

function refusal(body: Buffer, anybody: boolean): Said {
  const fields = new Map(
    body
      .toString()
      .split('\0')
      .map((field) => [field.charAt(0), field.slice(1)]),
  )
  const state = fields.get('C') ?? ''
  const said = `answered ${fields.get('S')} ${state}: ${quoted(fields.get('M') ?? '')}`
  if (!anybody || !REFUSED.test(state)) throw new Error(said)
  return { said }
}

// Healthy when a mail server greets, and answers to a greeting.

import { text } from '../core/settings.ts'
import { check } from './check.ts'
import { quoted } from './expects.ts'
import { conversing } from './talk.ts'
import type { Expect } from './talk.ts'
import { where } from './where.ts'

export const smtp = check(
  {
    settings: {
      ...where,
      smtp_domain: text()
        .regex(/^[\w.:[\]-]+$/, { error: 'a domain name' })
        .default('localhost')
        .describe('The name it introduces itself by.'),
    },
    protocols: ['tcp', 'tls'],
  },
  (settings) =>
    conversing(settings, [
      { expect: reply('220') },
      // Every server knows HELO, and has less to say to it than to EHLO (RFC 5321, 4.1.1.1).
      { send: Buffer.from(`HELO ${settings.smtp_domain}\r\n`) },
      { expect: reply('250') },
      { send: Buffer.from('QUIT\r\n') },
    ]),
)

/** A reply of one or several lines; the code of its last line counts (RFC 5321, 4.2.1). */
function reply(code: string): Expect {
  return (came) => {
    const whole = /^(?:\d{3}-[^\n]*\n)*(?!\d{3}-)([^\n]*)\n/.exec(came.toString('latin1'))
    if (!whole) return undefined
    const last = whole[1]!.trimEnd()
    if (!last.startsWith(code)) throw new Error(`answered ${quoted(last)}, expected ${code}`)
    return { used: whole[0].length, said: `answered ${quoted(last)}` }
  }
}

// Healthy when a DNS server answers a question with an expected code.

import { oneOf, name } from '../core/settings.ts'
import type { Problem } from '../core/errors.ts'
import type { Settings } from '../core/settings.ts'
import { z } from 'zod'
import { check, healthy } from './check.ts'
import { anyEndpoint, dial } from './dial.ts'
import { converse, converseByDatagrams, shown } from './talk.ts'
import type { Expect } from './talk.ts'
import { headerOf, where } from './where.ts'

/** The codes of RFC 1035, 4.1.1, and RFC 2136, 2.2, by number. */
const RCODES = [
  ...['NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED'],
  ...['YXDOMAIN', 'YXRRSET', 'NXRRSET', 'NOTAUTH', 'NOTZONE'],
] as const

const settings = {
  ...where,
  dns_name: name()
    .regex(/^(\.|(?!.{255})([^.\s]{1,63}\.)*[^.\s]{1,63}\.?)$/, { error: 'a domain name' })
    .describe('Name that is asked for.'),
  dns_type: oneOf(['A', 'AAAA', 'CNAME', 'MX', 'NS', 'PTR', 'SOA', 'SRV', 'TXT'])
    .default('A')
    .describe('Type of record that is asked for.'),
  dns_rcode: z
    .array(oneOf(RCODES as never as readonly [string, ...string[]]), { error: 'a list of strings' })
    .min(1, { error: 'at least one' })
    .default(['NOERROR'])
    .describe('Codes of an answer that are healthy, such as "NOERROR" and "NXDOMAIN".'),
  dns_protocol: oneOf(['udp', 'tcp']).default('udp').describe('How the server is asked.'),
}

type DnsSettings = Settings<typeof settings>

const HEADER_BYTES = 12

export const dns = check({ settings, conflicts }, (settings) => {
  const ahead = headerOf(settings)
  const tcp = settings.dns_protocol === 'tcp'
  let question: Promise<Buffer> | undefined
  let id = 0
  return {
    async run(target, signal) {
      const asked = Buffer.from(await (question ??= encoded(settings)))
      id = (id + 1) & 0xffff
      asked.writeUInt16BE(id)
      const expect = answer(id, settings.dns_rcode)
      const steps = tcp
        ? [{ send: framed(asked) }, { expect: unframed(expect) }]
        : [{ send: asked }, { expect }]
      return anyEndpoint(target, signal, async (endpoint, signal) =>
        healthy(
          await (tcp
            ? converse(dial(endpoint, signal, ahead), steps)
            : converseByDatagrams(endpoint, steps, signal)),
        ),
      )
    },
  }
})

function conflicts({ dns_protocol, check_proxy_protocol }: DnsSettings): readonly Problem[] {
  if (dns_protocol === 'tcp' || check_proxy_protocol === undefined) return []
  return [{ path: 'check_proxy_protocol', message: 'nothing, since dns_protocol is udp' }]
}

async function encoded({ dns_name, dns_type }: DnsSettings): Promise<Buffer> {
  const { encode, RECURSION_DESIRED } = await import('dns-packet')
  const questions = [{ name: dns_name, type: dns_type as 'A' }]
  return encode({ type: 'query', flags: RECURSION_DESIRED, questions })
}

/** Only the head of the answer is read; it is all that matters. */
function answer(id: number, expected: readonly string[]): Expect {
  return (came) => {
    if (came.length === 0) return undefined
    if (came.length < HEADER_BYTES || came.readUInt16BE() !== id || !(came[2]! & 0x80))
      throw new Error(`answered ${shown(came)}, expected DNS`)
    const code = RCODES[came[3]! & 0xf] ?? `code ${came[3]! & 0xf}`
    if (!expected.includes(code)) throw new Error(`answered ${code}, expected ${expected.join(', ')}`)
    return { used: came.length, said: `answered ${code}` }
  }
}

/** Over TCP two bytes say how long a message is (RFC 1035, 4.2.2). */
function framed(message: Buffer): Buffer {
  return Buffer.concat([Buffer.from([message.length >> 8, message.length & 0xff]), message])
}

function unframed(expect: Expect): Expect {
  return (came, over) => {
    if (came.length < 2 || came.length < 2 + came.readUInt16BE()) return undefined
    return expect(came.subarray(2), over)
  }
}

// The records of a name, whoever has them: the servers in turn, aliases followed, "there are none" told from "I
// could not tell".

import { addressText } from '../core/address.ts'
import type { HostPort } from '../core/address.ts'
import type { Clock } from '../core/clock.ts'
import { messageOf } from '../core/errors.ts'
import type { DnsRecord, Question, Reply } from './message.ts'
import { query } from './query.ts'
import type { Protocol } from './query.ts'

/** The servers together are given this long for a question: below the 5 s a discovery has. */
const LIMIT_MS = 4_500

/** Aliases (CNAME) on the way to a record. */
const ALIASES = 8

/**
 * How long "none" is believed: what the zone says (RFC 2308, section 5), but no longer than this, as who asks
 * waits for somebody to come; and this long when it does not say.
 */
const LONGEST_NONE_MS = 60_000
const NONE_MS = 5_000

export interface Resolving {
  readonly protocol: Protocol
  readonly clock: Clock
}

/** Records of the type asked for; none is an answer too. */
export interface Resolved<T extends DnsRecord['type']> {
  readonly records: readonly Typed<T>[]
  readonly additionals: readonly DnsRecord[]
  /** The smallest TTL on the way; of a negative answer when there are no records. */
  readonly freshForMs: number
  /** Who answered. */
  readonly server: HostPort
}

type Typed<T extends DnsRecord['type']> = DnsRecord & { readonly type: T }

/**
 * Asks for the records of a name. NXDOMAIN and NODATA are none; rejects when the servers cannot tell (SERVFAIL,
 * REFUSED, no answer …), naming each with its reason, and with the reason of `signal` when that aborts.
 */
export async function resolve<T extends DnsRecord['type']>(
  servers: readonly HostPort[],
  { name, type }: { readonly name: string; readonly type: T },
  manner: Resolving,
  signal: AbortSignal,
): Promise<Resolved<T>> {
  let at = { name: name.toLowerCase().replace(/\.$/, ''), ttlMs: Infinity }
  let from = servers
  for (let asked = 0; asked <= ALIASES; asked++) {
    const { reply, server } = await inTurn(from, { name: at.name, type }, manner, signal)
    from = [server]
    const { additionals } = reply
    const before = at.name
    at = follow(reply.answers, at, type)
    const records = reply.answers.filter((each) => isOf(each, type) && each.name === at.name) as Typed<T>[]
    if (records.length > 0) {
      const freshForMs = Math.min(at.ttlMs, ...records.map(({ ttlMs }) => ttlMs))
      return { records, additionals, freshForMs, server }
    }
    const noneMs = noneForMs(reply)
    if (at.name === before || reply.rcode === 'NXDOMAIN' || noneMs !== undefined)
      return { records, additionals, freshForMs: Math.min(at.ttlMs, noneMs ?? NONE_MS), server }
  }
  throw new Error(`${name} is an alias of an alias, ${ALIASES} times`)
}

/** What can be asked of the first server that can tell. */
async function inTurn(
  servers: readonly HostPort[],
  question: Question,
  { protocol, clock }: Resolving,
  signal: AbortSignal,
): Promise<{ reply: Reply; server: HostPort }> {
  const failures: string[] = []
  for (const server of servers) {
    const limitMs = LIMIT_MS / servers.length
    try {
      const reply = await query(server, question, { protocol, clock, limitMs }, signal)
      const fault = faultOf(reply)
      if (!fault) return { reply, server }
      failures.push(`${addressText(server)} answered ${fault}`)
    } catch (error) {
      signal.throwIfAborted()
      failures.push(messageOf(error))
    }
  }
  throw new Error(`${question.type} ${question.name}: ${failures.join('; ')}`)
}

/** Why a reply says nothing about the name; undefined when it does. */
function faultOf({ rcode, answers, authorities }: Reply): string | undefined {
  if (rcode === 'NXDOMAIN') return undefined
  if (rcode !== 'NOERROR') return rcode
  // RFC 2308, section 2.2: who does not know names somebody else.
  const refers =
    authorities.some((each) => isOf(each, 'NS')) && !authorities.some((each) => isOf(each, 'SOA'))
  return answers.length === 0 && refers ? 'that other servers know' : undefined
}

/** The end of the aliases that an answer has for a name. */
function follow(answers: readonly DnsRecord[], from: { name: string; ttlMs: number }, type: string) {
  let at = from
  for (let hops = 0; hops <= ALIASES; hops++) {
    if (answers.some((each) => isOf(each, type) && each.name === at.name)) return at
    const alias = answers.find((each) => each.type === 'CNAME' && each.name === at.name)
    if (!alias) return at
    at = { name: alias.data as string, ttlMs: Math.min(at.ttlMs, alias.ttlMs) }
  }
  throw new Error(`${from.name} is an alias of an alias, ${ALIASES} times`)
}

/** How long a negative answer is good for; undefined when it does not say. */
function noneForMs({ authorities }: Reply): number | undefined {
  const soa = authorities.find((each) => each.type === 'SOA')
  return soa && Math.min(soa.ttlMs, soa.data.minimum * 1000, LONGEST_NONE_MS)
}

function isOf(record: DnsRecord, type: string): boolean {
  return record.type === type
}

// DNS messages (RFC 1035): a question as bytes, and bytes as what a server answered.

import { randomInt } from 'node:crypto'
import type { Answer, BaseAnswer, Question, TxtAnswer } from 'dns-packet'
import { inSlices } from '../core/slices.ts'

/**
 * The largest answer a server may send over UDP. Larger ones are cut into fragments on ordinary links, which get
 * lost and can be forged; those are fetched over TCP (dnsflagday.net/2020).
 */
const UDP_BYTES = 1232

/** Record types whose data is read; others are passed over. */
const READ: Readonly<Record<number, DnsRecord['type']>> = {
  1: 'A',
  2: 'NS',
  5: 'CNAME',
  6: 'SOA',
  16: 'TXT',
  28: 'AAAA',
  33: 'SRV',
}
const SIZES: Readonly<Record<number, number>> = { 1: 4, 28: 16 }
const OPT = 41
const INTERNET = 1

const RCODES = ['NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED']

/** A record that is read: names in lower case and without the last dot, the root as `.`. */
export type DnsRecord = (
  | BaseAnswer<'A' | 'AAAA' | 'CNAME' | 'NS', string>
  | BaseAnswer<'SRV', { priority: number; weight: number; port: number; target: string }>
  | BaseAnswer<'SOA', { minimum: number }>
  | TxtAnswer
) & { readonly ttlMs: number }

export type { Question }

/** What a server answered. */
export interface Reply {
  /** `NOERROR`, `NXDOMAIN`, `SERVFAIL` …, or `RCODE 17` where there is no name here. */
  readonly rcode: string
  /** The answer did not fit. */
  readonly truncated: boolean
  readonly answers: readonly DnsRecord[]
  readonly authorities: readonly DnsRecord[]
  readonly additionals: readonly DnsRecord[]
}

/** A name that can be asked for: labels of 1 to 63 visible ASCII characters, 253 in all; a last dot is fine. */
export function isDnsName(text: string): boolean {
  return text.length <= 254 && /^(?:[!-\-/-~]{1,63}\.)*[!-\-/-~]{1,63}\.?$/.test(text)
}

/**
 * The bytes of a question, with a random id and, unless the server knows no EDNS (RFC 6891), the size it may
 * answer with. DNSSEC records are not asked for. The name is one for which `isDnsName` holds.
 */
export async function encodeQuestion(question: Question, edns = true): Promise<Buffer> {
  const { encode, RECURSION_DESIRED } = await import('dns-packet')
  const size = { udpPayloadSize: UDP_BYTES, extendedRcode: 0, ednsVersion: 0, flags: 0, flag_do: false }
  return encode({
    type: 'query',
    // Whoever guesses it can answer in place of the server: not the clock's chance.
    id: randomInt(0x10000),
    flags: RECURSION_DESIRED,
    questions: [question],
    additionals: edns ? [{ type: 'OPT', name: '.', options: [], ...size }] : [],
  })
}

/** Whether `bytes` are an answer to the question `asked`. A server that rejects it may leave the question out. */
export function isReplyTo(asked: Buffer, bytes: Buffer): boolean {
  if (bytes.length < 12 || bytes.readUInt16BE(0) !== asked.readUInt16BE(0)) return false
  if ((bytes[2]! & 0xf8) !== 0x80) return false
  const questions = bytes.readUInt16BE(4)
  if (questions === 0) return (bytes[3]! & 15) !== 0
  const end = afterName(asked, 12) + 4
  return questions === 1 && lower(bytes.subarray(12, end)) === lower(asked.subarray(12, end))
}

/** The lengths of labels, and types, are below the letters: only letters change. */
const lower = (bytes: Buffer) => bytes.toString('latin1').toLowerCase()

interface Decoder {
  readonly answer: { decode(bytes: Buffer, at: number): Answer }
}

/** Reads an answer of at most 64 KiB, in slices. Rejects when it is malformed. */
export async function readReply(bytes: Buffer): Promise<Reply> {
  // Record by record, not whole: names that point back a thousand times would hold up the event loop, and one
  // record nobody asked for that the library cannot read would cost all the others. Its types leave this out.
  const { answer } = (await import('dns-packet')) as unknown as Decoder
  const sections: DnsRecord[][] = [[], [], []]
  let rcode = bytes[3]! & 15
  await inSlices(places(bytes), ({ section, at, type, class: class_, ttl }) => {
    if (type === OPT) rcode |= (ttl >>> 24) << 4
    if (!READ[type] || class_ !== INTERNET) return
    const record = answer.decode(bytes, at) as DnsRecord
    // RFC 2181, section 8: with its highest bit set a TTL is 0.
    const ttlMs = ttl > 0x7fffffff ? 0 : ttl * 1000
    sections[section]!.push({ ...record, ...lowered(record), ttlMs } as DnsRecord)
  })
  const [answers, authorities, additionals] = sections as [DnsRecord[], DnsRecord[], DnsRecord[]]
  const truncated = (bytes[2]! & 2) !== 0
  return { rcode: RCODES[rcode] ?? `RCODE ${rcode}`, truncated, answers, authorities, additionals }
}

function lowered(record: DnsRecord): Partial<DnsRecord> {
  const name = record.name.toLowerCase()
  if (record.type === 'SRV')
    return { name, data: { ...record.data, target: record.data.target.toLowerCase() } }
  if (record.type === 'CNAME') return { name, data: record.data.toLowerCase() }
  return { name }
}

/** Where a record stands: its section (answers, authorities, additionals) and what its head says. */
interface Place {
  readonly section: number
  readonly at: number
  readonly type: number
  readonly class: number
  readonly ttl: number
}

function* places(bytes: Buffer): Generator<Place> {
  let at = 12
  for (let i = 0; i < bytes.readUInt16BE(4); i++) at = afterName(bytes, at) + 4
  for (const section of [0, 1, 2])
    for (let i = 0; i < bytes.readUInt16BE(6 + 2 * section); i++) {
      const head = afterName(bytes, at)
      if (head + 10 > bytes.length) throw malformed()
      const type = bytes.readUInt16BE(head)
      const size = bytes.readUInt16BE(head + 8)
      const end = head + 10 + size
      if (end > bytes.length || (SIZES[type] ?? size) !== size) throw malformed()
      yield {
        section,
        at,
        type,
        class: bytes.readUInt16BE(head + 2),
        ttl: bytes.readUInt32BE(head + 4),
      }
      at = end
    }
}

/** Where what follows the name at `at` begins; a pointer (RFC 1035, section 4.1.4) ends a name. */
function afterName(bytes: Buffer, at: number): number {
  for (;;) {
    const length = bytes[at]
    if (length === undefined || (length >= 64 && length < 192)) throw malformed()
    if (length === 0) return at + 1
    if (length >= 192) return at + 2
    at += length + 1
  }
}

const malformed = () => new Error('the message is malformed')

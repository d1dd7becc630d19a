// Healthy when it answers what is expected to what is sent, over TCP, TLS or UDP.

import { createSocket } from 'node:dgram'
import { isIP } from 'node:net'
import type { Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { RE2JS } from 're2js'
import { isUnix } from '../core/address.ts'
import type { Address } from '../core/address.ts'
import type { Problem } from '../core/errors.ts'
import { count, name, oneOf } from '../core/settings.ts'
import type { Settings } from '../core/settings.ts'
import { check } from './check.ts'
import { anyEndpoint, bound, destination, dial } from './dial.ts'
import { unescapeGo } from './escapes.ts'

/** The longest answer a regular expression may be asked to look at. */
const LONGEST = 65_536

const ESCAPED = String.raw`text with Go escapes, such as "PING\r\n"`

const settings = {
  probe_protocol: oneOf(['tcp', 'udp', 'tls']).describe('How the backend is spoken to.'),
  probe_send: name()
    .refine((text) => unescapeGo(text) !== undefined, { error: ESCAPED })
    .describe('What is sent, with the escapes of Go such as \\r\\n and \\x00.'),
  probe_recv: name().describe('What must come back: text with the escapes of Go, or a regular expression.'),
  probe_strategy: oneOf(['starts_with', 'regexp'])
    .default('starts_with')
    .describe(
      'How the answer is judged: it begins with probe_recv, or matches it as a regular expression (RE2).',
    ),
  probe_recv_len: count()
    .refine((bytes) => bytes <= LONGEST, { error: `a whole number, ${LONGEST} or less` })
    .default(0)
    .describe(
      'Bytes to read before the regular expression looks at them; only for regexp, and needed there.',
    ),
}

type ProbeSettings = Settings<typeof settings>

/** How many bytes are read, and whether they are the right ones. */
interface Expected {
  readonly length: number
  matches(answer: Buffer): boolean
}

type Exchange = (endpoint: Address, name: string, signal: AbortSignal) => Promise<Buffer>

export const probe = check({ settings, conflicts }, (settings) => {
  const send = unescapeGo(settings.probe_send)!
  const expected = expectedOf(settings)
  const exchange = EXCHANGES[settings.probe_protocol](send, expected.length)
  return {
    run(target, signal) {
      const host = isUnix(target.address) ? '' : target.address.host
      return anyEndpoint(target, signal, async (endpoint, signal) => {
        const answer = await exchange(endpoint, host, signal)
        if (expected.matches(answer)) return `answered ${shown(answer)}`
        throw new Error(`answered ${shown(answer)}`)
      })
    },
  }
})

function conflicts({ probe_strategy, probe_recv, probe_recv_len }: ProbeSettings): readonly Problem[] {
  const problems: Problem[] = []
  const expect = (path: string, message: string) => problems.push({ path, message })
  if (probe_strategy === 'starts_with') {
    if (probe_recv_len > 0)
      expect('probe_recv_len', 'nothing: starts_with reads as much as probe_recv is long')
    if (!unescapeGo(probe_recv)) expect('probe_recv', ESCAPED)
    return problems
  }
  if (probe_recv_len === 0) expect('probe_recv_len', 'a whole number, 1 or more, as regexp needs it')
  if (!compiled(probe_recv)) expect('probe_recv', 'a regular expression (RE2 syntax)')
  return problems
}

function expectedOf({ probe_strategy, probe_recv, probe_recv_len }: ProbeSettings): Expected {
  if (probe_strategy === 'starts_with') {
    const bytes = unescapeGo(probe_recv)!
    return { length: bytes.length, matches: (answer) => answer.equals(bytes) }
  }
  const pattern = compiled(probe_recv)!
  // A character a byte, so that a pattern such as \xff can speak of any byte.
  return { length: probe_recv_len, matches: (answer) => pattern.matcher(answer.toString('latin1')).find() }
}

const EXCHANGES: Record<ProbeSettings['probe_protocol'], (send: Uint8Array, length: number) => Exchange> = {
  tcp: (send, length) => (endpoint, _name, signal) => talk(dial(endpoint, signal), 'connect', send, length),
  tls: (send, length) => (endpoint, name, signal) => {
    const servername = isIP(name) ? '' : name
    // Verified against the authorities Node trusts and the configured name, as gobetween does: a backend with
    // a certificate of its own making fails.
    const options = { ...destination(endpoint), servername, autoSelectFamily: false }
    return talk(bound(connectTls(options), signal), 'secureConnect', send, length)
  },
  udp: (send, length) => (endpoint, _name, signal) => ask(endpoint, send, length, signal),
}

/** Sends once `ready` has come and resolves with the first `length` bytes of the answer. */
function talk(socket: Socket, ready: string, send: Uint8Array, length: number): Promise<Buffer> {
  return new Promise<Buffer>((resolve, reject) => {
    const answer = collect(length, resolve)
    socket.on('error', reject)
    socket.once(ready, () => socket.write(send))
    socket.on('data', answer.take)
    socket.once('end', () => reject(new Error(`closed after ${answer.size()} of ${length} bytes`)))
    socket.once('close', () => reject(new Error('closed')))
  }).finally(() => socket.destroy())
}

/** Sends one datagram and resolves with the first `length` bytes of those that come back. */
async function ask(
  endpoint: Address,
  send: Uint8Array,
  length: number,
  signal: AbortSignal,
): Promise<Buffer> {
  if (isUnix(endpoint)) throw new Error('a unix socket cannot be probed over udp')
  signal.throwIfAborted()
  const socket = createSocket({ type: endpoint.host.includes(':') ? 'udp6' : 'udp4' })
  const closing = new AbortController()
  return new Promise<Buffer>((resolve, reject) => {
    const abort = () => reject(signal.reason as Error)
    signal.addEventListener('abort', abort, { once: true, signal: closing.signal })
    socket.on('error', reject)
    socket.on('message', collect(length, resolve).take)
    // Connected, so that only the backend is heard and its refusal arrives.
    socket.once('connect', () => socket.send(send, (error) => error && reject(error)))
    socket.connect(endpoint.port, endpoint.host)
  }).finally(() => {
    closing.abort()
    socket.close()
  })
}

/** Gathers chunks until there are `length` bytes; what is beyond is dropped. */
function collect(length: number, done: (answer: Buffer) => void) {
  let answer = Buffer.alloc(0)
  return {
    size: () => answer.length,
    take: (chunk: Buffer) => {
      answer = Buffer.concat([answer, chunk]).subarray(0, length)
      if (answer.length === length) done(answer)
    },
  }
}

function compiled(pattern: string): RE2JS | undefined {
  try {
    return RE2JS.compile(pattern)
  } catch {
    // Any throw is its way to say no.
    return undefined
  }
}

function shown(answer: Buffer): string {
  const text = answer.subarray(0, 64).toString('latin1')
  return JSON.stringify(answer.length > 64 ? text + '…' : text)
}

// One question to one DNS server: over UDP, sent again while nothing comes, and over TCP when the answer is too
// large for UDP; or over TCP alone.

import { createSocket } from 'node:dgram'
import { connect, isIPv6 } from 'node:net'
import { aborted } from '../core/aborted.ts'
import { addressText } from '../core/address.ts'
import type { HostPort } from '../core/address.ts'
import type { Clock } from '../core/clock.ts'
import { formatDuration } from '../core/duration.ts'
import { messageOf } from '../core/errors.ts'
import { encodeQuestion, isReplyTo, readReply } from './message.ts'
import type { Question, Reply } from './message.ts'

/** A datagram may get lost: the question is sent again after this long. */
const RESEND_MS = 1_000

/** The largest message: over TCP its length is 16 bits. */
const LARGEST = 0xffff

export type Protocol = 'udp' | 'tcp'

export interface Manner {
  readonly protocol: Protocol
  /** The longest wait for the answer over each protocol. */
  readonly limitMs: number
  readonly clock: Clock
}

/**
 * Asks the server at an IP address. Whatever the reply's code is, it is a reply, and a whole one; rejects, naming
 * the server, when there is none in time or it cannot be read, and with the reason of `signal` when that aborts.
 * What it opened is closed when it settles.
 */
export async function query(
  server: HostPort,
  question: Question,
  manner: Manner,
  signal: AbortSignal,
): Promise<Reply> {
  const reply = await exchange(server, await encodeQuestion(question), manner, signal)
  // RFC 6891, section 7: what a server says that knows no EDNS.
  if (reply.rcode !== 'FORMERR' && reply.rcode !== 'NOTIMP') return reply
  return exchange(server, await encodeQuestion(question, false), manner, signal)
}

async function exchange(
  server: HostPort,
  asked: Buffer,
  manner: Manner,
  signal: AbortSignal,
): Promise<Reply> {
  const { protocol } = manner
  try {
    const send = protocol === 'udp' ? overUdp : overTcp
    const bytes = await limited(manner, signal, (signal) => send(server, asked, signal, manner.clock))
    const reply = await readReply(bytes)
    signal.throwIfAborted()
    if (!reply.truncated) return reply
  } catch (error) {
    signal.throwIfAborted()
    const why = (error as NodeJS.ErrnoException).code ?? messageOf(error)
    throw new Error(`${addressText(server)} over ${protocol}: ${why}`, { cause: error })
  }
  if (protocol === 'tcp')
    throw new Error(`${addressText(server)} over tcp: the answer is larger than a message`)
  return exchange(server, asked, { ...manner, protocol: 'tcp' }, signal)
}

/** What `work` gives; its signal aborts when `signal` does, when time is up, and when it has settled. */
async function limited<T>(
  { clock, limitMs }: Manner,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  signal.throwIfAborted()
  const over = new AbortController()
  const abort = () => over.abort(signal.reason)
  signal.addEventListener('abort', abort)
  const cancel = clock.after(limitMs, () =>
    over.abort(new Error(`no answer within ${formatDuration(Math.round(limitMs))}`)),
  )
  try {
    return await Promise.race([work(over.signal), aborted(over.signal)])
  } finally {
    cancel()
    signal.removeEventListener('abort', abort)
    over.abort()
  }
}

/** Datagrams that are no answer to the question are ignored: anybody can send them. */
function overUdp(
  { host, port }: HostPort,
  asked: Buffer,
  signal: AbortSignal,
  clock: Clock,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = createSocket({ type: isIPv6(host) ? 'udp6' : 'udp4', signal })
    socket.on('error', reject)
    socket.on('message', (bytes) => {
      if (isReplyTo(asked, bytes)) resolve(bytes)
    })
    const send = () => socket.send(asked, (error) => error && reject(error))
    // Connected: the kernel takes datagrams from the server alone, and tells when nobody listens there.
    socket.connect(port, host)
    socket.on('connect', () => {
      send()
      const cancel = clock.every(RESEND_MS, send)
      signal.addEventListener('abort', cancel)
    })
  })
}

async function overTcp({ host, port }: HostPort, asked: Buffer, signal: AbortSignal): Promise<Buffer> {
  const socket = connect({ host, port, signal })
  const length = Buffer.alloc(2)
  length.writeUInt16BE(asked.length)
  socket.write(Buffer.concat([length, asked]))
  const read = Buffer.alloc(2 + LARGEST)
  let filled = 0
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    filled += chunk.copy(read, filled)
    const end = 2 + read.readUInt16BE(0)
    if (filled < 2 || filled < end) continue
    const bytes = read.subarray(2, end)
    if (!isReplyTo(asked, bytes)) throw new Error('the message answers another question')
    return bytes
  }
  throw new Error('the connection was closed before the answer')
}

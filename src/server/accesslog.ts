// One line a flow, written when it is over: who, where to, why there, how much, how long, why it ended.

import { openSink, localTime } from '../core/log.ts'
import type { Sink } from '../core/log.ts'
import type { FlowEnd, Path, Paths } from '../plane/plane.ts'
import { describeNote } from './note.ts'

/** What the line says beside the flow's own record. */
export interface AccessContext {
  readonly server: string
  /** The server's balance kind. */
  readonly balance: string
  /** Text of the backend; empty when none was dialled. */
  readonly backend: string
  /** The flow was a session: its datagrams are told too. */
  readonly datagrams?: boolean
}

export type AccessLog = (end: FlowEnd, context: AccessContext) => void

/**
 * Opens the access log at `output` (`stdout`, `stderr` or a file), as JSON when `format` is `json` and as text
 * otherwise. Throws when the file cannot be opened. Lines of one turn of the event loop are written together.
 */
export function openAccessLog(output: string, format: string, now: () => number): AccessLog {
  const line = format === 'json' ? jsonLine : textLine
  const write = gathered(openSink(output))
  return (end, context) => write(line(end, context, now()))
}

/** A call a flow, one write a turn. */
function gathered(sink: Sink): (line: string) => void {
  let lines = ''
  const flush = () => {
    sink.write(lines)
    lines = ''
  }
  return (line) => {
    if (lines === '') setImmediate(flush)
    lines += line
  }
}

function jsonLine(end: FlowEnd, context: AccessContext, now: number): string {
  const { server, balance, backend, datagrams } = context
  const { client, reason, rx, tx, requests, responses, note, paths } = end
  const { waitedMs, connectMs, firstByteMs, durationMs } = end
  const record = {
    time: new Date(now).toISOString(),
    server,
    client: endpoint(client.ip, client.port),
    local: endpoint(client.localIp, client.localPort),
    backend,
    why: backend && describeNote(note, balance),
    rx,
    tx,
    ...(datagrams && { requests, responses }),
    waited_ms: tidy(waitedMs),
    connect_ms: tidy(connectMs),
    first_byte_ms: tidy(firstByteMs),
    duration_ms: tidy(durationMs),
    reason,
    ...(paths && { ...named('client', paths.client), ...named('backend', paths.backend) }),
  }
  return JSON.stringify(record) + '\n'
}

function textLine(end: FlowEnd, context: AccessContext, now: number): string {
  const { server, balance, backend } = context
  const { client, reason, waitedMs, connectMs, firstByteMs, durationMs, note } = end
  const why = backend ? describeNote(note, balance) : '-'
  const times = [waitedMs, connectMs, firstByteMs, durationMs].map((ms) => tidy(ms) ?? '-').join('/')
  const who = `${endpoint(client.ip, client.port) ?? '-'} ${endpoint(client.localIp, client.localPort) ?? '-'}`
  const when = localTime(new Date(now))
  const paths = end.paths ? pathsText(end.paths) : ''
  const bytes = `rx=${end.rx} tx=${end.tx}`
  const moved = context.datagrams ? `${bytes} requests=${end.requests} responses=${end.responses}` : bytes
  return `${when} ${server} ${who} ${backend || '-'} ${why} ${moved} ms=${times} ${reason}${paths}\n`
}

/** Of a connection that was measured: `client_rtt_ms` and `client_retransmits`. */
function named(side: string, path: Path | undefined): object {
  return path ? { [`${side}_rtt_ms`]: tidy(path.rttMs), [`${side}_retransmits`]: path.retransmits } : {}
}

/** ` rtt=CLIENT/BACKEND resent=CLIENT/BACKEND`, a dash for a side that was not measured. */
function pathsText({ client, backend }: Paths): string {
  const both = (value: (path: Path) => number | null) =>
    [client, backend].map((path) => (path ? value(path) : '-')).join('/')
  return ` rtt=${both(({ rttMs }) => tidy(rttMs))} resent=${both(({ retransmits }) => retransmits)}`
}

function endpoint(ip: string, port: number): string | null {
  if (ip === '') return null
  return ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`
}

/** Milliseconds with three digits, null where it never came so far. */
function tidy(ms: number): number | null {
  return ms < 0 ? null : Math.round(ms * 1000) / 1000
}

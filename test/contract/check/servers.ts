// Peers for checks: TCP, TLS and UDP on 127.0.0.1, gone with the test.

import { execFileSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import tls from 'node:tls'
import type { Address } from '../../../src/core/address.ts'
import type { Target } from '../../../src/health/check.ts'
import { folder } from '../../support/folder.ts'
import type { Case, Section } from './fixture.ts'

export const at = (...endpoints: Address[]): Target => ({ address: endpoints[0]!, endpoints })
export const local = (port: number): Address => ({ host: '127.0.0.1', port })
export const portOf = ({ endpoints }: Target): number => (endpoints[0] as { port: number }).port

export interface Peer {
  readonly address: Address
  readonly port: number
  /** Clients connected now. */
  readonly open: Set<Socket>
  readonly server: Server
}

/** A TCP server on a free port, or a unix path, that treats each client by `serve`. */
export async function tcp(
  t: Test,
  serve: (socket: Socket) => void,
  where: string | number = 0,
): Promise<Peer> {
  return listening(t, createServer(), 'connection', serve, where)
}

/** The same over TLS, with the certificate of `files`. */
export async function secure(t: Test, files: Files, serve: (socket: Socket) => void): Promise<Peer> {
  const server = tls.createServer({ key: readFileSync(files.key), cert: readFileSync(files.cert) })
  server.on('tlsClientError', () => {})
  return listening(t, server, 'secureConnection', serve, 0)
}

async function listening(
  t: Test,
  server: Server,
  event: string,
  serve: (socket: Socket) => void,
  where: string | number,
) {
  const open = new Set<Socket>()
  server.on(event, (socket: Socket) => {
    open.add(socket)
    socket.on('close', () => open.delete(socket))
    socket.on('error', () => {})
    serve(socket)
  })
  await new Promise<void>((resolve) => {
    if (typeof where === 'string') server.listen(where, resolve)
    else server.listen(where, '127.0.0.1', resolve)
  })
  t.teardown(() => {
    for (const socket of open) socket.destroy()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return { open, address: typeof where === 'string' ? { path: where } : local(port), port, server }
}

/** A UDP socket on a free port that treats each datagram by `serve`. */
export async function udp(
  t: Test,
  serve: (message: Buffer, reply: (text: string | Buffer) => void) => void,
): Promise<Address & { port: number }> {
  const socket = createSocket('udp4')
  socket.on('message', (message, from) =>
    serve(message, (text) => socket.send(text, from.port, from.address)),
  )
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve))
  t.teardown(() => socket.close())
  return local(socket.address().port) as Address & { port: number }
}

/** An address where nobody listens: taken, then given back. */
export async function nobody(t: Test): Promise<Address & { port: number }> {
  const { address, server } = await tcp(t, () => {})
  await new Promise((resolve) => server.close(resolve))
  return address as Address & { port: number }
}

/** Each of `turns` is written once the client has said something; the first at once when `first`. */
export const speaks =
  (turns: readonly (string | Buffer)[], first = false) =>
  (socket: Socket) => {
    let turn = 0
    const go = () => turn < turns.length && socket.write(turns[turn++]!)
    if (first) go()
    socket.on('data', go)
  }

/** A case against a TCP server that takes those turns. */
export async function answering(
  t: Test,
  section: Section,
  turns: readonly (string | Buffer)[],
  reason: RegExp,
  first = false,
): Promise<Case> {
  const { address, open } = await tcp(t, speaks(turns, first))
  return { section, target: at(address), reason, over: () => open.size === 0 }
}

/** A case in which nobody listens. */
export async function absent(t: Test, section: Section): Promise<Case> {
  return { section, target: at(await nobody(t)), reason: /^connection refused$/ }
}

/** A case against a TCP server that reads and never says anything. */
export async function silent(t: Test, section: Section): Promise<Case> {
  const { address, open } = await tcp(t, (socket) => socket.resume())
  return {
    section,
    target: at(address),
    reason: /enough/,
    begun: () => open.size > 0,
    over: () => open.size === 0,
  }
}

export interface Files {
  readonly key: string
  readonly cert: string
}

/**
 * A key and a certificate for `name` that signed itself and ends in so many days; -1 has ended. Undefined without
 * openssl.
 */
export function certificate(t: Test, name: string, days = 2): Files | undefined {
  const dir = folder(t)
  const [key, cert, request] = ['key.pem', 'cert.pem', 'request.pem'].map((each) => join(dir, each)) as [
    string,
    string,
    string,
  ]
  const run = (words: string, ...more: string[]) =>
    execFileSync('openssl', [...words.split(' '), ...more], { stdio: 'ignore' })
  try {
    const made = ['-addext', `subjectAltName=DNS:${name}`, '-keyout', key, '-out', request]
    run('req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=web', ...made)
    run(`x509 -req -copy_extensions copy -days ${days}`, '-in', request, '-signkey', key, '-out', cert)
    return { key, cert }
  } catch {
    return undefined
  }
}

/** When a certificate file ends. */
export function endOf({ cert }: Files): number {
  return Date.parse(execFileSync('openssl', ['x509', '-enddate', '-noout', '-in', cert]).toString().slice(9))
}

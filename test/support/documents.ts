// A stand-in for whoever serves a document over HTTP: a registry, Marathon, Mesos-DNS.

import { once } from 'node:events'
import { createServer } from 'node:http'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { ServerOptions } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { Test } from 'tap'

export interface Documents {
  /** Where it listens, without a path. */
  readonly origin: string
  /** What was asked, in order. */
  readonly asked: readonly IncomingMessage[]
  /** Connections that are open. */
  open(): number
}

/** Answers every request by `answer`, on a free port of 127.0.0.1; over TLS with `tls`. */
export async function documents(
  t: Test,
  answer: (request: IncomingMessage, response: ServerResponse) => void,
  tls?: ServerOptions,
): Promise<Documents> {
  const asked: IncomingMessage[] = []
  const sockets = new Set<Socket>()
  const listener: RequestListener = (request, response) => {
    asked.push(request)
    response.on('error', () => {})
    answer(request, response)
  }
  const server = tls ? createSecureServer(tls, listener) : createServer(listener)
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket)).on('error', () => {})
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  const { port } = server.address() as AddressInfo
  return { origin: `http${tls ? 's' : ''}://127.0.0.1:${port}`, asked, open: () => sockets.size }
}

/** An answer with that status and body. */
export function saying(status: number, body: string | Buffer, headers: Record<string, string> = {}) {
  return (_: IncomingMessage, response: ServerResponse) => void response.writeHead(status, headers).end(body)
}

/** Writes `piece` again and again, as fast as the other side takes it, until that goes. */
export function pouring(piece: Buffer) {
  return (_: IncomingMessage, response: ServerResponse) => {
    const pour = () => {
      while (!response.destroyed && response.write(piece));
    }
    response.on('drain', pour)
    pour()
  }
}

/** Writes a byte of `text` every few milliseconds, and then blanks, for ever. */
export function dripping(text: string) {
  return (_: IncomingMessage, response: ServerResponse) => {
    let at = 0
    const timer = setInterval(() => response.write(text[at++] ?? ' '), 5)
    response.on('close', () => clearInterval(timer))
  }
}

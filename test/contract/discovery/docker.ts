// A stand-in for a Docker engine: its list of containers, and the stream of its events.

import { once } from 'node:events'
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { Test } from 'tap'
import { folder } from '../../support/folder.ts'
import type { Asked, Failing, Fixture, Section } from './fixture.ts'

/** What an engine says to a request; without a word said it stays open. */
type Say = (request: IncomingMessage, response: ServerResponse) => void

export interface StandIn {
  readonly endpoint: string
  /** The requests so far, by their URL. */
  readonly asked: readonly string[]
  /** Connections that are open. */
  open(): number
  /** Closes every connection. */
  cut(): void
}

/** An engine that answers as `say` does. */
export async function engine(t: Test, say: Say): Promise<StandIn> {
  const asked: string[] = []
  let open = 0
  const server = createServer((request, response) => {
    asked.push(decodeURIComponent(request.url!))
    say(request, response)
  })
  server.on('connection', (socket) => {
    open++
    socket.on('close', () => open--).on('error', () => {})
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  const { port } = server.address() as AddressInfo
  return {
    endpoint: `tcp://127.0.0.1:${port}`,
    asked,
    open: () => open,
    cut: () => server.closeAllConnections(),
  }
}

/** A container as engines list it, which publishes 80 as `port`. */
export function container(name: string, port: number, labels: Record<string, string> = {}): object {
  return {
    Id: `id-${name}`,
    Names: [`/${name}`],
    Labels: labels,
    State: 'running',
    Status: 'Up 2 minutes',
    Ports: [
      { IP: '0.0.0.0', PrivatePort: 80, PublicPort: port, Type: 'tcp' },
      { IP: '::', PrivatePort: 80, PublicPort: port, Type: 'tcp' },
    ],
    NetworkSettings: { Networks: { bridge: { IPAddress: '172.17.0.2', GlobalIPv6Address: '' } } },
  }
}

/** An engine that answers every question with `body`. */
export function listing(t: Test, body: unknown): Promise<StandIn> {
  return engine(t, (_, response) => response.end(JSON.stringify(body)))
}

const FIRST = container('web1', 22001, { 'fairlead.weight': '2' })
const SECOND = container('web2', 22002)

const section = ({ endpoint }: { endpoint: string }, more: Section = {}): Section => ({
  docker_endpoint: endpoint,
  docker_container_private_port: 80,
  ...more,
})

/** An engine that takes a question and goes on with its answer as `say` does. */
async function asking(t: Test, say: Say): Promise<Asked> {
  const standIn = await engine(t, say)
  return {
    section: section(standIn),
    begun: () => standIn.asked.length > 0,
    over: () => standIn.open() === 0,
  }
}

async function failing(t: Test, message: RegExp, say: Say, more: Section = {}): Promise<Failing> {
  return { section: section(await engine(t, say), more), message }
}

export const fixture: Fixture = {
  lists: async (t) => section(await listing(t, [FIRST, SECOND])),
  listed: ['127.0.0.1:22001 2', '127.0.0.1:22002 1'],
  empty: async (t) => section(await listing(t, [])),
  garbage: async (t) => ({
    section: section(await listing(t, [{ Id: 7 }, FIRST, { ...SECOND, Ports: [{ PrivatePort: 'x' }] }])),
    rejected: [/^container 0: Id: expected a string/, /^container 2: Ports\.0\.PrivatePort: expected a port/],
  }),
  fails: async (t) => [
    await failing(t, /answered \/containers\/json with status 500: out of disk$/, (_, response) =>
      response.writeHead(500).end('{"message":"out of disk"}'),
    ),
    await failing(t, /with status 403: forbidden by the proxy$/, (_, response) =>
      response.writeHead(403).end('forbidden by the proxy\n<html>'),
    ),
    await failing(t, /with status 302$/, (_, response) =>
      response.writeHead(302, { location: 'ftp://127.0.0.1:1/' }).end(),
    ),
    await failing(t, /with status 307$/, (_, response) =>
      response.writeHead(307, { location: 'http://127.0.0.1:1/' }).end(),
    ),
    await failing(t, /the list of containers cannot be read: .*, got "<html>"/, (_, response) =>
      response.end('<html>'),
    ),
    await failing(t, /cannot be read: the JSON is cut short/, (_, response) => response.end('[{"Id":"a')),
    await failing(t, /ended in the middle/, (_, response) => {
      response.writeHead(200, { 'content-length': 100 }).write('[')
      setImmediate(() => response.destroy())
    }),
    await failing(t, /cannot ask the Docker engine at tcp:.*: socket hang up/, (request) =>
      request.socket.destroy(),
    ),
    {
      section: { docker_endpoint: `unix://${join(folder(t), 'docker.sock')}` },
      message: /cannot ask the Docker engine at unix:.*: connect ENOENT/,
    },
    await failing(t, /docker_tls_cacert_path: ENOENT/, () => {}, {
      docker_tls_enabled: true,
      docker_tls_cacert_path: join(t.testdirName, 'ca.pem'),
    }),
  ],
  hangs: (t) => asking(t, () => {}),
  slow: (t) =>
    asking(t, (_, response) => {
      response.write('[')
      const timer = setInterval(() => response.write(' '), 5)
      response.on('close', () => clearInterval(timer))
    }),
  huge: async (t) => {
    const blanks = Buffer.alloc(65_536, ' ')
    const asked = await asking(t, (_, response) => {
      const more = () => {
        while (response.write(blanks));
        response.once('drain', more)
      }
      response.write('[')
      more()
    })
    return {
      section: asked.section,
      message: /sent an answer of more than 16777216 bytes/,
      over: () => asked.over(),
    }
  },
  changes: async (t) => {
    const listed = [FIRST, SECOND]
    const streams = new Set<ServerResponse>()
    const standIn = await engine(t, (request, response) => {
      if (!request.url!.startsWith('/events')) return response.end(JSON.stringify(listed))
      streams.add(response)
      response.on('close', () => streams.delete(response)).flushHeaders()
    })
    return {
      section: section(standIn),
      change: async () => {
        listed.push(container('web3', 22003))
        const event = JSON.stringify({ Type: 'container', Action: 'start', Actor: { ID: 'id-web3' } })
        for (const stream of streams) {
          // Cut in the middle: the first half has left before the second is written.
          await new Promise((resolve) => stream.write(event.slice(0, 20), resolve))
          stream.write(`${event.slice(20)}\n`)
        }
      },
      cut: () => {
        for (const stream of streams) stream.destroy()
      },
      over: () => streams.size === 0,
    }
  },
  wrong: {
    docker_endpoint: 'ftp://10.0.0.1',
    docker_container_private_port: 65536,
    docker_healthy_only: 'yes',
    docker_network: 1,
  },
}

import { once } from 'node:events'
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import type { Test } from 'tap'
import { WebSocketServer } from 'ws'
import { folder } from '../../support/folder.ts'
import type { Asked, Fixture, Section } from './fixture.ts'

const LIST = '/1.0/instances?recursion=2'

/** A container as LXD 5.0 lists it, as far as anybody reads it. */
export function container(name: string, address: string, config: object, status = 'Running'): object {
  const addresses = [
    { family: 'inet6', address: 'fe80::1', netmask: '64', scope: 'link' },
    { family: 'inet', address, netmask: '24', scope: 'global' },
  ]
  const state = { status, network: { lo: { addresses: [] }, eth0: { addresses } } }
  return { name, status, type: 'container', config: {}, expanded_config: config, state }
}

const A = container('a', '10.0.0.1', { 'user.port': '80', 'user.fairlead.weight': '2' })
const B = container('b', '10.0.0.2', { 'user.port': '81' })
const C = container('c', '10.0.0.3', { 'user.port': '82' })
const STOPPED = container('d', '10.0.0.4', { 'user.port': '83' }, 'Stopped')

export type Answering = (response: ServerResponse, request: IncomingMessage) => void

const reply = (body: object, status = 200): Answering => {
  return (response) =>
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

export const listing = (...list: unknown[]) => reply({ type: 'sync', status_code: 200, metadata: list })

export const missing = reply({ type: 'error', error: 'not found' }, 404)

/** An LXD that answers the question for the list, and sends events. */
export async function standIn(t: Test, answer: Answering, others: Answering = missing) {
  const path = join(folder(t), 'lxd.sock')
  const sockets = new Set<Socket>()
  let asked = 0
  const server = createServer((request, response) => {
    asked++
    if (request.url === LIST) answer(response, request)
    else others(response, request)
  })
  const events = new WebSocketServer({ server, path: '/1.0/events' })
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket)).on('error', () => {})
  })
  server.listen(path)
  await once(server, 'listening')
  const cut = () => {
    for (const socket of sockets) socket.destroy()
  }
  t.teardown(() => {
    cut()
    server.close()
  })
  const section: Section = { lxd_server_address: `unix://${path}`, lxd_container_port_key: 'user.port' }
  return {
    section,
    cut,
    begun: () => asked > 0,
    over: () => sockets.size === 0,
    events,
    /** Tells of something that happened. */
    tell: (action: string) => {
      for (const client of events.clients)
        client.send(JSON.stringify({ type: 'lifecycle', metadata: { action } }))
    },
  }
}

async function failing(t: Test, answer: Answering, message: RegExp) {
  return { section: (await standIn(t, answer)).section, message }
}

/** Answers with `piece` again and again, as fast as it is read or once a while. */
function endless(piece: string, pauseMs?: number): Answering {
  return (response) => {
    response.writeHead(200)
    const more = () => {
      if (response.destroyed) return
      if (response.write(piece)) setTimeout(more, pauseMs ?? 0)
      else response.once('drain', more)
    }
    more()
  }
}

async function asked(t: Test, answer: Answering): Promise<Asked> {
  return standIn(t, answer)
}

export const fixture: Fixture = {
  lists: async (t) => (await standIn(t, listing(A, STOPPED, B))).section,
  listed: ['10.0.0.1:80 2', '10.0.0.2:81 1'],
  empty: async (t) => (await standIn(t, listing())).section,
  garbage: async (t) => ({
    section: (await standIn(t, listing('junk', A, container('e', '10.0.0.5', { 'user.port': 'x' })))).section,
    rejected: [
      /^entry 0: expected a container with a name and a status$/,
      /^container "e": user\.port: expected a port, 1 to 65535, got "x"$/,
    ],
  }),
  fails: async (t) => [
    await failing(
      t,
      reply({ error: 'not authorized' }, 403),
      /^LXD at unix:.* answered 403: not authorized$/,
    ),
    await failing(t, (response) => response.writeHead(502).end('<html>'), /^LXD at unix:.* answered 502$/),
    await failing(t, (response) => response.end('[1'), /expected an answer in JSON, got "\[1"$/),
    await failing(t, reply({ metadata: {} }), /expected a list at \/1\.0\/instances, got object$/),
    await failing(
      t,
      (response) => response.destroy(),
      /^LXD at unix:.* broke off its answer: socket hang up$/,
    ),
    {
      section: { lxd_server_address: `unix://${folder(t)}/none` },
      message: /^cannot reach LXD at unix:.*none: there is no such socket$/,
    },
  ],
  hangs: (t) => asked(t, () => {}),
  slow: (t) => asked(t, endless('{"metadata":[', 20)),
  huge: async (t) => {
    const { section, over } = await standIn(t, endless(' '.repeat(1024 * 1024)))
    return { section, message: /answered with more than 16777216 bytes$/, over }
  },
  changes: async (t) => {
    const list = [A, B]
    const { section, tell, cut, over } = await standIn(t, (response, request) =>
      listing(...list)(response, request),
    )
    const change = () => {
      list.push(C)
      tell('instance-started')
    }
    return { section, change, cut, over }
  },
  wrong: {
    lxd_server_address: 'http://10.0.0.1',
    lxd_server_remote_name: '../local',
    lxd_accept_server_cert: 'yes',
    lxd_container_port: 70_000,
    lxd_container_address_type: 'IPv5',
  },
}

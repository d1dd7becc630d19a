import { once } from 'node:events'
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import type { Test } from 'tap'
import { freePort } from '../../support/spawned.ts'
import type { Asked, Failing, Fixture, Section } from './fixture.ts'

/** An agent with answers of its own; `open` is how many connections it has. */
async function agent(t: Test, answer: (request: IncomingMessage, response: ServerResponse) => void) {
  const sockets = new Set<Socket>()
  const server = createServer(answer)
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket)).on('error', () => {})
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const cut = () => {
    for (const socket of sockets) socket.destroy()
  }
  t.teardown(() => {
    server.close()
    cut()
  })
  const section = {
    consul_host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    consul_service_name: 'web',
  }
  return { section, cut, open: () => sockets.size }
}

const INDEX = { 'X-Consul-Index': '7', 'X-Consul-Knownleader': 'true', 'Content-Type': 'application/json' }

/** Answers for the service as told, and to everything else that there is no such page. */
async function answering(t: Test, status: number, body: unknown, headers: object = INDEX): Promise<Section> {
  const { section } = await agent(t, ({ url }, response) => {
    if (!url!.startsWith('/v1/health/service/web')) return void response.writeHead(404).end()
    response.writeHead(status, { ...headers })
    response.end(typeof body === 'string' ? body : JSON.stringify(body))
  })
  return section
}

const A = {
  Node: { Address: 'n' },
  Service: { ID: 'a', Address: 'a', Port: 80, Weights: { Passing: 2, Warning: 1 } },
}
const B = {
  Node: { Address: 'b' },
  Service: { ID: 'b', Address: '', Port: 81, Tags: null, Meta: null },
  Checks: [],
}
const C = { Node: { Address: 'c' }, Service: { ID: 'c', Port: 82 } }

/** Says nothing of the service, and `verdict` when it is asked who may read it. */
async function hiding(t: Test, status: number, verdict: unknown): Promise<Section> {
  const { section } = await agent(t, ({ url }, response) => {
    const listing = url!.startsWith('/v1/health/service/web')
    response.writeHead(listing ? 200 : status, INDEX).end(listing ? '[]' : JSON.stringify(verdict))
  })
  return section
}

async function failing(t: Test): Promise<readonly Failing[]> {
  const cut = await agent(t, (_, response) => {
    response.writeHead(200, { ...INDEX, 'Content-Length': '1000' }).write('[', () => response.destroy())
  })
  const { 'X-Consul-Index': _, ...indexless } = INDEX
  const closed = { consul_host: `127.0.0.1:${await freePort()}`, consul_service_name: 'web' }
  return [
    { section: await answering(t, 500, 'No cluster leader'), message: /answered 500: "No cluster leader"$/ },
    {
      section: await answering(t, 403, 'ACL not found'),
      message: /403: "ACL not found"; is consul_acl_token/,
    },
    { section: await answering(t, 301, ''), message: /^Consul answered 301$/ },
    {
      section: await answering(t, 200, [A], { ...INDEX, 'X-Consul-Knownleader': 'false' }),
      message: /no leader/,
    },
    { section: await answering(t, 200, [A], indexless), message: /X-Consul-Index, got "undefined"/ },
    {
      section: await answering(t, 200, [A], { ...INDEX, 'X-Consul-Index': '0' }),
      message: /X-Consul-Index, got "0"/,
    },
    {
      section: await answering(t, 200, '<html>'),
      message: /^the answer of Consul cannot be read: expected a list .*, got "<html>"$/,
    },
    { section: await answering(t, 200, ''), message: /cannot be read: expected a list .*, got the end$/ },
    { section: await answering(t, 200, '[{]'), message: /cannot be read: / },
    { section: await answering(t, 200, { a: A }), message: /cannot be read: expected a list/ },
    {
      section: await hiding(t, 200, [{ Allow: false }, { Allow: true }]),
      message: /ACLs hide service "web": consul_acl_token/,
    },
    {
      section: await hiding(t, 200, [{ Allow: true }, { Allow: false }]),
      message: /ACLs hide service "web"/,
    },
    {
      section: await hiding(t, 403, 'Permission denied'),
      message: /Consul answered 403: .*is consul_acl_token right/,
    },
    { section: cut.section, message: /^Consul cut its answer off$/ },
    { section: closed, message: /^cannot ask Consul: connect ECONNREFUSED/ },
    {
      section: { ...closed, consul_host: 'unix:///nowhere/consul.sock' },
      message: /^cannot ask Consul: connect ENOENT/,
    },
    {
      section: { ...closed, consul_tls_enabled: true, consul_tls_cacert_path: '/nowhere/ca.pem' },
      message: /^consul_tls_cacert_path: ENOENT/,
    },
  ]
}

/** An agent that says `first`, then a blank again and again, and never comes to an end. */
async function staying(t: Test, first: string): Promise<Asked> {
  let begun = false
  const { section, open } = await agent(t, (_, response) => {
    begun = true
    if (first === '') return
    response.writeHead(200, INDEX).write(first)
    const timer = setInterval(() => response.write(' '), 5)
    response.on('close', () => clearInterval(timer))
  })
  return { section, begun: () => begun, over: () => begun && open() === 0 }
}

/** An agent that keeps questions open until something has changed. */
async function changing(t: Test) {
  let list: object[] = [A, B]
  let index = 7
  const waiting = new Set<() => void>()
  const { section, cut, open } = await agent(t, ({ url }, response) => {
    const tell = () =>
      response.writeHead(200, { ...INDEX, 'X-Consul-Index': String(index) }).end(JSON.stringify(list))
    if (!url!.includes(`index=${index}&`)) return void tell()
    waiting.add(tell)
    response.on('close', () => waiting.delete(tell))
  })
  const change = () => {
    list = [A, B, C]
    index++
    for (const tell of waiting) tell()
  }
  return { section, cut, change, over: () => open() === 0 }
}

export const fixture: Fixture = {
  lists: async (t) => answering(t, 200, [A, B]),
  empty: async (t) => answering(t, 200, []),
  garbage: async (t) => ({
    section: await answering(t, 200, [7, A, { Service: { ID: 'none', Address: 'b', Port: 0 } }]),
    rejected: [
      /^instance 1: expected an object$/,
      /^instance 3 "none": expected an address and .*, got "b:0"$/,
    ],
  }),
  fails: failing,
  hangs: (t) => staying(t, ''),
  slow: (t) => staying(t, '['),
  huge: async (t) => {
    const { section, open } = await agent(t, (_, response) => {
      response.writeHead(200, INDEX).write('[')
      const pour = () => {
        while (response.write(' '.repeat(65_536)));
      }
      response.on('drain', pour)
      pour()
    })
    return { section, message: /^Consul answered with more than 16 MiB$/, over: () => open() === 0 }
  },
  changes: changing,
  wrong: { consul_host: 'consul', consul_service_name: '', consul_tls_enabled: 'yes' },
}

// `fairlead demo`: a balancer in front of two backends that it starts itself, to look at and to curl.

import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { once } from 'node:events'
import { readDocument } from '../config/read.ts'
import { runConfig } from './run.ts'

const USER = 'admin'

/** Runs the demo until a signal ends it; `say` prints for the person who tries it. Returns the exit status. */
export async function runDemo(say: (text: string) => void): Promise<number> {
  const backends = await Promise.all([startBackend('backend 1'), startBackend('backend 2')])
  const { config } = readDocument(
    {
      logging: { level: 'info', output: 'stderr' },
      api: { enabled: true, bind: '127.0.0.1:8888', basic_auth: { login: USER, password: USER } },
      metrics: { enabled: true, bind: '127.0.0.1:9284' },
      servers: {
        demo: {
          bind: '127.0.0.1:3000',
          balance: 'roundrobin',
          discovery: { kind: 'static', static_list: backends.map(({ port }) => `127.0.0.1:${port}`) },
          healthcheck: { kind: 'ping', interval: '2s', timeout: '1s' },
        },
      },
    },
    'the demo',
  )
  const spare = backends[0].port
  try {
    return await runConfig(config, { kind: 'file', path: 'demo' }, [], () => say(invitation(spare)))
  } finally {
    for (const { close } of backends) close()
  }
}

async function startBackend(name: string) {
  const server = createServer((_request, response) => response.end(`hello from ${name}\n`))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const close = () => {
    server.close()
    server.closeAllConnections()
  }
  return { port, close }
}

function invitation(spare: number): string {
  return `
  A balancer is running in front of two demo backends.

    balancer  http://127.0.0.1:3000
    API       http://127.0.0.1:8888  (user ${USER}, password ${USER})
    metrics   http://127.0.0.1:9284/metrics

  Try, in another terminal:

    curl http://127.0.0.1:3000        # again and again: the backends take turns
    curl -u ${USER}:${USER} http://127.0.0.1:8888/servers
    curl -u ${USER}:${USER} http://127.0.0.1:8888/servers/demo/stats
    curl -u ${USER}:${USER} -X POST http://127.0.0.1:8888/servers/second --data \\
      '{"bind": "127.0.0.1:3001", "discovery": {"kind": "static", "static_list": ["127.0.0.1:${spare}"]}}'
    curl http://127.0.0.1:3001
    curl -u ${USER}:${USER} -X DELETE http://127.0.0.1:8888/servers/second

  Ctrl-C drains and ends. Your own file: npm start -- -c FILE
`
}

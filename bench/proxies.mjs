// What a benchmark drives: an origin, and in front of it nothing, HAProxy, nginx or fairlead.

import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { get } from 'node:http'
import { tmpdir } from 'node:os'
import { fileURLToPath } from 'node:url'
import { PROXY_CPU, cpuMs, freePorts, residentKiB, start, stop, until } from './machine.mjs'

export const TARGETS = ['direct', 'haproxy', 'nginx', 'fairlead']
export const PROXIES = TARGETS.slice(1)

const fairlead = fileURLToPath(new URL('../bin/fairlead', import.meta.url))
/** Files of this run; gone with the process. */
export const folder = mkdtempSync(`${tmpdir()}/fairlead-bench-`)
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
let files = 0

/** An HTTP server with `/` (12 bytes), `/64k` and `/10m`, on every address of 127.0.0.0/8. Resolves with its port. */
export async function startOrigin() {
  const port = await freePorts()
  writeFileSync(`${folder}/64k`, Buffer.alloc(64 * 1024, 'x'))
  writeFileSync(`${folder}/10m`, Buffer.alloc(10 * 1024 * 1024, 'x'))
  const config = `${nginxHead('origin')}
    http {
      access_log off; sendfile on; tcp_nopush on; open_file_cache max=10;
      keepalive_requests 100000000; keepalive_timeout 600s;
      server {
        listen 0.0.0.0:${port} backlog=4096;
        root ${folder};
        location = / { return 200 "hello world\\n"; }
      }
    }`
  const child = start('nginx', ['-p', folder, '-c', file('origin.conf', config)], {
    stdio: 'inherit',
    ending: 'SIGTERM',
  })
  await until('the origin', () => answers(port))
  return { port, stop: () => stop(child, 'SIGTERM') }
}

/**
 * Starts one target and resolves when it answers. `backends` are `host:port`; `servers` is how many listeners
 * it has, all alike, of which the last is driven; `rules` are networks let in beside 127.0.0.0/8; `config`
 * is merged into the first level of fairlead's configuration, `server` into its servers; `others` are more servers.
 */
export async function startTarget(name, { backends, servers = 1, rules, config, server, others }) {
  if (name === 'direct') return { name, port: Number(backends[0].split(':')[1]), stop: async () => {} }
  const first = await freePorts(servers)
  const ports = Array.from({ length: servers }, (_, i) => first + i)
  const [command, args, ending] = programs[name]({ backends, ports, rules, config, server, others })
  const child = start(command, args, { cpu: PROXY_CPU, ending, stdio: ['ignore', 'inherit', 'inherit'] })
  const port = ports.at(-1)
  await until(name, () => answers(port), 60_000)
  return {
    name,
    port,
    pid: child.pid,
    cpuMs: () => cpuMs(child.pid),
    residentKiB: () => residentKiB(child.pid),
    stop: () => stop(child, ending),
  }
}

const programs = {
  haproxy: ({ backends, ports, rules }) => {
    const denied = rules
      ? `tcp-request connection reject unless { src -f ${file('rules.lst', networks(rules).join('\n'))} }`
      : ''
    const config = `
global
  nbthread 1
defaults
  mode tcp
  timeout connect 5s
  timeout client 600s
  timeout server 600s
${ports.map((port) => `frontend f${port}\n  bind 127.0.0.1:${port}\n  ${denied}\n  default_backend origin`).join('\n')}
backend origin
${backends.map((backend, i) => `  server s${i} ${backend}`).join('\n')}
`
    return ['haproxy', ['-db', '-q', '-f', file('haproxy.cfg', config)], 'SIGTERM']
  },

  nginx: ({ backends, ports }) => {
    const config = `${nginxHead('stream')}
      stream {
        upstream origin { ${backends.map((backend) => `server ${backend};`).join('\n')} }
        ${ports.map((port) => `server { listen 127.0.0.1:${port}; proxy_pass origin; }`).join('\n')}
      }`
    return ['nginx', ['-p', folder, '-c', file('stream.conf', config)], 'SIGTERM']
  },

  fairlead: ({ backends, ports, rules, config, server, others }) => {
    const one = (port) => ({
      bind: `127.0.0.1:${port}`,
      balance: 'roundrobin',
      discovery: { kind: 'static', static_list: backends },
      ...(rules && {
        access: { default: 'deny', rules: networks(rules).map((network) => `allow ${network}`) },
      }),
      ...server,
    })
    const servers = Object.fromEntries(ports.map((port) => [`bench${port}`, one(port)]))
    const text = JSON.stringify({ logging: { level: 'warn' }, ...config, servers: { ...servers, ...others } })
    const args = [...flags, fairlead, '-c', file('fairlead.json', text)]
    return [flags.length > 0 ? process.execPath : args.shift(), args, 'SIGKILL']
  },
}

/** For profiles: FAIRLEAD_NODE_FLAGS="--cpu-prof" and the like, in place of the flags fairlead starts with. */
const flags = (process.env.FAIRLEAD_NODE_FLAGS ?? '').split(' ').filter(Boolean)

function networks(rules) {
  return [...rules, '127.0.0.0/8']
}

function nginxHead(name) {
  const module = '/usr/lib/nginx/modules/ngx_stream_module.so'
  return `
    ${existsSync(module) ? `load_module ${module};` : ''}
    ${process.getuid() === 0 ? 'user root;' : ''}
    daemon off; worker_processes 1; worker_rlimit_nofile 20000;
    pid ${folder}/${name}${files}.pid; error_log stderr crit;
    events { worker_connections 19900; }`
}

function file(name, text) {
  const path = `${folder}/${files++}-${name}`
  writeFileSync(path, text)
  return path
}

/** Resolves with true when an HTTP request for `/` is answered there. */
function answers(port) {
  return new Promise((resolve, reject) => {
    const request = get({ host: '127.0.0.1', port, agent: false, timeout: 2_000 }, (response) => {
      response.resume()
      resolve(response.statusCode === 200)
    })
    request.on('error', reject)
    request.on('timeout', () => request.destroy(new Error('no answer')))
  })
}

// What a benchmark drives: an origin, and in front of it nothing, HAProxy, nginx or a plane of fairlead.

import { once } from 'node:events'
import { existsSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { PROXY_CPU, cpuMs, freePorts, residentKiB, start, stop, until } from './machine.mjs'
import { compiled, folder } from './programs.mjs'
import { answers, answersDatagram } from './ready.mjs'

/** `splice-auto` waits for a stream that is fast enough and splices nothing here; this always splices. */
export const SPLICING = 'haproxy-splice-response'
const HAPROXIES = ['haproxy', 'haproxy-splice-auto', SPLICING, 'haproxy-64k']
const NGINXES = ['nginx', 'nginx-64k']
/** Those of others that a goal is about: as they are without settings, and in variants. */
export const PEERS = [...HAPROXIES, ...NGINXES].filter((name) => name !== SPLICING)
export const PLANES = ['portable', 'native']
export const TARGETS = ['direct', ...HAPROXIES, ...NGINXES, ...PLANES]
/** Nobody's program, but the least that any may cost: of datagrams, and of requests that fit a socket's buffer. */
export const RELAY = 'relay'
/** Each program without settings. */
export const PROXIES = ['haproxy', 'nginx', ...PLANES]

/** What a variant sets: for HAProxy in `global` and in `defaults`, for nginx beside `proxy_pass`. */
const VARIANTS = {
  // A connection may take two pipes, and these are more than any load here has connections.
  'haproxy-splice-auto': ['maxpipes 1024', 'option splice-auto'],
  [SPLICING]: ['maxpipes 1024', 'option splice-response'],
  'haproxy-64k': ['tune.bufsize 65536', ''],
  'nginx-64k': ['proxy_buffer_size 64k;'],
}

/** A target as tables call it. */
export function label(name) {
  return name.replace('-', ' ')
}

const fairlead = fileURLToPath(new URL('../bin/fairlead', import.meta.url))
/** Those of the first line of bin/fairlead. */
const USUAL_FLAGS = ['--single-threaded-gc', '--max-semi-space-size=4']
let files = 0

/**
 * An HTTP server with `/` (12 bytes), `/64k` and `/10m`, on every address of 127.0.0.0/8; on processor `cpu` when
 * given. Resolves with its port.
 */
export async function startOrigin({ cpu } = {}) {
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
    cpu,
    stdio: 'inherit',
    ending: 'SIGTERM',
  })
  await until('the origin', () => answers(port))
  return { port, stop: () => stop(child, 'SIGTERM') }
}

/**
 * Starts one target and resolves when it answers. `backends` are `host:port`; `servers` is how many listeners
 * it has, all alike, of which the last is driven; `rules` are networks let in beside 127.0.0.0/8; `threads` move
 * its bytes, on the processors `cpu`; `config` is merged into the first level of fairlead's configuration, `server`
 * into its servers; `others` are more servers; `probe` is a module to load into fairlead, which `ask` asks. With `udp` it
 * is for datagrams: `idle` and, when given, `requests` and `responses` of a session; where nothing is answered, `sink`
 * is the port of the backend that is then asked instead.
 */
export async function startTarget(name, { backends, servers = 1, cpu = PROXY_CPU, probe, ...setup }) {
  if (name === 'direct') {
    const port = Number(backends[0].split(':')[1])
    return { name, port, ports: [port], stop: async () => {} }
  }
  const first = await freePorts(servers)
  const ports = Array.from({ length: servers }, (_, i) => first + i)
  const program = PLANES.includes(name) ? planes : programs[name.split('-')[0]]
  const [command, args, ending] = program({ name, backends, ports, probe, threads: 1, ...setup })
  const stdio = ['ignore', 'inherit', 'inherit', ...(probe ? ['ipc'] : [])]
  const child = start(command, args, { cpu, ending, stdio })
  const port = ports.at(-1)
  const ended = once(child, 'exit').then(() => Promise.reject(new Error(`${name} has ended`)))
  const { udp } = setup
  const ready = () => (udp ? answersDatagram(port, udp.sink) : answers(port))
  await Promise.race([until(name, ready, 60_000), ended])
  ended.catch(() => {})
  return {
    name,
    port,
    ports,
    pid: child.pid,
    cpuMs: () => cpuMs(child.pid),
    residentKiB: () => residentKiB(child.pid),
    async ask() {
      child.send('tell')
      return (await once(child, 'message'))[0]
    },
    stop: () => stop(child, ending),
  }
}

/** Starts one target after the other, all set up alike. */
export async function startTargets(names, setup) {
  const targets = []
  for (const name of names) targets.push(await startTarget(name, setup))
  return targets
}

const programs = {
  haproxy: ({ name, backends, ports, rules, threads }) => {
    const [global, defaults] = VARIANTS[name] ?? ['', '']
    const denied = rules
      ? `tcp-request connection reject unless { src -f ${file('rules.lst', networks(rules).join('\n'))} }`
      : ''
    const config = `
global
  nbthread ${threads}
  ${global}
defaults
  mode tcp
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  ${defaults}
${ports.map((port) => `frontend f${port}\n  bind 127.0.0.1:${port}\n  ${denied}\n  default_backend origin`).join('\n')}
backend origin
${backends.map((backend, i) => `  server s${i} ${backend}`).join('\n')}
`
    return ['haproxy', ['-db', '-q', '-f', file('haproxy.cfg', config)], 'SIGTERM']
  },

  nginx: ({ name, backends, ports, threads, udp }) => {
    const settings = udp ? nginxDatagrams(udp) : VARIANTS[name]?.[0]
    const bind = (port) => `listen 127.0.0.1:${port}${udp ? ' udp' : ''};`
    // A session takes two of these, though only one descriptor.
    const config = `${nginxHead('stream', threads, udp ? 32_768 : undefined)}
      stream {
        upstream origin { ${backends.map((backend) => `server ${backend};`).join('\n')} }
        ${ports.map((port) => `server { ${bind(port)} proxy_pass origin; ${settings ?? ''} }`).join('\n')}
      }`
    return ['nginx', ['-p', folder, '-c', file('stream.conf', config)], 'SIGTERM']
  },

  relay: ({ backends, ports, udp }) => {
    const program = compiled(udp ? 'relay.c' : 'streamrelay.c')
    return [program, [`127.0.0.1:${ports[0]}`, backends[0]], 'SIGKILL']
  },
}

/** Of a server: more than any load here has, and no more than half of the descriptors. */
const MOST_SESSIONS = 10_000

function nginxDatagrams({ idle, requests, responses }) {
  // Without answers to come, a session is over with its last datagram.
  const forgets = requests === 1 && !responses
  return `proxy_timeout ${idle};
    ${requests ? `proxy_requests ${requests};` : ''}
    ${responses || forgets ? `proxy_responses ${responses ?? 0};` : ''}`
}

/** The same as a section of a server of fairlead. */
export function datagramServer({ idle, requests = 0, responses = 0, maxSessions = MOST_SESSIONS }) {
  return {
    protocol: 'udp',
    client_idle_timeout: idle,
    backend_idle_timeout: idle,
    udp: { max_requests: requests, max_responses: responses, max_sessions: maxSessions },
  }
}

/** fairlead with the plane called `name`. */
function planes({ name, backends, ports, rules, threads, config, server, others, probe, udp }) {
  const one = (port) => ({
    bind: `127.0.0.1:${port}`,
    balance: 'roundrobin',
    discovery: { kind: 'static', static_list: backends },
    ...(rules && {
      access: { default: 'deny', rules: networks(rules).map((network) => `allow ${network}`) },
    }),
    ...(udp && datagramServer(udp)),
    ...server,
  })
  const servers = Object.fromEntries(ports.map((port) => [`bench${port}`, one(port)]))
  const text = JSON.stringify({
    plane: name,
    ...(name === 'native' && { plane_threads: threads }),
    logging: { level: 'warn' },
    ...config,
    servers: { ...servers, ...others },
  })
  const args = ['-c', file('fairlead.json', text)]
  if (flags.length === 0 && !probe) return [fairlead, args, 'SIGKILL']
  const loaded = probe ? ['--import', probe] : []
  const given = flags.length > 0 ? flags : USUAL_FLAGS
  return [process.execPath, [...given, ...loaded, fairlead, ...args], 'SIGKILL']
}

/** For profiles: FAIRLEAD_NODE_FLAGS="--cpu-prof" and the like, in place of the flags fairlead starts with. */
const flags = (process.env.FAIRLEAD_NODE_FLAGS ?? '').split(' ').filter(Boolean)

function networks(rules) {
  return [...rules, '127.0.0.0/8']
}

function nginxHead(name, workers = 1, connections = 19_900) {
  const module = '/usr/lib/nginx/modules/ngx_stream_module.so'
  return `
    ${existsSync(module) ? `load_module ${module};` : ''}
    ${process.getuid() === 0 ? 'user root;' : ''}
    daemon off; worker_processes ${workers}; worker_rlimit_nofile 20000;
    pid ${folder}/${name}${files}.pid; error_log stderr crit;
    events { worker_connections ${connections}; }`
}

function file(name, text) {
  const path = `${folder}/${files++}-${name}`
  writeFileSync(path, text)
  return path
}

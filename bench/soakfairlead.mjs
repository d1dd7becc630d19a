// A running fairlead of a soak run, and the streams that it is driven with.

import { once } from 'node:events'
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { json } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { descriptors, freePorts, start, until } from './machine.mjs'
import { argsOf, compiled, folder } from './programs.mjs'

const COMMAND = fileURLToPath(new URL('../bin/fairlead', import.meta.url))
const began = performance.now()

export function say(line) {
  console.log(`[${((performance.now() - began) / 1000).toFixed(0)} s] ${line}`)
}

/** `count` free ports. */
export async function ports(count) {
  const first = await freePorts(count)
  return Array.from({ length: count }, (_, i) => first + i)
}

/** One server, round robin over fixed backends, as a configuration has it. */
export function server(bind, backends, more = {}) {
  return { bind, balance: 'roundrobin', discovery: { kind: 'static', static_list: backends }, ...more }
}

/**
 * Starts fairlead with these servers and resolves when it takes clients. `probed` loads soakprobe.mjs into it. What it
 * writes is in `output()`; `ended` resolves with its status or signal.
 */
export async function startFairlead({ plane, servers, api, level = 'error', probed = false }) {
  const config = `${folder}/fairlead.json`
  const document = {
    plane,
    logging: { level },
    api: { enabled: true, bind: `127.0.0.1:${api}` },
    servers,
  }
  writeFileSync(config, JSON.stringify(document))
  const probe = ['--expose-gc', '--import', new URL('soakprobe.mjs', import.meta.url).href]
  // The flags of the first line of bin/fairlead.
  const flags = ['--single-threaded-gc', '--max-semi-space-size=4', ...(probed ? probe : [])]
  const child = start(process.execPath, [...flags, COMMAND, '-c', config], {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text) => {
      output += text
      if (level === 'error') process.stdout.write(text)
    })
  const ended = once(child, 'close').then(([status, signal]) => status ?? signal)
  await until('fairlead', async () => {
    if (child.exitCode !== null) throw new Error(output)
    return (await ask(api, '/servers')) !== undefined
  })
  return { child, pid: child.pid, ended, output: () => output, descriptors: () => descriptors(child.pid) }
}

/**
 * The relay threads of a process: they alone block SIGTERM (15) and not SIGSEGV (11).
 */
export function relayThreads(pid) {
  return readdirSync(`/proc/${pid}/task`).filter((thread) => {
    const status = readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8')
    const blocked = BigInt(`0x${/^SigBlk:\s*(\w+)/m.exec(status)[1]}`)
    return (blocked >> 14n) & 1n && !((blocked >> 10n) & 1n)
  })
}

/**
 * What clients put up with: libuv, and so the portable plane, takes a hang-up after a read that emptied the socket for an
 * end, also when it is a reset.
 */
export function tolerated(plane) {
  return plane === 'portable' ? { 'resets-end': true } : {}
}

/** Starts native/soak/streams.c. `done` resolves with what it told, its faults as `lines`. */
export function drive(options) {
  const child = start(compiled('../native/soak/streams.c'), argsOf(options), {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text) => (output += text))
  const done = once(child, 'close').then(([status, signal]) => {
    const lines = output.trim().split('\n')
    if (status === null || status > 1) throw new Error(`streams ended with ${status ?? signal}: ${output}`)
    return { ...JSON.parse(lines.pop()), lines }
  })
  return { child, done }
}

/** Asks the API, by a connection that does not stay. */
async function ask(port, path) {
  const [response] = await once(request({ port, path, host: '127.0.0.1', agent: false }).end(), 'response')
  return json(response)
}

/** The clients that servers, or their backends, believe to be there still: a line each. */
export async function insideOf(api, names) {
  const each = names.map(async (name) => {
    const { active_connections, backends } = await ask(api, `/servers/${name}/stats`)
    const counts = [[name, active_connections]]
    for (const { host, port, stats } of backends)
      counts.push([`${name} ${host}:${port}`, stats.active_connections])
    return counts
      .filter(([, count]) => count !== 0)
      .map(([who, count]) => `active_connections of ${who}: expected 0, got ${count}`)
  })
  return (await Promise.all(each)).flat()
}

/** What a server has counted so far of all its backends, those that are gone again apart. */
export async function totalsOf(api, name) {
  const { backends } = await ask(api, `/servers/${name}/stats`)
  const sum = (key) => backends.reduce((total, { stats }) => total + stats[key], 0)
  return { sessions: sum('total_connections'), requests: sum('requests'), responses: sum('responses') }
}

/** How many of a server's flows have ended, by reason. */
export async function endingsOf(api, name) {
  return (await ask(api, `/servers/${name}/stats`)).endings
}

/** Ends fairlead as an operator does: a line when it does not end well. */
export async function endFairlead({ child, ended }) {
  child.kill('SIGTERM')
  const status = await ended
  return status === 0 ? [] : [`SIGTERM: expected status 0, got ${status}`]
}

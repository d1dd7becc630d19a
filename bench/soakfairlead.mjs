// A running fairlead of a soak run, and the programs in C that it is driven with.

import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { json } from 'node:stream/consumers'
import { tmpdir } from 'node:os'
import { fileURLToPath } from 'node:url'
import { descriptors, freePorts, start, until } from './machine.mjs'

/** For sockets, programs and logs of this run. */
export const folder = mkdtempSync(`${tmpdir()}/fairlead-soak-`)
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

const began = performance.now()

export function say(line) {
  console.log(`[${((performance.now() - began) / 1000).toFixed(0)} s] ${line}`)
}

/** Compiles native/soak/NAME.c. Returns the path of the program. */
export function compiled(name) {
  const program = `${folder}/${name}`
  const source = path(`../native/soak/${name}.c`)
  const flags = ['-O2', '-std=gnu11', '-D_GNU_SOURCE', '-pthread']
  const { error, status, stderr } = spawnSync('cc', [...flags, '-o', program, source], { encoding: 'utf8' })
  if (error || status !== 0) throw new Error(`${name}.c was not compiled: ${error?.message ?? stderr}`)
  return program
}

export function path(name) {
  return fileURLToPath(new URL(name, import.meta.url))
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
  const child = start(process.execPath, [...flags, path('../bin/fairlead'), '-c', config], {
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
export function drive(program, options) {
  const args = Object.entries(options).flatMap(([name, value]) =>
    [value].flat().flatMap((each) => (each === true ? [`--${name}`] : [`--${name}`, String(each)])),
  )
  const child = start(program, args, { stdio: ['ignore', 'pipe', 'inherit'] })
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

// The machine a benchmark runs on: its processors, its processes, and what they cost.

import { spawn, spawnSync } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'
import { createServer } from 'node:net'
import { availableParallelism } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'

/** Where proxies run, and where everything else does: apart when there are two processors. */
export const PROXY_CPU = 0
export const LOAD_CPU = availableParallelism() > 1 ? 1 : 0
/** The two together, for what has two threads. */
export const BOTH_CPUS = [...new Set([PROXY_CPU, LOAD_CPU])].join()

const started = new Set()

process.on('exit', () => {
  for (const { child, ending } of started) child.kill(ending)
})
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(130))

/** Moves this process, and so whatever it starts, to the processor of the load. */
export function pinLoad() {
  spawnSync('taskset', ['-a', '-c', '-p', String(LOAD_CPU), String(process.pid)])
}

/**
 * Starts a program, on processor `cpu` (or several: `0,1`) when given. It ends with this process at the latest, by
 * the signal `ending`.
 */
export function start(command, args, { cpu, ending = 'SIGKILL', ...options } = {}) {
  const pinned = cpu === undefined ? [] : ['taskset', '-c', String(cpu)]
  const [program, ...rest] = [...pinned, command, ...args]
  const child = spawn(program, rest, options)
  const entry = { child, ending }
  started.add(entry)
  child.on('exit', () => started.delete(entry))
  return child
}

/** Ends a program of `start` and resolves when it has gone. */
export async function stop(child, ending = 'SIGKILL') {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill(ending)
  await gone
}

let next = 12_000 + Math.floor(Math.random() * 8_000)

/** The first of `count` free ports in a row, below those the kernel gives to outgoing connections. */
export async function freePorts(count = 1) {
  for (let first = next, port = next; port < 32_000; port++) {
    if (!(await isFree(port))) first = port + 1
    else if (port - first + 1 === count) {
      next = port + 1
      return first
    }
  }
  throw new Error(`expected ${count} free ports in a row below 32000, got none`)
}

function isFree(port) {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '0.0.0.0', () => server.close(() => resolve(true)))
  })
}

/** Resolves with what `attempt` gives as soon as that is neither false nor an error. */
export async function until(what, attempt, limitMs = 30_000) {
  const end = performance.now() + limitMs
  for (let last; ; await sleep(50)) {
    try {
      const found = await attempt()
      if (found !== false) return found
    } catch (error) {
      last = error
    }
    if (performance.now() > end) throw new Error(`${what}: not within ${limitMs / 1000} s`, { cause: last })
  }
}

// One tick of /proc is 10 ms on every Linux that Node runs on.
const TICK_MS = 10

/** Processor time of a process and its living descendants so far, in ms: user and system, of all their threads. */
export function cpuMs(pid) {
  return family(pid).reduce((sum, { ticks }) => sum + ticks * TICK_MS, 0)
}

/** Resident memory of a process and its descendants, in KiB. */
export function residentKiB(pid) {
  return family(pid).reduce((sum, { pid }) => sum + residentOf(pid), 0)
}

function residentOf(pid) {
  const [, kib] = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [0, 0]
  return Number(kib)
}

/** How many descriptors a process has open. */
export function descriptors(pid) {
  return readdirSync(`/proc/${pid}/fd`).length
}

/** A process and its living descendants. */
export function processes(pid) {
  return family(pid).map(({ pid }) => pid)
}

function family(root) {
  const all = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap(statOf)
  const members = new Set([root])
  for (let before = 0; before < members.size;) {
    before = members.size
    for (const { pid, parent } of all) if (members.has(parent)) members.add(pid)
  }
  return all.filter(({ pid }) => members.has(pid))
}

function statOf(name) {
  try {
    // After the name in brackets, which may hold blanks: state, parent, … utime and stime at 12 and 13.
    const fields = readFileSync(`/proc/${name}/stat`, 'utf8').split(') ').at(-1).split(' ')
    return [{ pid: Number(name), parent: Number(fields[1]), ticks: Number(fields[11]) + Number(fields[12]) }]
  } catch {
    return [] // it has just ended
  }
}

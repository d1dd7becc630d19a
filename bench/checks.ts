// What health checks cost: 5,000 backends pinged every 2 s, all of them alive, then half of them dead hosts whose
// dials nobody answers. Prints the CPU the checking process took, how late checks began, how long the event loop
// stood still, and how long it took to stop.
//
//   npx tsc -p tsconfig.build.json && node --import @tapjs/typescript/import bench/checks.ts
//
// The backends are two listeners in a process of their own, at an address each: one that accepts, and one whose
// accept queue is full, so that the kernel drops whoever dials it, as a network does that has lost the host.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { Check, Target } from '../src/health/check.ts'

const BACKENDS = 5_000
const INTERVAL_MS = 2_000
const WARM_UP_MS = 6_000
const MEASURED_MS = 20_000
/** How often the event loop is looked at; that much of a delay is the look itself. */
const LOOK_MS = 1

const built = (path: string) => import(new URL(`../dist/${path}.js`, import.meta.url).href)
const { realClock } = (await built('core/clock')) as typeof import('../src/core/clock.ts')
const { createCheck, checkSettings } = (await built(
  'health/settings',
)) as typeof import('../src/health/settings.ts')
const { Gate } = (await built('health/gate')) as typeof import('../src/health/gate.ts')
const { createMonitor } = (await built('health/monitor')) as typeof import('../src/health/monitor.ts')
const { configureLogging } = (await built('core/log')) as typeof import('../src/core/log.ts')

const LISTENERS = `
  const { createServer, connect } = require('node:net')
  const alive = createServer((socket) => socket.on('error', () => {}).resume())
  alive.listen({ port: 0, host: '0.0.0.0', backlog: 4096 }, () => {
    const { Worker } = require('node:worker_threads')
    // A thread that never comes back to its event loop accepts nobody.
    const deaf = new Worker(\`
      const server = require('node:net').createServer().listen({ port: 0, host: '0.0.0.0', backlog: 1 }, () => {
        require('node:worker_threads').parentPort.postMessage(server.address().port)
        setImmediate(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0))
      })\`, { eval: true })
    deaf.once('message', (port) => {
      for (let i = 0; i < 8; i++) connect(port, '127.0.0.1').on('error', () => {})
      setTimeout(() => console.log(alive.address().port + ' ' + port), 500)
    })
  })`

configureLogging({ level: 'panic', output: 'stderr', format: 'text' })
const listeners = spawn(process.execPath, ['-e', LISTENERS], { stdio: ['ignore', 'pipe', 'inherit'] })
const [line] = (await once(listeners.stdout, 'data')) as [Buffer]
const [alive, deaf] = line.toString().split(' ').map(Number) as [number, number]

console.log(`${BACKENDS} backends every ${INTERVAL_MS} ms, node ${process.version}`)
console.log(`without checks: event loop held up ${await stalls()}`)
for (const [name, timeoutMs, dead] of [
  ['all alive', 1_000, 0],
  ['half dead, timeout 1 s', 1_000, BACKENDS / 2],
  ['half dead, timeout 2 s', 2_000, BACKENDS / 2],
] as const)
  await measure(name, timeoutMs, dead)
listeners.kill()

async function measure(name: string, timeoutMs: number, dead: number): Promise<void> {
  const gate = new Gate()
  const ping = createCheck(checkSettings.parse({ kind: 'ping', interval: '2s' }))!
  const { check, lateness } = watched(ping)
  let flips = 0
  const settings = {
    name: 'bench',
    check,
    intervalMs: INTERVAL_MS,
    intervalDownMs: INTERVAL_MS,
    timeoutMs,
    passes: 1,
    fails: 1,
    initialStatus: undefined,
  }
  const monitor = createMonitor(settings, realClock, gate, { flipped: () => flips++ })
  for (let id = 0; id < BACKENDS; id++) {
    const port = id % 2 === 1 && id < dead * 2 ? deaf : alive
    const address = { host: `127.1.${id >> 8}.${id & 255}`, port }
    monitor.add(id, { address, endpoints: [address] })
  }
  await sleep(WARM_UP_MS)
  const warm = { late: gate.late, begun: lateness.length }
  const cpu = process.cpuUsage()
  const began = performance.now()
  const loop = await stalls()
  const { user, system } = process.cpuUsage(cpu)
  const tookMs = performance.now() - began
  const checks = lateness.length - warm.begun
  const late = lateness.slice(warm.begun).sort((a, b) => a - b)
  const running = gate.running

  const stopping = performance.now()
  await monitor.stop()
  while (gate.running > 0 || gate.waiting > 0) await sleep(1)
  const stoppedMs = performance.now() - stopping

  const share = (user + system) / 1000 / tookMs
  const at = (part: number) => `${late[Math.floor((late.length - 1) * part)]!.toFixed(1)} ms`
  const rate = checks / (tookMs / 1000)
  console.log(`${name}: ${rate.toFixed(0)} checks a second, ${running} at once, ${flips} flips`)
  console.log(
    `  CPU ${(share * 100).toFixed(1)} % of a core, ${((share / rate) * 1e6).toFixed(0)} µs a check`,
  )
  console.log(`  begun late by p50 ${at(0.5)}, p99 ${at(0.99)}, most ${at(1)}; counted as late: `, {
    whileWarmingUp: warm.late,
    measured: gate.late - warm.late,
  })
  console.log(`  event loop held up ${loop}; stopped in ${stoppedMs.toFixed(1)} ms`)
}

/** How late checks begin: by how much the time since the last one of a backend is more than the interval. */
function watched(checking: Check) {
  const last = new WeakMap<Target, number>()
  const lateness: number[] = []
  const check = {
    run(target: Target, signal: AbortSignal) {
      const now = performance.now()
      const before = last.get(target)
      last.set(target, now)
      if (before !== undefined) lateness.push(Math.max(0, now - before - INTERVAL_MS))
      return checking.run(target, signal)
    },
  }
  return { check, lateness }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** How long the event loop stood still while it was measured. */
async function stalls(): Promise<string> {
  const delay = monitorEventLoopDelay({ resolution: LOOK_MS })
  delay.enable()
  await sleep(MEASURED_MS)
  delay.disable()
  const ms = (nanoseconds: number) => `${Math.max(0, nanoseconds / 1e6 - LOOK_MS).toFixed(2)} ms`
  return `p99 ${ms(delay.percentile(99))}, p99.9 ${ms(delay.percentile(99.9))}, most ${ms(delay.max)}`
}

// What health checks cost: 5,000 backends pinged every 2 s for 20 s. Prints the share of a CPU they take and how
// long the event loop stood still, beside how long it stands still here without any checks.
//
//   npx tsc -p tsconfig.build.json && node --import @tapjs/typescript/import bench/checks.ts

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { monitorEventLoopDelay } from 'node:perf_hooks'

const BACKENDS = 5_000
const INTERVAL_MS = 2_000
const WARM_UP_MS = 4_000
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

// The backends are one listener, in a process of its own, at an address each.
const LISTENER = `
  const server = require('node:net').createServer({ pauseOnConnect: false }, (socket) => {
    socket.on('error', () => {})
    socket.resume()
  })
  server.listen({ port: 0, host: '0.0.0.0', backlog: 4096 }, () => console.log(server.address().port))`

const listener = spawn(process.execPath, ['-e', LISTENER], { stdio: ['ignore', 'pipe', 'inherit'] })
const [line] = (await once(listener.stdout, 'data')) as [Buffer]
const port = Number(line.toString())

const idle = await stalls()
let flips = 0
const gate = new Gate()
const check = createCheck(checkSettings.parse({ kind: 'ping', interval: '2s' }))
const monitor = createMonitor(
  {
    name: 'bench',
    check,
    intervalMs: INTERVAL_MS,
    timeoutMs: 1_000,
    passes: 1,
    fails: 1,
    initialStatus: undefined,
  },
  realClock,
  gate,
  () => flips++,
)
for (let id = 0; id < BACKENDS; id++) {
  const address = { host: `127.1.${id >> 8}.${id & 255}`, port }
  monitor.add(id, { address, endpoints: [address] })
}

await sleep(WARM_UP_MS)
const cpu = process.cpuUsage()
const began = performance.now()
const busy = await stalls()
const { user, system } = process.cpuUsage(cpu)
const tookMs = performance.now() - began

const stopping = performance.now()
await monitor.stop()
const stoppedMs = performance.now() - stopping
listener.kill()

const rate = BACKENDS / (INTERVAL_MS / 1000)
const share = (user + system) / 1000 / tookMs
console.log(`${BACKENDS} backends, ${rate} checks a second, ${flips} flips, ${gate.late} late`)
console.log(`CPU ${(share * 100).toFixed(1)} %, ${((share / rate) * 1e6).toFixed(0)} µs a check`)
console.log(`event loop held up: ${busy}; without checks: ${idle}`)
console.log(`stopped in ${stoppedMs.toFixed(1)} ms`)

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

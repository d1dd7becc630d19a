// A client in a process of its own: paced new connections, or idle connections held open.

import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import { start, stop } from './machine.mjs'
import { percentile } from './statistics.mjs'

const REQUEST = 'GET / HTTP/1.1\r\nHost: bench\r\n\r\n'
const ANSWER = 'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n'

/** Starts a client. `ask` has it do one job after another; a job's name is in `job`. */
export function startClient() {
  const stdio = ['ignore', 'inherit', 'inherit', 'ipc']
  const child = start(process.execPath, [fileURLToPath(import.meta.url)], { stdio })
  return {
    async ask(job) {
      child.send(job)
      const gone = once(child, 'exit').then(([code]) =>
        Promise.reject(new Error(`a client ended with ${code}`)),
      )
      const [answer] = await Promise.race([once(child, 'message'), gone])
      gone.catch(() => {})
      return answer
    },
    stop: () => stop(child),
  }
}

const jobs = { listen, fresh, hold }

if (process.send) {
  process.on('message', async ({ job, ...settings }) => process.send(await jobs[job](settings)))
  process.once('disconnect', () => process.exit())
}

/** New clients that have not been seen at the backend yet, in the order in which they came. */
const undecided = []
const decided = []

/** Becomes the only backend, so that `fresh` sees when a client has been decided about. */
async function listen({ port }) {
  const server = createServer((socket) => {
    // Every queue on the way is first in, first out.
    const beganAt = undecided.shift()
    if (beganAt !== undefined) decided.push(performance.now() - beganAt)
    socket.on('error', () => {})
    socket.resume().end(ANSWER)
  })
  await once(server.listen(port, '0.0.0.0', 4096), 'listening')
  return {}
}

/**
 * New connections, `rate` a second: time from connect until the backend, which is this process, gets its
 * connection (`decision`), and until the first byte of its answer is here (`firstByte`).
 */
async function fresh({ port, rate, seconds }) {
  const answered = []
  decided.length = undecided.length = 0
  let failed = 0
  await pace(rate, seconds, () => {
    const beganAt = performance.now()
    undecided.push(beganAt)
    const socket = connect(port, '127.0.0.1')
    socket.once('data', () => answered.push(performance.now() - beganAt))
    socket.on('error', () => failed++)
  })
  return { decision: summary(decided), firstByte: summary(answered), failed: failed + undecided.length }
}

/** Connections kept until this process ends. */
const held = []

/** Opens connections until there are so many, and has one request answered on each. */
async function hold({ port, connections }) {
  for (let left = connections - held.length; left > 0; left -= 100) {
    const some = Array.from({ length: Math.min(100, left) }, () => connect(port, '127.0.0.1'))
    for (const socket of some) socket.write(REQUEST)
    await Promise.all(some.map((socket) => once(socket, 'data')))
    held.push(...some)
  }
  return {}
}

/** Calls `send` `rate` times a second, then waits a second for answers. */
async function pace(rate, seconds, send) {
  const began = performance.now()
  let sent = 0
  await new Promise((resolve) => {
    const timer = setInterval(() => {
      const due = Math.min((performance.now() - began) / 1000, seconds) * rate
      for (; sent < due; sent++) send()
      if (sent < rate * seconds) return
      clearInterval(timer)
      resolve()
    }, 1)
  })
  await new Promise((resolve) => setTimeout(resolve, 1000))
}

function summary(times) {
  const sorted = Float64Array.from(times).sort()
  const at = (p) => percentile(sorted, p)
  return { count: sorted.length, p50: at(0.5), p99: at(0.99), p999: at(0.999), max: sorted.at(-1) }
}

// One run of wrk against one target.

import { setTimeout as sleep } from 'node:timers/promises'
import { start } from './machine.mjs'

const UNITS = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 }

/**
 * Drives a target with `connections` clients at full speed. `rate` is requests a second, `cpuUs` processor
 * time of the proxy for each in microseconds, NaN without a proxy. Bodies of `bytes` are counted by what was
 * read, since large ones are cut off at the end; `busy` is the share of a processor that the proxy used. wrk runs on
 * the processors `cpu` when given. Rejects when a request failed.
 */
export async function drive(
  target,
  { path = '/', connections = 32, close = false, seconds = 2, bytes, cpu },
) {
  const before = target.cpuMs?.()
  const header = close ? ['-H', 'Connection: close'] : []
  const url = `http://127.0.0.1:${target.port}${path}`
  const printed = await output(
    'wrk',
    ['-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', '20s', ...header, url],
    cpu,
  )
  const [, completed, took, read, unit] =
    /(\d+) requests in ([\d.]+)s, ([\d.]+)([KMGT]?)B read/.exec(printed) ?? []
  const failed = /Socket errors.*|Non-2xx.*/.exec(printed)
  if (!completed || failed)
    throw new Error(`${target.name}: expected every request answered, got ${failed ?? printed}`)
  const requests = bytes ? (read * UNITS[unit]) / bytes : completed
  // The proxy closes the last connections after wrk has gone.
  await sleep(50)
  const usedMs = target.cpuMs?.() - before
  return { rate: requests / took, cpuUs: (usedMs * 1000) / requests, busy: usedMs / took / 1000 }
}

async function output(command, args, cpu) {
  const child = start(command, args, { cpu, stdio: ['ignore', 'pipe', 'inherit'] })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (part) => (text += part))
  await new Promise((resolve) => child.once('close', resolve))
  return text
}

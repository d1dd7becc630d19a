// Questions and answers in datagrams: bench/datagrams.c asks, bench/echo.c answers.

import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePorts, start, stop } from './machine.mjs'
import { argsOf, compiled } from './programs.mjs'

/** A backend at `port` of these addresses that answers every datagram with the same, `times` over. */
export async function startEcho({ port, hosts = ['127.0.0.1'], times = 1 } = {}) {
  const where = port ?? (await freePorts())
  const args = [...argsOf({ times }), ...hosts.map((host) => `${host}:${where}`)]
  const child = start(compiled('echo.c'), args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(child, 'exit').then(() => Promise.reject(new Error('the echo has ended')))
  await Promise.race([once(child.stdout, 'data'), ended])
  ended.catch(() => {})
  return { port: where, stop: () => stop(child) }
}

/**
 * Starts bench/datagrams.c, whose head says what `options` there are. `told()` is its next line, `next()` has it go on
 * after `open`, `end()` has it tell at once, and `gone` resolves when its addresses are free again.
 */
export function ask(options) {
  const args = argsOf(options)
  const child = start(compiled('datagrams.c'), args, { stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return {
    gone: once(child, 'close'),
    async told() {
      const { value, done } = await lines.next()
      if (done) throw new Error(`datagrams ${args.join(' ')}: expected a line, got none`)
      return JSON.parse(value)
    },
    next: () => child.stdin.write('\n'),
    end: () => child.kill('SIGTERM'),
  }
}

/**
 * Has `sessions` ask a target, each of its servers as many, for `seconds`: with `window` questions unanswered, or `rate` a second. Sessions are the
 * same ones every time, and `kept` ones have had an answer before anything is counted. `rate` of the result is answers
 * a second, `cpuUs` processor time of the proxy for each in microseconds, NaN without a proxy, `lost` questions
 * without an answer for a second; times are in microseconds. With `sink` the backend is the asker itself, at that
 * port, and a question counts as answered when it is there. Rejects when an answer was wrong.
 */
export async function drive(target, { sessions, seconds = 2, window = 64, rate, sink, kept = !sink }) {
  const asking = ask({
    to: target.ports.map((port) => `127.0.0.1:${port}`),
    port: await sourcePort(),
    sink: sink && `127.0.0.1:${sink}`,
    open: kept,
    sessions,
    seconds,
    window,
    rate,
  })
  if (kept) {
    const { unopened, wrong } = await asking.told()
    if (unopened || wrong)
      throw new Error(
        `${target.name}: of ${sessions} sessions ${unopened} had no answer, ${wrong} a wrong one`,
      )
  }
  const before = target.cpuMs?.()
  if (kept) asking.next()
  const told = await asking.told()
  await asking.gone
  if (told.wrong) throw new Error(`${target.name}: ${told.wrong} of ${told.answered} answers were wrong`)
  // What was sent on its way to nowhere is done with by now, and what is left over is the same for all.
  if (sink) await sleep(50)
  const usedMs = target.cpuMs?.() - before
  return { ...told, cpuUs: (usedMs * 1000) / told.answered, busy: usedMs / told.ms }
}

let chosenPort

/** Of all questions of this process. */
async function sourcePort() {
  chosenPort ??= await freePorts()
  return chosenPort
}

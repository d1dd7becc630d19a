// A thread crashes: the process ends by the signal, and where it was is told.

import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { start } from './machine.mjs'
import { compiled } from './programs.mjs'
import { relayThreads, say, startFairlead } from './soakfairlead.mjs'
import { fourWays } from './soakstreams.mjs'

const SIGNALS = { SIGSEGV: 11, SIGBUS: 7, SIGABRT: 6, SIGFPE: 8, SIGILL: 4 }

export async function crashes({ plane }) {
  if (plane === 'portable') throw new Error('crashes are for the native plane')
  const tgkill = compiled('../native/soak/tgkill.c')
  const wrong = []
  for (const [signal, number] of Object.entries(SIGNALS)) {
    const relay = await crash(tgkill, number, (pid) => relayThreads(pid)[0])
    const main = await crash(tgkill, number, (pid) => pid)
    const usual = await plainNode(number)
    say(
      `${signal}: a relay thread: ${relay.ended}, ${frames(relay)} frames; main: ${main.ended}; node: ${usual}`,
    )
    if (relay.ended !== signal) wrong.push(`${signal} on a relay thread: ended with ${relay.ended}`)
    if (!/the native plane crashed/.test(relay.wrote) || frames(relay) < 3)
      wrong.push(`${signal} on a relay thread: wrote ${JSON.stringify(relay.wrote)}`)
    if (main.ended !== usual)
      wrong.push(`${signal} on the main thread: ended with ${main.ended}, node with ${usual}`)
    if (/native plane/.test(main.wrote)) wrong.push(`${signal} on the main thread: wrote ${main.wrote}`)
  }
  return wrong
}

async function crash(tgkill, number, threadOf) {
  const { api, servers } = await fourWays()
  const fairlead = await startFairlead({ plane: 'native', api, servers, level: 'fatal' })
  const thread = threadOf(fairlead.pid)
  spawnSync(tgkill, [fairlead.pid, thread, number].map(String), { stdio: 'inherit' })
  return { ended: await fairlead.ended, wrote: fairlead.output() }
}

function frames({ wrote }) {
  return wrote.split('\n').filter((line) => /\[0x[0-9a-f]+\]/.test(line)).length
}

async function plainNode(number) {
  const program = 'console.log("up"); setInterval(() => {}, 1000)'
  const child = start(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'ignore'] })
  await once(child.stdout, 'data')
  process.kill(child.pid, number)
  const [status, signal] = await once(child, 'close')
  return status ?? signal
}

// System calls of the relay threads fail under load. After each the process must live, take clients again at once, have
// lost no descriptor, use no processor while it is idle, and have passed on nothing but what was sent.

import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { start } from './machine.mjs'
import { folder } from './programs.mjs'
import { drive, endFairlead, insideOf, relayThreads } from './soakfairlead.mjs'
import { say, startFairlead } from './soakfairlead.mjs'
import { fourWays } from './soakstreams.mjs'

const LOAD_MS = 400
const FAULT_MS = 1_200
/** How soon clients must be served after the last fault. */
const AGAIN_MS = 1_000
/** Until kept pipes are closed. */
const IDLE_MS = 1_500
/** How long flows that were left over may take to go. */
const SETTLE_MS = 8_000
/** Of processor in a second of idleness. */
const SPIN_MS = 100
const STUCK_MS = 5_000

const ERRORS = ['EMFILE', 'ENFILE', 'ENOMEM', 'ECONNABORTED', 'EAGAIN']
const CALLS = ['accept4', 'connect', 'socket', 'pipe2', 'splice', 'epoll_ctl']

/** Pipes are kept, so few are made. */
const OFTEN = { pipe2: '1+2' }

/** Every third call of each kind, every one where a storm is meant, and what ends a thread's loop once. */
const CASES = [
  ...CALLS.flatMap((call) =>
    ERRORS.map((error) => ({ inject: [`${call}:error=${error}:when=${OFTEN[call] ?? '3+3'}`] })),
  ),
  ...['EMFILE', 'ENOMEM', 'EAGAIN'].map((error) => ({ inject: [`accept4:error=${error}`] })),
  { inject: ['pipe2:error=EMFILE'] },
  { inject: ['splice:error=EINVAL'] },
  { inject: ['accept4,recvfrom,sendto,splice,epoll_wait:error=EINTR:when=2+2'] },
  { inject: ['setsockopt:error=ENOMEM:when=3+3'] },
  { inject: ['epoll_wait:error=EBADF:when=20'], failsThread: true },
  { inject: ['epoll_wait:error=EINVAL:when=20'], failsThread: true },
  {
    inject: ['epoll_wait:error=EBADF:when=20', 'epoll_create1:error=EMFILE:when=1'],
    failsThread: true,
  },
  { inject: ['epoll_wait:error=EBADF:when=1+200', 'epoll_ctl:error=ENOMEM:when=2+5'], failsThread: true },
]

export async function faults({ plane, only }) {
  if (plane === 'portable') throw new Error('faults are for the native plane')
  // No kernel says EAGAIN of a socket that takes more, and then is silent: such a flow stands still until it is idle.
  const { api, names, servers, ends } = await fourWays({
    client_idle_timeout: '3s',
    half_close_timeout: '3s',
  })
  const fairlead = await startFairlead({ plane: 'native', api, servers, level: 'info' })
  let alive = true
  fairlead.ended.then(() => (alive = false))
  await drive({ ...ends, short: true, flows: 1000 }).done
  await sleep(IDLE_MS)
  const before = { descriptors: fairlead.descriptors(), names, api }
  const wrong = []
  say('fault | injected | flows | refused or broken | cut | again after | descriptors | idle')
  for (const each of CASES) {
    const name = each.inject.join(' and ')
    if (!name.includes(only)) continue
    const faults = await tryOne({ ends, fairlead, before }, each, name)
    wrong.push(...faults.map((fault) => `${name}: ${fault}`))
    if (!alive)
      return [...wrong, `fairlead ended with ${await fairlead.ended}: ${fairlead.output().slice(-2000)}`]
  }
  return [...wrong, ...(await endFairlead(fairlead))]
}

async function tryOne({ ends, fairlead, before }, { inject, failsThread }, name) {
  const { pid } = fairlead
  const written = fairlead.output().length
  const load = drive({ ...ends, lenient: true, 'stuck-ms': STUCK_MS, seed: name.length })
  if (!name.startsWith('pipe2')) await sleep(LOAD_MS)
  const log = `${folder}/strace`
  const calls = inject.map((each) => each.split(':')[0]).join()
  const threads = relayThreads(pid).flatMap((thread) => ['-p', thread])
  const injected = inject.flatMap((each) => ['-e', `inject=${each}`])
  const strace = start('strace', ['-q', '-o', log, '-e', `trace=${calls}`, ...injected, ...threads], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const gone = new Promise((resolve) => strace.once('exit', resolve))
  await sleep(FAULT_MS)
  strace.kill('SIGINT')
  await gone
  load.child.kill('SIGTERM')
  const told = await load.done
  const count = readFileSync(log, 'utf8').split('(INJECTED)').length - 1

  const began = performance.now()
  const again = await drive({
    ...ends,
    short: true,
    flows: 40,
    concurrency: 8,
    'stuck-ms': STUCK_MS,
  }).done
  const againMs = performance.now() - began
  const left = await settled(fairlead, before)
  const descriptors = fairlead.descriptors()
  const spinMs = await processorOf(pid)
  say(
    [
      name,
      count,
      told.flows,
      told.broken + told.unreached,
      told.cut,
      `${againMs.toFixed(0)} ms`,
      descriptors,
      `${spinMs} ms/s`,
    ].join(' | '),
  )
  const loop = fairlead.output().slice(written).includes('it has ended its flows and goes on')
  return [
    ...(count === 0 ? ['nothing was injected'] : []),
    ...[...told.lines, ...again.lines],
    ...(told.cut > 0 && !name.startsWith('splice:error=EAGAIN')
      ? [`${told.cut} streams were cut short by an end`]
      : []),
    ...(againMs > AGAIN_MS ? [`clients were served after ${againMs.toFixed(0)} ms`] : []),
    ...left,
    ...(spinMs > SPIN_MS ? [`${spinMs} ms of processor in an idle second`] : []),
    ...(failsThread && !loop ? ['the failed thread was not logged'] : []),
  ]
}

/** Waits until nothing is left of the flows. Resolves with what is, after SETTLE_MS at most. */
async function settled(fairlead, { descriptors, api, names }) {
  for (const end = performance.now() + SETTLE_MS; ; await sleep(200)) {
    const now = fairlead.descriptors()
    const more = now > descriptors ? [`descriptors: expected ${descriptors}, got ${now}`] : []
    const left = [...more, ...(await insideOf(api, names))]
    if (left.length === 0 || performance.now() > end) return left
  }
}

/** Processor time of a process in a second, in ms. */
async function processorOf(pid) {
  const ticks = () => {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1).split(' ')
    return Number(fields[11]) + Number(fields[12])
  }
  const before = ticks()
  await sleep(1_000)
  return (ticks() - before) * 10
}

// Backends come and go every 100 ms while they are asked: they leave the list, or die and come back. Every client goes on
// being answered by another; how many questions were lost on the way is told.

import { renameSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { startEcho } from './datagrams.mjs'
import { folder } from './programs.mjs'
import { datagramServer } from './proxies.mjs'
import { endingsOf, ports, say, startFairlead } from './soakfairlead.mjs'
import { emptied, figures } from './soakfigures.mjs'
import { startReal } from './soakreal.mjs'

const EVERY_MS = 100
const SECONDS = 20
/** What is under way to a backend that goes is lost, and so is what finds that it has gone; this is more. */
const LOST = 0.1
/** Of a session: new ones meet the backends that have come back. */
const REQUESTS = 5
const HOSTS = ['127.0.0.1', '127.0.0.2', '127.0.0.3', '127.0.0.4']

export async function backends({ plane, seconds = SECONDS }) {
  const [front, port, api] = await ports(3)
  const file = `${folder}/backends`
  const list = (hosts) => {
    writeFileSync(`${file}.new`, hosts.map((host) => `${host}:${port}\n`).join(''))
    renameSync(`${file}.new`, file)
  }
  list(HOSTS)
  // The first two never die, and one of them is always listed.
  const steady = await startEcho({ port, hosts: HOSTS.slice(0, 2) })
  const mortal = HOSTS.slice(2)
  const living = await Promise.all(mortal.map((host) => startEcho({ port, hosts: [host] })))
  const servers = {
    asked: {
      ...datagramServer({ idle: '3s', requests: REQUESTS }),
      bind: `127.0.0.1:${front}`,
      balance: 'roundrobin',
      discovery: { kind: 'file', file_path: file, interval: '50ms', failpolicy: 'keeplast' },
    },
  }
  const fairlead = await startFairlead({ plane, api, servers, probed: true })
  const begun = await figures(fairlead)
  const wrong = []
  for (const [what, change] of Object.entries({ listed: leave, alive: die })) {
    const real = await startReal(`127.0.0.1:${front}`, LOST)
    const end = performance.now() + seconds * 1000
    let changes = 0
    for (; performance.now() < end; await sleep(EVERY_MS)) await change(changes++)
    const { moved } = await endingsOf(api, 'asked')
    say(`not ${what}: ${changes} changes; ${moved} sessions have been moved so far`)
    if (what === 'listed' && !moved) wrong.push('no session has been moved')
    wrong.push(...(await real.judged()))
    list(HOSTS)
  }
  wrong.push(...(await emptied(fairlead, api, ['asked'], begun)))
  for (const each of [steady, ...living]) await each.stop()
  return wrong

  /** Two of the four are listed, another two each time. */
  async function leave(count) {
    list(HOSTS.filter((_, i) => (count + i) % HOSTS.length < 2))
  }

  /** One of the mortal dies, then it comes back; the next time it is the other one. */
  async function die(count) {
    const which = (count >> 1) % mortal.length
    if (count % 2 === 0) await living[which].stop()
    else living[which] = await startEcho({ port, hosts: [mortal[which]] })
  }
}

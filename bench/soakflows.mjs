// Flows of every sort; afterwards descriptors, timers, handles and memory must be back where they were after the first
// tenth.

import { drive, endFairlead, insideOf, ports, say } from './soakfairlead.mjs'
import { server, startFairlead, tolerated } from './soakfairlead.mjs'
import { leftOver } from './soakfigures.mjs'

const CONCURRENCY = 128

export async function flows({ plane, flows }) {
  const [backend, dead, web, refused, idle, api] = await ports(6)
  const fairlead = await startFairlead({
    plane,
    api,
    servers: servers({ backend, dead, web, refused, idle }),
    probed: true,
  })
  // Several addresses, so that ports in TIME_WAIT do not run out.
  const everywhere = (port) => Array.from({ length: 8 }, (_, i) => `127.0.0.${i + 1}:${port}`)
  const soak = async (count, seed) => {
    const { done } = drive({
      to: everywhere(web),
      refused: everywhere(refused),
      idle: everywhere(idle),
      backend: `0.0.0.0:${backend}`,
      ...tolerated(plane),
      short: true,
      concurrency: CONCURRENCY,
      flows: count,
      seed,
    })
    const told = await done
    for (const line of told.lines) say(line)
    say(`${told.flows} flows in ${(told.ms / 1000).toFixed(1)} s; ${JSON.stringify(told.plans)}`)
    return told.faults > 0 ? [`${told.faults} flows did not go as they should`] : []
  }

  const wrong = await leftOver(fairlead, flows, soak)
  const inside = await insideOf(api, ['web', 'refused', 'idle'])
  return [...wrong, ...inside, ...(await endFairlead(fairlead))]
}

/** Two of `web`'s backends, fewer than are tried for one client, and all of `refused`'s take no connections. */
function servers({ backend, dead, web, refused, idle }) {
  const live = [1, 2, 3, 4].map((n) => `127.0.0.${n}:${backend}`)
  const gone = [1, 2].map((n) => `127.0.0.${n}:${dead}`)
  return {
    web: server(`0.0.0.0:${web}`, [...live, ...gone]),
    refused: server(`0.0.0.0:${refused}`, gone),
    idle: server(`0.0.0.0:${idle}`, live, { client_idle_timeout: '200ms' }),
  }
}

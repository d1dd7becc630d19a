// Every byte of long streams, over IPv4 and unix sockets on either side, compared with what was sent.

import { setTimeout as sleep } from 'node:timers/promises'
import { folder } from './programs.mjs'
import { drive, endFairlead, insideOf, ports } from './soakfairlead.mjs'
import { say, server, startFairlead, tolerated } from './soakfairlead.mjs'

const CONCURRENCY = 64

/** Four servers, one for each pair of kinds of sockets, and what their clients and backends are told. */
export async function fourWays(more) {
  const [plain, through, backend, other, api] = await ports(5)
  const fronts = [`127.0.0.1:${plain}`, `127.0.0.1:${through}`, `unix:${folder}/f1`, `unix:${folder}/f2`]
  const backs = [`127.0.0.1:${backend}`, `unix:${folder}/b1`, `127.0.0.1:${other}`, `unix:${folder}/b2`]
  const names = ['tcp-tcp', 'tcp-unix', 'unix-tcp', 'unix-unix']
  const servers = Object.fromEntries(names.map((name, i) => [name, server(fronts[i], [backs[i]], more)]))
  return { api, names, servers, ends: { to: fronts, backend: backs, concurrency: CONCURRENCY } }
}

export async function streams({ plane, gigabytes }) {
  const { api, names, servers, ends } = await fourWays()
  const fairlead = await startFairlead({ plane, api, servers })
  await drive({ ...ends, ...tolerated(plane), short: true, flows: 1000 }).done
  await sleep(1_500)
  const before = fairlead.descriptors()
  const seed = Date.now() % 1e6
  const told = await drive({ ...ends, ...tolerated(plane), gigabytes, seed }).done
  for (const line of told.lines) say(line)
  const right = told.up + told.down
  say(
    `seed ${seed}: ${told.flows} flows, ${(told.up / 1e9).toFixed(2)} GB up, ${(told.down / 1e9).toFixed(2)} GB down, ` +
      `${told.pauses} pauses, ${(told.ms / 1000).toFixed(0)} s (${(right / 1e6 / (told.ms / 1000)).toFixed(0)} MB/s)`,
  )
  say(JSON.stringify(told.plans))
  await sleep(1_500)
  const after = fairlead.descriptors()
  return [
    ...(told.faults > 0 ? [`${told.faults} streams did not go as they should`] : []),
    ...(after > before ? [`descriptors: expected ${before}, got ${after}`] : []),
    ...(await insideOf(api, names)),
    ...(await endFairlead(fairlead)),
  ]
}

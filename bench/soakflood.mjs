// Clients that nobody has invited, and a backend that says a thousand times what it is asked: memory stays within
// bounds, and those who really ask are answered.

import { setTimeout as sleep } from 'node:timers/promises'
import { ask, startEcho } from './datagrams.mjs'
import { residentKiB } from './machine.mjs'
import { datagramServer } from './proxies.mjs'
import { ports, say, server, startFairlead } from './soakfairlead.mjs'
import { MIB, emptied, figures, show } from './soakfigures.mjs'
import { startReal } from './soakreal.mjs'

const SOURCES = { native: 1_000_000, portable: 200_000 }
/** New clients a second: about half of what a plane can elect for. */
const FLOOD_RATE = { native: 30_000, portable: 5_000 }
const MAX_SESSIONS = 4_096
const IDLE = '3s'

const TIMES = 1_000
const LOUD_CLIENTS = 50
const LOUD_RATE = { native: 100, portable: 20 }
const LOUD_SECONDS = 20

/** By how much resident memory may grow while it lasts. */
const GROWTH = { native: 32 * MIB, portable: 96 * MIB }

/** Each datagram of the flood is of another client. */
export async function flood({ plane, sources = SOURCES[plane] }) {
  const echo = await startEcho()
  const [front, api] = await ports(2)
  const to = `127.0.0.1:${front}`
  const asked = server(
    to,
    [`127.0.0.1:${echo.port}`],
    datagramServer({ idle: IDLE, maxSessions: MAX_SESSIONS }),
  )
  const fairlead = await startFairlead({ plane, api, servers: { asked }, probed: true })
  const begun = await figures(fairlead)
  const come = (first, sessions) =>
    ask({ to, flood: true, first, sessions, questions: sessions, rate: FLOOD_RATE[plane] }).told()
  const wave = Math.ceil(sources / 10)
  const real = await startReal(to)
  await come(0, wave)
  const { told, most, grown } = await during(fairlead, () => come(wave, sources - wave))
  say(`${told.asked} clients came once in ${(told.ms / 1000).toFixed(1)} s, descriptors: ${most} at most`)
  const wrong = await real.judged()
  if (most > MAX_SESSIONS + 500)
    wrong.push(`descriptors: expected about ${MAX_SESSIONS} at most, got ${most}`)
  return [...wrong, ...excess(plane, grown), ...(await emptied(fairlead, api, ['asked'], begun))]
}

/** The backend of one server answers a thousandfold while another server is asked as well. */
export async function loud({ plane }) {
  const [echo, shouting] = [await startEcho(), await startEcho({ times: TIMES })]
  const [front, behind, api] = await ports(3)
  const settings = datagramServer({ idle: IDLE, maxSessions: MAX_SESSIONS })
  const to = `127.0.0.1:${front}`
  const servers = {
    asked: server(to, [`127.0.0.1:${echo.port}`], settings),
    loud: server(`127.0.0.1:${behind}`, [`127.0.0.1:${shouting.port}`], settings),
  }
  const fairlead = await startFairlead({ plane, api, servers, probed: true })
  const begun = await figures(fairlead)
  const shout = (seconds) =>
    ask({ to: `127.0.0.1:${behind}`, sessions: LOUD_CLIENTS, rate: LOUD_RATE[plane], seconds }).told()
  const real = await startReal(to)
  await shout(2)
  const { told, grown } = await during(fairlead, () => shout(LOUD_SECONDS))
  const heard = told.answered + told.again + told.late
  say(`${told.asked} questions had ${heard} answers of ${told.asked * TIMES}, ${told.lost} had none`)
  const wrong = await real.judged()
  if (told.wrong > 0) wrong.push(`${told.wrong} loud answers were wrong`)
  return [...wrong, ...excess(plane, grown), ...(await emptied(fairlead, api, ['asked', 'loud'], begun))]
}

/** What `work` gives, the most descriptors meanwhile, and by how many bytes resident memory has grown at most. */
async function during(fairlead, work) {
  show('under load', await figures(fairlead))
  let over = false
  const working = work().finally(() => (over = true))
  // Not by `figures`: while garbage is collected nobody is answered.
  const before = residentKiB(fairlead.pid)
  let [most, resident] = [0, before]
  for (; !over; await sleep(500)) {
    most = Math.max(most, fairlead.descriptors())
    resident = Math.max(resident, residentKiB(fairlead.pid))
  }
  const grown = (resident - before) * 1024
  say(`resident memory: ${(grown / MIB).toFixed(1)} MiB more at most than when it was under load already`)
  return { told: await working, most, grown }
}

function excess(plane, grown) {
  const most = GROWTH[plane]
  return grown > most
    ? [`resident memory: expected ${most / MIB} MiB more at most, got ${(grown / MIB).toFixed(1)}`]
    : []
}

// The plane that is always there: TCP and unix sockets over node:net, datagrams over node:dgram.

import { realClock } from '../../core/clock.ts'
import type { Clock } from '../../core/clock.ts'
import type { Desk, Listening, ListenSpec, Plane } from '../plane.ts'
import { Deadlines } from './deadlines.ts'
import { PortableListening } from './listening.ts'
import { PortableSessions } from './sessions.ts'

/** A plane over node:net and node:dgram. All its listeners share one timer of `clock`. */
export function portablePlane(clock: Clock = realClock): Plane {
  const deadlines = new Deadlines(clock)
  return { name: 'portable', listen: (spec, desk) => listen(spec, desk, deadlines) }
}

async function listen(spec: ListenSpec, desk: Desk, deadlines: Deadlines): Promise<Listening> {
  const { datagrams } = spec
  const listening = datagrams
    ? new PortableSessions(spec, datagrams, desk, deadlines)
    : new PortableListening(spec, desk, deadlines)
  try {
    for (const bind of spec.binds) await listening.open(bind)
  } catch (error) {
    await listening.abandon()
    throw error
  }
  // Whoever called shall have what is returned before the first client is asked about.
  setImmediate(() => listening.welcome())
  return listening
}

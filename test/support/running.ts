// A manager with a real plane, in this process, gone again when the test is.

import type { Test } from 'tap'
import { readDocument } from '../../src/config/read.ts'
import { realClock } from '../../src/core/clock.ts'
import { configureLogging } from '../../src/core/log.ts'
import { Sources } from '../../src/discovery/sources.ts'
import { Names } from '../../src/dns/names.ts'
import { Gate } from '../../src/health/gate.ts'
import { Manager } from '../../src/manager/manager.ts'
import type { Plane } from '../../src/plane/plane.ts'
import { portablePlane } from '../../src/plane/portable/plane.ts'
import type { ServerContext } from '../../src/server/server.ts'
import { SessionBudget } from '../../src/server/sessionbudget.ts'

/** What only a test would know better: its own plane, clock or access log. */
export type Overrides = Partial<ServerContext> & { readonly plane?: Plane }

/** Starts every server of `document`, written as a config file would have it. Ends them all with the test. */
export async function running(
  t: Test,
  document: object = {},
  { plane = portablePlane(), ...overrides }: Overrides = {},
): Promise<Manager> {
  configureLogging({ level: 'panic', output: 'stderr', format: 'text' })
  const { config } = readDocument(document, 'the test')
  const clock = overrides.clock ?? realClock
  const manager = new Manager(config, {
    planes: { usual: plane.name, of: () => plane },
    names: new Names(clock),
    sources: new Sources(clock),
    gate: new Gate(config.healthcheck_concurrency),
    sessions: new SessionBudget(),
    clock,
    accessLog: undefined,
    ...overrides,
  })
  await manager.initialize()
  t.teardown(() => manager.stop(0, 'killed'))
  return manager
}

/** The port the only listener of a server got. */
export function portOf(manager: Manager, name: string): number {
  return Number(manager.servers.get(name)!.addresses[0]!.split(':').at(-1))
}

// What a configuration asks for and this release or machine does not have.

import type { Config } from '../config/read.ts'
import { realClock } from '../core/clock.ts'
import { UnsupportedError } from '../core/errors.ts'
import { choosePlanes, requireNative } from '../plane/choose.ts'
import { buildSockets, refuseUnsupported } from '../server/build.ts'

/** Sections that are read and validated, and do nothing yet. */
export function idleSections({ profiler, acme }: Config): string[] {
  const idle = [profiler?.enabled && 'profiler', acme && 'acme'].filter(Boolean)
  return idle.map((section) => `${section}: has no effect, it is not in this release`)
}

/** What would keep servers from starting although their settings are right. */
export function unsupportedServers({ servers, plane: usual, plane_threads }: Config): string[] {
  return [...servers].flatMap(([name, { settings }]) => {
    try {
      refuseUnsupported(name, settings)
      const plane = settings.plane ?? usual
      if (plane === 'native') requireNative(name)
      buildSockets(name, settings, choosePlanes({ plane, plane_threads }, realClock).usual)
      return []
    } catch (error) {
      if (!(error instanceof UnsupportedError)) throw error
      return [error.message]
    }
  })
}

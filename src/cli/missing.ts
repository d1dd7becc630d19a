// What a configuration asks for and this release or machine does not have.

import type { Config } from '../config/read.ts'
import { UnsupportedError } from '../core/errors.ts'
import { requireNative } from '../plane/choose.ts'
import { refuseUnsupported } from '../server/build.ts'

/** Sections that are read and validated, and do nothing yet. */
export function idleSections({ profiler, acme }: Config): string[] {
  const idle = [profiler?.enabled && 'profiler', acme && 'acme'].filter(Boolean)
  return idle.map((section) => `${section}: has no effect, it is not in this release`)
}

/** What would keep servers from starting although their settings are right. */
export function unsupportedServers({ servers, plane }: Config): string[] {
  return [...servers].flatMap(([name, { settings }]) => {
    try {
      refuseUnsupported(name, settings)
      if ((settings.plane ?? plane) === 'native') requireNative(name)
      return []
    } catch (error) {
      if (!(error instanceof UnsupportedError)) throw error
      return [error.message]
    }
  })
}

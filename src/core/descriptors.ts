// How many descriptors the process may open, and when to stop taking clients.

import { readFileSync } from 'node:fs'

/** Kept for what must go on when clients fill the table: the API, checks, discovery, log files. */
const RESERVE = 128

/** Most descriptors this process may hold at once (`ulimit -n`); Infinity where the system does not say. */
export function descriptorLimit(): number {
  try {
    const line = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))
    return line ? Number(line[1]) : Infinity
  } catch {
    return Infinity // No /proc: not Linux.
  }
}

/**
 * A client whose accepted descriptor has this number or a higher one is refused. The kernel gives the lowest
 * free number (POSIX, File Descriptor Allocation), so number N says that N descriptors below it are in use.
 */
export function descriptorCeiling(limit = descriptorLimit()): number {
  return limit - reserve(limit)
}

/** The same for callers of the API and of metrics: they still come in when clients no longer do. */
export function callerCeiling(limit = descriptorLimit()): number {
  return limit - reserve(limit) / 2
}

function reserve(limit: number): number {
  return Math.min(RESERVE, Math.ceil(limit / 4))
}

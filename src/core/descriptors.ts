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
 * An accepted descriptor of this number or above means the table is all but full. The kernel gives the lowest
 * free number (POSIX, File Descriptor Allocation), so number N says that N descriptors below it are in use.
 */
export function descriptorCeiling(limit = descriptorLimit()): number {
  return limit - Math.min(RESERVE, Math.ceil(limit / 4))
}

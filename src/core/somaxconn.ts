// The longest accept queue the kernel grants.

import { readFileSync } from 'node:fs'

/** `net.core.somaxconn`, or 511 where the system does not say. */
export function somaxconn(): number {
  try {
    return Number(readFileSync('/proc/sys/net/core/somaxconn', 'utf8'))
  } catch {
    return 511 // No /proc: not Linux. Node's own default.
  }
}

// Small shell scripts for programs under test to run.

import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Writes an executable script below `dir` and returns its path; the body may say `$dir`. */
export function script(dir: string, name: string, body: string): string {
  const path = join(dir, name)
  writeFileSync(path, `#!/bin/sh\ndir=${dir}\n${body}\n`)
  chmodSync(path, 0o755)
  return path
}

/** True when the process that wrote its id to `path` has ended; false while it runs or has not written it. */
export function hasEnded(path: string): boolean {
  const pid = existsSync(path) ? Number(readFileSync(path, 'utf8')) : 0
  if (!pid) return false
  try {
    process.kill(pid, 0)
    // A process nobody has waited for yet is there, but over.
    return readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')
  } catch {
    return true
  }
}

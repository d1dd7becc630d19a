// A place for a test's files.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

/** A folder that is gone after the test. */
export function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'fairlead-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

// Discoveries whose settings are known and whose work comes in a later release.

import { UnsupportedError } from '../core/errors.ts'
import type { Discovery } from './discovery.ts'

/** A factory that throws `UnsupportedError`; `missing` completes "… is not in this release". */
export function unsupported(kind: string, missing: string): () => Discovery {
  return () => {
    throw new UnsupportedError(
      `discovery kind "${kind}" cannot be used yet: ${missing} is not in this release`,
    )
  }
}

// A file written whole: whoever reads it meanwhile finds the old text or the new one.

import { renameSync, writeFileSync } from 'node:fs'

/** Puts `text` at `path` in one step, as writers of lists should. */
export function place(path: string, text: string): void {
  writeFileSync(`${path}.new`, text)
  renameSync(`${path}.new`, path)
}

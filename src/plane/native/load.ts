// The addon of the native plane: the one that was built here, else the one that came along, else why there is none.

import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { oneLine } from '../../core/errors.ts'
import type { Addon } from './addon.ts'

/** Of the addon this program can use; it grows with every change of what the addon exports. */
export const ADDON_VERSION = 3

/** Why there is no addon, as a sentence goes on, and what an operator could do. */
export interface Lack {
  readonly why: string
  readonly remedy?: string
}

/** The addon and its file, seen from the folder of the package. */
export type Loaded = { readonly addon: Addon; readonly from: string } | Lack

/** Where to look, and for what. */
export interface Place {
  /** The folder of the package. */
  readonly root: string
  readonly platform: string
  /** As binaries that come along are named: `x64-glibc`. */
  readonly system: string
}

const BUILT = 'native/build/fairlead.node'
/** A build that failed leaves its reason here. */
const REASON = 'native/build/why'
const REBUILD = 'run "npm rebuild"'

const require = createRequire(import.meta.url)

/** Loads the addon into this process; the same one whoever asks again. Never throws. */
export function loadAddon({ root, platform, system }: Place = here()): Loaded {
  if (platform !== 'linux') return { why: `this is ${platform}, and it is for Linux` }
  let first: Loaded | undefined
  for (const from of [BUILT, `prebuilds/linux-${system}.node`]) {
    if (!existsSync(join(root, from))) continue
    const loaded = loadFrom(root, from)
    if ('addon' in loaded) return loaded
    first ??= loaded
  }
  return first ?? notBuilt(root)
}

function loadFrom(root: string, from: string): Loaded {
  try {
    const addon = require(join(root, from)) as Addon
    if (addon.version === ADDON_VERSION) return { addon, from }
    return { why: 'it is of another version', remedy: REBUILD }
  } catch (error) {
    return { why: `it does not load: ${oneLine(error)}`, remedy: REBUILD }
  }
}

function notBuilt(root: string): Loaded {
  const path = join(root, REASON)
  const why = existsSync(path) ? `it was not built: ${readFileSync(path, 'utf8').trim()}` : 'it was not built'
  return { why, remedy: `install a C compiler and ${REBUILD}` }
}

function here(): Place {
  const root = fileURLToPath(new URL('../../../', import.meta.url))
  return { root, platform: process.platform, system: `${process.arch}-${isMusl() ? 'musl' : 'glibc'}` }
}

/** What this process runs on, whatever else is installed: its own loader is mapped into it. */
function isMusl(): boolean {
  try {
    return /\/ld-musl-[^/\n]*$/m.test(readFileSync('/proc/self/maps', 'utf8'))
  } catch {
    return false // No /proc: not Linux.
  }
}

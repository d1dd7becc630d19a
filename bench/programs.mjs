// The files of this run, and the programs in C that drive and answer.

import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'

/** For programs, configurations, sockets and logs; gone with the process. */
export const folder = mkdtempSync(`${tmpdir()}/fairlead-bench-`)
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

const FLAGS = ['-O2', '-std=gnu11', '-D_GNU_SOURCE', '-pthread']
const compilations = new Map()

/** Compiles a file, named as seen from this folder, once. Returns the path of the program. */
export function compiled(source) {
  if (!compilations.has(source)) {
    const program = `${folder}/${basename(source, '.c')}`
    execFileSync('cc', [...FLAGS, '-o', program, fileURLToPath(new URL(source, import.meta.url)), '-lm'])
    compilations.set(source, program)
  }
  return compilations.get(source)
}

/** Options as programs take them: `--name value`, several times for a list, `--name` for true, none without a value. */
export function argsOf(options) {
  const one = (name, value) => (value === true ? [`--${name}`] : [`--${name}`, String(value)])
  return Object.entries(options)
    .filter(([, value]) => value !== undefined && value !== false)
    .flatMap(([name, value]) => [value].flat().flatMap((each) => one(name, each)))
}

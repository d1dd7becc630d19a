// `fairlead info`: what somebody who looks into a problem asks first.

import { availableParallelism, release } from 'node:os'
import { descriptorCeiling, descriptorLimit } from '../core/descriptors.ts'
import { somaxconn } from '../core/somaxconn.ts'
import { nativeText, threadsOf } from '../plane/choose.ts'
import { loadAddon } from '../plane/native/load.ts'
import { version } from './version.ts'

/** This program, the machine, and the plane that `plane = "auto"` gives here with the reason, a line each. */
export function infoText(): string {
  const rows = {
    version,
    node: process.versions.node,
    platform: `${process.platform} ${release()}, ${process.arch}${libcText()}`,
    cores: String(availableParallelism()),
    plane: planeText(),
    descriptors: `${descriptorLimit()}, of which clients get ${descriptorCeiling()}`,
    'accept queue': String(somaxconn()),
  }
  const width = Math.max(...Object.keys(rows).map((name) => name.length))
  return Object.entries(rows)
    .map(([name, value]) => `${name.padEnd(width)}  ${value}\n`)
    .join('')
}

function planeText(): string {
  const loaded = loadAddon()
  if ('addon' in loaded) return `native: ${nativeText(threadsOf(0), loaded.from)}`
  const { why, remedy } = loaded
  return `portable: the native one cannot be used: ${why}${remedy ? `; ${remedy}` : ''}`
}

function libcText(): string {
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } }
  return header.glibcVersionRuntime ? `, glibc ${header.glibcVersionRuntime}` : ''
}

// The hosts file: names this machine knows without asking anybody.

import { readFile, stat } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'
import type { Clock } from '../core/clock.ts'
import { inSlices } from '../core/slices.ts'

/** The file is looked at again after this long. */
const LOOK_MS = 5_000

const PATH =
  process.platform === 'win32'
    ? join(process.env.SystemRoot ?? 'C:\\Windows', 'System32\\drivers\\etc\\hosts')
    : '/etc/hosts'

/** A hosts file, read when it is needed and again when it has changed. */
export class Hosts {
  readonly #clock: Pick<Clock, 'now'>
  readonly #path: string
  #names: Promise<ReadonlyMap<string, readonly string[]>> = Promise.resolve(new Map())
  #version = ''
  #lookAt = -Infinity

  constructor(clock: Pick<Clock, 'now'>, path = PATH) {
    this.#clock = clock
    this.#path = path
  }

  /** The addresses the file has for a lower-case name; undefined when it has none, or there is no such file. */
  async find(host: string): Promise<readonly string[] | undefined> {
    if (this.#clock.now() >= this.#lookAt) {
      this.#lookAt = this.#clock.now() + LOOK_MS
      this.#names = this.#look(this.#names)
    }
    const names = await this.#names
    return names.get(host)
  }

  async #look(before: Promise<ReadonlyMap<string, readonly string[]>>) {
    try {
      const { mtimeMs, size, ino } = await stat(this.#path)
      const version = `${mtimeMs} ${size} ${ino}`
      if (version === this.#version) return before
      const names = await parseHosts(await readFile(this.#path, 'utf8'))
      this.#version = version
      return names
    } catch {
      // No such file, or not readable now: what was known stays.
      return before
    }
  }
}

/** Reads `address name…` lines; `#` begins a comment. Names are in lower case, addresses in the file's order. */
export async function parseHosts(text: string): Promise<ReadonlyMap<string, readonly string[]>> {
  const names = new Map<string, string[]>()
  await inSlices(text.split('\n'), (line) => {
    const [address = '', ...hosts] = line.replace(/#.*/, '').trim().split(/\s+/)
    if (!isIP(address)) return
    for (const host of hosts.map((each) => each.toLowerCase())) {
      const addresses = names.get(host)
      if (!addresses) names.set(host, [address])
      else if (!addresses.includes(address)) addresses.push(address)
    }
  })
  return names
}

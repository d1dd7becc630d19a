// Backend lines: "host:port weight=1 priority=1 max_connections=0 sni=name drain=false", read into what they describe.

import { addressText, parseBackendAddress, pathFault } from '../../core/address.ts'
import { found } from '../../core/backend.ts'
import type { Found } from '../../core/backend.ts'
import { inSlices } from '../../core/slices.ts'
import type { Answer } from '../discovery.ts'
import { linesOf, LONGEST_LINE } from './lines.ts'
import { optionOf, OPTION_NAMES, quote, readOption } from './options.ts'
import { Rejects } from './rejects.ts'

const OPTIONS = OPTION_NAMES.map((name) => `${name}=`).join(', ')

/**
 * Reads one backend line: an address, then options in any order with blanks between them. Says what was
 * expected and what was got instead when it is not one.
 */
export function readLine(line: string): Found | { readonly wrong: string } {
  const [address, ...options] = line.trim().split(/\s+/)
  const where = parseBackendAddress(address!)
  if (!where) return wrong('host:port, host:* or unix:/path', address!)
  const fault = pathFault(where)
  if (fault) return wrong(fault, address!)
  const settings: Record<string, unknown> = {}
  for (const text of options) {
    const [name, value] = cut(text)
    const option = optionOf(name)
    if (!option || value === undefined) return wrong(`one of ${OPTIONS}`, text)
    if (option in settings) return wrong(`${name} once`, text)
    const read = readOption(option, value)
    if (typeof read === 'object') return wrong(`${name}= with ${read.expected}`, text)
    settings[option] = read
  }
  return found(where, settings)
}

/** The line that reads as this backend. */
export function lineOf({ address, weight, priority, maxConnections, sni, drain }: Found): string {
  const options = [
    weight !== 1 && `weight=${weight}`,
    priority !== 1 && `priority=${priority}`,
    maxConnections > 0 && `max_connections=${maxConnections}`,
    sni && `sni=${sni}`,
    drain && 'drain=true',
  ]
  return [addressText(address), ...options.filter(Boolean)].join(' ')
}

/** Reads a text of backend lines, in slices. Rejects beyond 100,000 lines, and when `signal` aborts. */
export type ReadLines = (text: Buffer, signal: AbortSignal) => Promise<Answer>

/** A reader of texts that change little: a line it has read the last time is not read again. */
export function lineReader(): ReadLines {
  const lines = new Lines()
  return (text, signal) => lines.read(linesOf(text, signal), (index) => `line ${index + 1}`)
}

/** Reads entries that are a backend line each; `place` names the one that is rejected. */
export function readEntries(entries: readonly string[], place: (index: number) => string): Promise<Answer> {
  return new Lines().read(entries, place)
}

const TOO_LONG = { wrong: `expected at most ${LONGEST_LINE} characters` }

/** What was read of a text, and by which reading last. */
interface Line {
  readonly found: Found
  readonly place: Place
  reading: number
}

/** Where in the answer of a reading a backend stands: lines of one identity share it. */
interface Place {
  reading: number
  index: number
}

/**
 * Lines read, kept from one reading to the next: ten thousand that stay cost a look-up each, and leave no
 * garbage whose collection clients would wait for.
 */
class Lines {
  readonly #lines = new Map<string, Line>()
  readonly #places = new Map<string, Place>()
  #reading = 0

  /** In slices. Blank entries are skipped, and the later of two equal backends counts. */
  async read(entries: Iterable<string>, place: (index: number) => string): Promise<Answer> {
    const reading = ++this.#reading
    const backends: Found[] = []
    const rejects = new Rejects()
    let index = -1
    await inSlices(entries, (entry) => {
      index++
      const line = entry.length > LONGEST_LINE ? TOO_LONG : (this.#lines.get(entry) ?? this.#learn(entry))
      if (line === undefined) return
      if ('wrong' in line) return rejects.add(`${place(index)}: ${line.wrong}`)
      line.reading = reading
      if (line.place.reading !== reading) line.place.index = backends.length
      line.place.reading = reading
      backends[line.place.index] = line.found
    })
    await this.#forget(reading)
    return { backends, rejected: rejects.list() }
  }

  #learn(entry: string): Line | { readonly wrong: string } | undefined {
    if (entry.trim() === '') return undefined
    const found = readLine(entry)
    if ('wrong' in found) return found
    let place = this.#places.get(found.identity)
    if (!place) this.#places.set(found.identity, (place = { reading: 0, index: 0 }))
    const line = { found, place, reading: 0 }
    this.#lines.set(entry, line)
    return line
  }

  /** Lines that are no longer there. */
  async #forget(reading: number): Promise<void> {
    await inSlices(this.#lines, ([entry, line]) => {
      if (line.reading !== reading) this.#lines.delete(entry)
    })
    await inSlices(this.#places, ([identity, place]) => {
      if (place.reading !== reading) this.#places.delete(identity)
    })
  }
}

function cut(option: string): [string, string | undefined] {
  const at = option.indexOf('=')
  return at < 0 ? [option, undefined] : [option.slice(0, at), option.slice(at + 1)]
}

function wrong(expected: string, got: string): { wrong: string } {
  return { wrong: `expected ${expected}, got ${quote(got)}` }
}

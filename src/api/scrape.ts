// One scrape: every series of every server and backend as text, in slices that let clients be decided between.

import { hostText, portText } from '../core/address.ts'
import { inSlices } from '../core/slices.ts'
import type { SourceStatus } from '../discovery/sources.ts'
import type { Manager } from '../manager/manager.ts'
import type { Backend } from '../pool/backend.ts'
import type { Histogram } from '../server/histogram.ts'
import type { Server } from '../server/server.ts'
import { Family, labelText } from './exposition.ts'
import type { LabelText } from './exposition.ts'
import { BUILD_HELP, GOBETWEEN_BACKEND_SERIES, GOBETWEEN_SERVER_SERIES } from './gobetweenseries.ts'
import {
  BACKEND_SERIES,
  DISTRIBUTIONS,
  PROCESS_SERIES,
  REASON_SERIES,
  SERVER_SERIES,
  SOURCE_SERIES,
} from './series.ts'
import type { Series } from './series.ts'

export interface ScrapeOptions {
  readonly version: string
  /** Adds gobetween's names. */
  readonly gobetween: boolean
}

/** The text of all series, in pieces. Linear in backends. */
export async function scrape(manager: Manager, options: ScrapeOptions): Promise<readonly Buffer[]> {
  const writer = new Writer(manager, options)
  await inSlices(parts(manager), ({ server, backend }) =>
    backend ? writer.backend(server, backend) : writer.server(server),
  )
  return writer.pieces()
}

interface Part {
  readonly server: Server
  readonly backend?: Backend
}

/** Walked while they live: who goes meanwhile is not met any more. */
function* parts({ servers }: Manager): Iterable<Part> {
  for (const server of servers.values()) {
    yield { server }
    for (const backend of server.pool.backends) yield { server, backend }
  }
}

/** A series with the family its values go to. */
type Column<T> = readonly [series: Series<T>, family: Family]

class Writer {
  readonly #build: Family[]
  readonly #process: Family[]
  readonly #servers = columns(SERVER_SERIES)
  readonly #sources = columns(SOURCE_SERIES)
  readonly #reasons = REASON_SERIES.map(
    (each) => [each, new Family(each.name, 'counter', each.help)] as const,
  )
  readonly #distributions = DISTRIBUTIONS.map(
    (each) => [each, new Family(each.name, 'histogram', each.help)] as const,
  )
  readonly #backends = columns(BACKEND_SERIES)
  readonly #oldServers
  readonly #oldBackends
  /** Addresses met in the server at hand: gobetween's labels know no SNI name, and a series may stand once. */
  readonly #met = new Set<string>()

  constructor({ context }: Manager, { version, gobetween }: ScrapeOptions) {
    this.#oldServers = gobetween ? columns(GOBETWEEN_SERVER_SERIES) : []
    this.#oldBackends = gobetween ? columns(GOBETWEEN_BACKEND_SERIES) : []
    this.#build = buildInfo(version, context.planes.usual, gobetween)
    this.#process = columns(PROCESS_SERIES).map(([series, family]) => {
      family.add('', series.value(context.gate)!)
      return family
    })
  }

  server(server: Server): void {
    this.#met.clear()
    const labels = labelText({ server: server.name })
    const view = { server, carried: server.pool.traffic.total() }
    write(this.#servers, labels, view)
    write(this.#oldServers, labels, view)
    for (const source of named(server.sources()))
      write(this.#sources, labelText({ server: server.name, source: source.name }), source.status)
    for (const [series, family] of this.#reasons) {
      for (const [reason, count] of Object.entries(series.values(server)))
        family.add(`${labels},reason="${reason}"`, count)
    }
    for (const [series, family] of this.#distributions)
      writeHistogram(family, labels, series.histogram(server))
  }

  backend(server: Server, backend: Backend): void {
    const { address, sni } = backend.found
    const view = { server, backend, carried: server.pool.traffic.of(backend.row) }
    write(
      this.#backends,
      labelText({ server: server.name, backend: backend.text, ...(sni && { sni }) }),
      view,
    )
    if (this.#oldBackends.length === 0 || this.#met.has(backend.text)) return
    this.#met.add(backend.text)
    const old = labelText({ server: server.name, host: hostText(address), port: portText(address) })
    write(this.#oldBackends, old, view)
  }

  pieces(): readonly Buffer[] {
    const tables = [
      this.#servers,
      this.#sources,
      this.#reasons,
      this.#distributions,
      this.#backends,
      this.#oldServers,
    ]
    const families = [...tables, this.#oldBackends].flat().map(([, family]) => family)
    return [...this.#build, ...this.#process, ...families].flatMap((family) => family.pieces())
  }
}

/** Sources under the names of their kinds, with a number from the second of a kind on. */
function named(sources: readonly SourceStatus[]): { name: string; status: SourceStatus }[] {
  const seen = new Map<string, number>()
  return sources.map((status) => {
    const nth = (seen.get(status.kind) ?? 0) + 1
    seen.set(status.kind, nth)
    return { name: nth === 1 ? status.kind : `${status.kind}-${nth}`, status }
  })
}

function buildInfo(version: string, plane: string, gobetween: boolean): Family[] {
  const node = process.versions.node
  const ours = new Family('fairlead_build_info', 'gauge', 'Always 1; its labels say what runs.')
  ours.add(labelText({ version, node, plane }), 1)
  if (!gobetween) return [ours]
  const theirs = new Family('gobetween_build_info', 'gauge', BUILD_HELP)
  theirs.add(labelText({ version, revision: '', branch: '', goversion: '' }), 1)
  return [ours, theirs]
}

function columns<T>(all: readonly Series<T>[]): readonly Column<T>[] {
  return all.map((series) => [series, new Family(series.name, series.type, series.help)])
}

function write<T>(table: readonly Column<T>[], labels: LabelText, view: T): void {
  for (const [series, family] of table) {
    const value = series.value(view)
    if (value !== undefined) family.add(labels, value)
  }
}

/** Counts in the format are cumulative, and in seconds. */
function writeHistogram(
  family: Family,
  labels: LabelText,
  { bounds, counts, sumMs, total }: Histogram,
): void {
  let below = 0
  bounds.forEach((bound, i) => {
    below += counts[i]!
    family.add(`${labels},le="${bound / 1000}"`, below, '_bucket')
  })
  family.add(`${labels},le="+Inf"`, total, '_bucket')
  family.add(labels, sumMs / 1000, '_sum')
  family.add(labels, total, '_count')
}

// Metrics of the process itself: those of prom-client that cost the same with ten connections and ten thousand.

import { readdir, stat } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { Gauge, Registry } from 'prom-client'

/**
 * Left out: handles, requests and resources, which list every open connection; open descriptors, which read a
 * directory entry for each while nobody else may run; garbage collection, which observes every collection.
 */
const KEPT = [
  'processCpuTotal',
  'processStartTime',
  'osMemoryHeap',
  'processMaxFileDescriptors',
  'eventLoopLag',
  'heapSizeAndUsed',
  'heapSpacesSizeAndUsed',
  'version',
]

/** A registry of them, to be rendered for each scrape. */
export function processMetrics(): Registry {
  const registry = new Registry()
  const load = createRequire(import.meta.url)
  // The package's index offers all or none.
  for (const name of KEPT) (load(`prom-client/lib/metrics/${name}.js`) as (to: Registry) => void)(registry)
  if (process.platform === 'linux') openDescriptors(registry)
  return registry
}

function openDescriptors(registry: Registry): void {
  new Gauge({
    name: 'process_open_fds',
    help: 'Number of open file descriptors.',
    registers: [registry],
    async collect() {
      // Since Linux 6.2 the size of the directory is the number of its entries.
      const { size } = await stat('/proc/self/fd')
      this.set(size || (await readdir('/proc/self/fd')).length)
    },
  })
}

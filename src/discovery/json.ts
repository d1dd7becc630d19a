// The elements of a JSON list behind a URL.

import { text } from '../core/settings.ts'
import { discovery } from './discovery.ts'
import { readElements } from './reading/elements.ts'
import { endpoint } from './reading/endpoint.ts'
import { parsePath, path } from './reading/paths.ts'

const { settings, source, conflicts, fetch } = endpoint(
  'json',
  'URL of a JSON list with an element for each backend.',
  'application/json',
)

export const json = discovery(
  {
    settings: {
      ...settings,
      json_items_pattern: text()
        .refine((written) => parsePath(written) !== undefined, { error: 'a path such as "tasks"' })
        .default('')
        .describe('Path to the list inside the document; empty when the document is the list.'),
      json_host_pattern: path()
        .default('host')
        .describe('Path to the host inside an element, steps parted by dots, "[0]" for a place in a list.'),
      json_port_pattern: path().default('port').describe('Path to the port inside an element.'),
      json_weight_pattern: path().default('weight').describe('Path to the weight inside an element.'),
      json_priority_pattern: path().default('priority').describe('Path to the priority inside an element.'),
      json_sni_pattern: path().default('sni').describe('Path to the TLS server name inside an element.'),
      json_max_connections_pattern: path()
        .default('max_connections')
        .describe('Path to the connection limit inside an element.'),
      json_drain_pattern: path()
        .default('drain')
        .describe('Path to what is true inside an element that takes no new clients.'),
    },
    timeoutMs: 5_000,
    source: (settings) => `json ${source(settings)}`,
    conflicts,
  },
  (settings) => {
    const patterns = {
      items: settings.json_items_pattern,
      host: settings.json_host_pattern,
      port: settings.json_port_pattern,
      weight: settings.json_weight_pattern,
      priority: settings.json_priority_pattern,
      sni: settings.json_sni_pattern,
      max_connections: settings.json_max_connections_pattern,
      drain: settings.json_drain_pattern,
    }
    return { ask: async (signal) => readElements(await fetch(settings, signal), patterns, signal) }
  },
)

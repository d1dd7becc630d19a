// The elements of a JSON array behind a URL.

import { name } from '../core/settings.ts'
import { discovery } from './discovery.ts'
import { unsupported } from './unsupported.ts'

/** A path inside an element: `meta.addresses.[0]`. */
const path = (usual: string) => name().default(usual)

export const json = discovery(
  {
    settings: {
      json_endpoint: name().describe('URL of a JSON array with an element for each backend.'),
      json_host_pattern: path('host').describe(
        'Path to the host inside an element, steps parted by dots, "[0]" for a place in a list.',
      ),
      json_port_pattern: path('port').describe('Path to the port inside an element.'),
      json_weight_pattern: path('weight').describe('Path to the weight inside an element.'),
      json_priority_pattern: path('priority').describe('Path to the priority inside an element.'),
      json_sni_pattern: path('sni').describe('Path to the TLS server name inside an element.'),
      json_max_connections_pattern: path('max_connections').describe(
        'Path to the connection limit inside an element.',
      ),
    },
    timeoutMs: 5_000,
    source: ({ json_endpoint }) => `json ${json_endpoint}`,
  },
  unsupported('json', 'fetching a JSON document of backends'),
)

// The elements of a JSON array behind a URL.

import { name } from '../core/settings.ts'
import { discovery } from './discovery.ts'
import { unsupported } from './unsupported.ts'

/** A path inside an element: `meta.addresses.[0]`. */
const path = (usual: string) => name().default(usual)

export const json = discovery(
  {
    settings: {
      /** The URL. */
      json_endpoint: name(),
      json_host_pattern: path('host'),
      json_port_pattern: path('port'),
      json_weight_pattern: path('weight'),
      json_priority_pattern: path('priority'),
      json_sni_pattern: path('sni'),
      json_max_connections_pattern: path('max_connections'),
    },
    timeoutMs: 5_000,
  },
  unsupported('json', 'fetching a JSON document of backends'),
)

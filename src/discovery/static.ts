// The backends written in the configuration.

import { texts } from '../core/settings.ts'
import { discovery } from './discovery.ts'
import { readEntries } from './reading/line.ts'

export const staticList = discovery(
  {
    settings: {
      static_list: texts().describe(
        'Backends, each "host:port" and then weight=, priority=, max_connections= and sni= as wanted.',
      ),
    },
    timeoutMs: 0,
    source: () => 'static',
  },
  ({ static_list }) => ({
    ask: () => readEntries(static_list, (index) => `static_list[${index}]`),
  }),
)

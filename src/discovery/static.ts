// The backends written in the configuration.

import { texts } from '../core/settings.ts'
import { discovery } from './discovery.ts'
import { readEntries } from './line.ts'

export const staticList = discovery(
  {
    settings: {
      /** Backend lines. */
      static_list: texts(),
    },
    timeoutMs: 0,
  },
  ({ static_list }) => ({
    ask: () => readEntries(static_list, (index) => `static_list[${index}]`),
  }),
)

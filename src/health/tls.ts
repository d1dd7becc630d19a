// Healthy when it shakes hands over TLS, and when asked to, shows a valid certificate.

import { check, healthy } from './check.ts'
import { secureConflicts, secureKeys, securely } from './secure.ts'
import { GOODBYE, converse } from './talk.ts'
import { where } from './where.ts'

export const tls = check(
  { settings: { ...where, ...secureKeys }, conflicts: secureConflicts },
  (settings) => ({
    run: securely(settings, async (socket) => {
      const reason = `shook hands over ${socket.getProtocol()}`
      await converse(socket, [GOODBYE])
      return healthy(reason)
    }),
  }),
)

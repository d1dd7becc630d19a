// Whether this machine has IPv6: a container often has not.

import { createServer } from 'node:net'

/** Why a test that needs ::1 is skipped; false where there is one. */
export const NO_IPV6 = await new Promise<string | false>((resolve) => {
  const probe = createServer().on('error', () => resolve('this machine has no ::1'))
  probe.listen(0, '::1', () => probe.close(() => resolve(false)))
})

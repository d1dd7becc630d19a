// Healthy when it accepts a TCP connection, which is closed at once.

import type { Address } from '../core/address.ts'
import { check } from './check.ts'
import { anyEndpoint, dial } from './dial.ts'

export const ping = check({ settings: {}, protocols: ['tcp', 'tls'] }, () => ({
  run: (target, signal) => anyEndpoint(target, signal, connects),
}))

function connects(endpoint: Address, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = dial(endpoint, signal)
    socket.once('error', reject)
    socket.once('connect', () => {
      resolve('connected')
      socket.destroy()
    })
  })
}

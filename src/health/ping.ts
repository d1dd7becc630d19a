// Healthy when it accepts a TCP connection, which is closed at once.

import type { Address } from '../core/address.ts'
import { check, healthy } from './check.ts'
import type { Result } from './check.ts'
import { anyEndpoint, dial } from './dial.ts'
import { headerOf, where } from './where.ts'

export const ping = check({ settings: where, protocols: ['tcp', 'tls'] }, (settings) => {
  const ahead = headerOf(settings)
  return {
    run: (target, signal) =>
      anyEndpoint(target, signal, (endpoint, signal) => connects(endpoint, signal, ahead)),
  }
})

function connects(endpoint: Address, signal: AbortSignal, ahead?: Uint8Array): Promise<Result> {
  return new Promise((resolve, reject) => {
    const socket = dial(endpoint, signal, ahead)
    socket.once('error', reject)
    socket.once('connect', () => {
      resolve(healthy('connected'))
      socket.destroy()
    })
  })
}

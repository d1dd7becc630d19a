// Whether a target answers yet.

import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { get } from 'node:http'

/** A question that any DNS server answers, and any echo: `bench. SOA`. */
const QUESTION = Buffer.from('beef000000010000000000000562656e63680000060001', 'hex')

/** Resolves with true when a datagram to `port` is answered; with `sink` when it arrives there. */
export async function answersDatagram(port, sink) {
  const socket = createSocket('udp4')
  const asked = sink ? createSocket('udp4').bind(sink, '127.0.0.1') : socket
  const both = new Set([socket, asked])
  for (const each of both) each.on('error', () => {})
  const timer = setTimeout(() => socket.emit('error', new Error('no answer')), 500)
  try {
    if (sink) await once(asked, 'listening')
    socket.connect(port, '127.0.0.1')
    await once(socket, 'connect')
    socket.send(QUESTION)
    await Promise.race([...both].map((each) => once(each, 'message')))
    return true
  } finally {
    clearTimeout(timer)
    for (const each of both) each.close()
  }
}

/** Resolves with true when an HTTP request for `/` is answered there. */
export function answers(port) {
  return new Promise((resolve, reject) => {
    const request = get({ host: '127.0.0.1', port, agent: false, timeout: 2_000 }, (response) => {
      response.resume()
      resolve(response.statusCode === 200)
    })
    request.on('error', reject)
    request.on('timeout', () => request.destroy(new Error('no answer')))
  })
}

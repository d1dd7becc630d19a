// A client of the soak run: many flows of every sort, each checked for its outcome.

import { connect } from 'node:net'

const LIMIT_MS = 10_000
const UPLOAD = 20_000

/** Flows of each sort in a hundred. */
const MIX = {
  short: 40,
  backendEnds: 15,
  halfClose: 15,
  clientReset: 8,
  leaves: 5,
  backendReset: 7,
  refused: 5,
  idle: 5,
}
const ORDER = shuffled(Object.entries(MIX).flatMap(([sort, count]) => Array(count).fill(sort)))

/** Each: what the client does. Gives what is wrong with what it then saw, or nothing. */
const SORTS = {
  short(socket) {
    socket.write('a')
    socket.once('data', () => socket.end())
    return ({ bytes, error }) => error ?? (bytes === 1024 ? undefined : `${bytes} bytes`)
  },
  backendEnds(socket) {
    socket.write('b')
    socket.on('end', () => socket.end())
    return ({ bytes, error }) => error ?? (bytes === 1024 ? undefined : `${bytes} bytes`)
  },
  halfClose(socket) {
    socket.end(Buffer.alloc(UPLOAD, 'h'))
    return ({ text, error }) =>
      error ?? (text === String(UPLOAD) ? undefined : `the backend got ${text} bytes`)
  },
  clientReset(socket) {
    socket.write('a')
    socket.once('data', () => socket.resetAndDestroy())
    return () => undefined
  },
  leaves(socket) {
    socket.once('connect', () => socket.resetAndDestroy())
    return () => undefined
  },
  backendReset(socket) {
    socket.write('r')
    return ({ error }) => (error === 'ECONNRESET' ? undefined : `no reset but ${error ?? 'an end'}`)
  },
  refused(socket) {
    socket.write('a')
    socket.on('end', () => socket.end())
    return ({ bytes }) => (bytes === 0 ? undefined : `${bytes} bytes`)
  },
  idle(socket) {
    socket.write('i')
    socket.on('end', () => socket.end())
    return ({ ms }) => (ms > 195 ? undefined : `closed after ${ms.toFixed(0)} ms`)
  },
}

process.on('message', async ({ flows, concurrency, ports }) => {
  const wrong = {}
  let begun = 0
  const worker = async () => {
    for (let n = begun++; n < flows; n = begun++) {
      const sort = ORDER[n % ORDER.length]
      // Several addresses, so that ports in TIME_WAIT do not run out.
      const fault = await flow(sort, { port: ports[sort] ?? ports.web, host: `127.0.0.${1 + (n % 8)}` })
      if (fault) wrong[`${sort}: ${fault}`] = (wrong[`${sort}: ${fault}`] ?? 0) + 1
      if (n % 1000 === 999) process.send({ progress: 1000 })
    }
  }
  await Promise.all(Array.from({ length: concurrency }, worker))
  process.send({ done: flows, wrong })
})

function flow(sort, to) {
  return new Promise((resolve) => {
    const began = performance.now()
    const socket = connect({ ...to, allowHalfOpen: true })
    const judge = SORTS[sort](socket)
    let [bytes, text, error] = [0, '', undefined]
    const limit = setTimeout(() => {
      error = 'stuck'
      socket.destroy()
    }, LIMIT_MS)
    socket.on('data', (part) => {
      bytes += part.length
      if (sort === 'halfClose') text += part
    })
    socket.on('error', ({ code }) => (error ??= code))
    socket.on('close', () => {
      clearTimeout(limit)
      resolve(error === 'stuck' ? error : judge({ bytes, text, error, ms: performance.now() - began }))
    })
  })
}

/** The same order every time. */
function shuffled(list) {
  return list.map((_, i) => list[(i * 37) % list.length])
}

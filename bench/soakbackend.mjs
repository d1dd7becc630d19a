// The backend of the soak run: the first byte a client sends says what becomes of its connection.

import { createServer } from 'node:net'

const ANSWER = Buffer.alloc(1024, 'x')

const server = createServer({ allowHalfOpen: true }, (socket) => {
  let received = 0
  let wish = ''
  socket.on('error', () => {})
  socket.on('data', (bytes) => {
    if (received === 0) {
      wish = String.fromCharCode(bytes[0])
      wishes[wish]?.(socket)
    }
    received += bytes.length
  })
  socket.on('end', () => socket.end(wish === 'h' ? String(received) : undefined))
})

const wishes = {
  /** Answer and wait for the client's end. */
  a: (socket) => socket.write(ANSWER),
  /** Answer and end first. */
  b: (socket) => socket.end(ANSWER),
  r: (socket) => socket.resetAndDestroy(),
}

server.listen(Number(process.argv[2]), '0.0.0.0', 4096, () => process.send('listening'))

// What runs on each host of hosts.ts: it asks and answers as it is told on its input. A question is a line of JSON, an
// answer too; blanks make them longer. What does not come in time is asked again.

import { createSocket } from 'node:dgram'
import { createInterface } from 'node:readline'

const [name] = process.argv.slice(2)
/** By host and port. */
const sockets = new Map()
/** Questions that are not answered yet, by their number. */
const pending = new Map()
const heard = []
const show = ({ address, port }) => `${address} ${port}`
const keyOf = ({ host, port }) => `${host} ${port}`
const pad = (what, bytes) => Buffer.from(JSON.stringify(what).padEnd(bytes ?? 0))
const open = ({ host, port }) => {
  const key = keyOf({ host, port })
  if (sockets.has(key)) return sockets.get(key)
  const opened = new Promise((resolve, reject) => {
    const socket = createSocket({ type: host.includes(':') ? 'udp6' : 'udp4', recvBufferSize: 1 << 20 })
    socket.on('error', reject).bind(port, host, () => resolve(socket))
  })
  // Port 0 is another one every time.
  if (port) sockets.set(key, opened)
  return opened
}
const say = (what) => console.log(JSON.stringify(what))
const does = {
  async serve({ id, at }) {
    const socket = await open(at)
    socket.on('message', (bytes, from) => {
      heard.push({ saw: show(from), bytes: bytes.length })
      const { id, answer } = JSON.parse(bytes)
      const told = { id, host: name, port: at.port, saw: show(from), asked: bytes.length }
      socket.send(pad(told, answer), from.port, from.address, () => {})
    })
    say({ id })
  },
  async leave({ id, at }) {
    const socket = await sockets.get(keyOf(at))
    sockets.delete(keyOf(at))
    socket.close(() => say({ id }))
  },
  heard: ({ id }) => say({ id, heard }),
  async ask({ id, from, to, bytes, answer, again = 250, once }) {
    const socket = await open(from)
    const asking = { tries: 0 }
    const send = () => {
      asking.tries++
      socket.send(pad({ id, answer }, bytes), to.port, to.host, () => {})
    }
    send()
    if (once) return say({ id })
    asking.timer = setInterval(send, again)
    pending.set(id, asking)
    if (socket.listenerCount('message') > 0) return
    socket.on('message', (bytes, from) => {
      const { id, ...told } = JSON.parse(bytes)
      const asking = pending.get(id)
      if (!asking) return
      clearInterval(asking.timer)
      pending.delete(id)
      say({ id, ...told, bytes: bytes.length, from: show(from), tries: asking.tries })
    })
  },
}
createInterface({ input: process.stdin })
  .on('line', (line) => {
    const { verb, ...what } = JSON.parse(line)
    Promise.resolve(does[verb](what)).catch(({ message }) => say({ id: what.id, error: message }))
  })
  .on('close', () => process.exit())

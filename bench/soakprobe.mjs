// Loaded into fairlead by the soak run (`node --expose-gc --import`): collects garbage when asked and tells
// what is alive. Timers are counted from birth to death, since those that hold no process open are listed nowhere.

import { createHook } from 'node:async_hooks'
import { setTimeout as sleep } from 'node:timers/promises'

const WATCHED = /^Timeout$|WRAP$|^(TCP|PIPE)/
const types = new Map()
const counts = {}

createHook({
  init(id, type) {
    if (!WATCHED.test(type)) return
    types.set(id, type)
    counts[type] = (counts[type] ?? 0) + 1
  },
  destroy(id) {
    const type = types.get(id)
    if (types.delete(id)) counts[type]--
  },
}).enable()

process.on('message', async () => {
  // A handle is reported dead a turn after it has been collected, and may have kept others alive.
  for (let i = 0; i < 3; i++) {
    globalThis.gc()
    await sleep(20)
  }
  const { heapUsed, external, rss } = process.memoryUsage()
  process.send({ heap: heapUsed, external, resident: rss, alive: { ...counts } })
})
process.channel.unref()

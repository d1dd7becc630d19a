// Loaded into fairlead by `memory.mjs` (`node --import`): collects garbage when asked. What the start has left over
// is more than a native flow takes 9,000 times, and V8 may give it back at any moment.

import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')
const gc = runInNewContext('gc')

process.on('message', async () => {
  // What dies with a handle is found dead a turn later.
  for (let i = 0; i < 3; i++) {
    gc()
    await sleep(20)
  }
  process.send({})
})
process.channel.unref()

// `npm run soak`: what runs for long or breaks things on purpose, against a running fairlead of either plane. Status 1
// when something was wrong or is left over.

import { parseArgs } from 'node:util'
import { loadAddon } from '../dist/plane/native/load.js'
import { crashes } from './soakcrashes.mjs'
import { faults } from './soakfaults.mjs'
import { flows } from './soakflows.mjs'
import { streams } from './soakstreams.mjs'

const RUNS = { flows, streams, faults, crashes }

const USAGE = `npm run soak -- [RUN] [options]

  flows       many flows of every sort; then descriptors, timers, handles and memory are back where they began
  streams     every byte of long streams that pause, half-close and reset arrives as it was sent
  faults      system calls of the relay threads fail under load (strace); native plane only
  crashes     a thread crashes: the process ends with a status and says where; native plane only

  --plane P        native or portable; auto unless said: native where its addon loads
  --flows N        of the run flows: 200000
  --gigabytes N    of the run streams: 1
  --only TEXT      of the run faults: the cases whose name has this in it
  --help

A compiler (cc) is needed: the clients are native/soak/streams.c.`

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    plane: { type: 'string', default: 'auto' },
    flows: { type: 'string', default: '200000' },
    gigabytes: { type: 'string', default: '1' },
    only: { type: 'string', default: '' },
    help: { type: 'boolean', default: false },
  },
})
const [name = 'flows'] = positionals
if (values.help || !RUNS[name] || !['auto', 'native', 'portable'].includes(values.plane)) {
  console.log(USAGE)
  process.exit(values.help ? 0 : 2)
}

const usual = () => ('addon' in loadAddon() ? 'native' : 'portable')
const wrong = await RUNS[name]({
  plane: values.plane === 'auto' ? usual() : values.plane,
  flows: Number(values.flows),
  gigabytes: Number(values.gigabytes),
  only: values.only,
})
for (const fault of wrong) console.log(`FAULT ${fault}`)
console.log(wrong.length === 0 ? 'all went as it should, and everything is back where it began' : 'failed')
process.exit(wrong.length === 0 ? 0 : 1)

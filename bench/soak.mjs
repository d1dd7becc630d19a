// `npm run soak`: what runs for long or breaks things on purpose, against a running fairlead of either plane. Status 1
// when something was wrong or is left over.

import { parseArgs } from 'node:util'
import { loadAddon } from '../dist/plane/native/load.js'
import { backends } from './soakbackends.mjs'
import { crashes } from './soakcrashes.mjs'
import { faults } from './soakfaults.mjs'
import { flood, loud } from './soakflood.mjs'
import { flows } from './soakflows.mjs'
import { sessions } from './soaksessions.mjs'
import { streams } from './soakstreams.mjs'

const RUNS = { flows, streams, faults, crashes, sessions, flood, loud, backends }

const USAGE = `npm run soak -- [RUN] [options]

  flows       many flows of every sort; then descriptors, timers, handles and memory are back where they began
  streams     every byte of long streams that pause, half-close and reset arrives as it was sent
  faults      system calls of the relay threads fail under load (strace); native plane only
  crashes     a thread crashes: the process ends with a status and says where; native plane only

Of datagrams:

  sessions    many sessions of a question and an answer; then everything is back where it began
  flood       a million clients that come once; those who stay are answered, and memory keeps within bounds
  loud        the same while a backend answers a thousandfold
  backends    leave the list or die, and come back, every 100 ms; how many questions that costs is told

  --plane P        native or portable; auto unless said: native where its addon loads
  --flows N        of the run flows: 200000
  --gigabytes N    of the run streams: 1
  --sessions N     of the run sessions: 10000000, portable 200000
  --sources N      clients of the run flood: 1000000, portable 200000
  --seconds N      of each half of the run backends: 20
  --only TEXT      of the run faults: the cases whose name has this in it
  --help

A compiler (cc) is needed: the clients are native/soak/streams.c, and bench/datagrams.c for datagrams.`

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    plane: { type: 'string', default: 'auto' },
    flows: { type: 'string', default: '200000' },
    gigabytes: { type: 'string', default: '1' },
    sessions: { type: 'string' },
    sources: { type: 'string' },
    seconds: { type: 'string' },
    only: { type: 'string', default: '' },
    help: { type: 'boolean', default: false },
  },
})
const [name = 'flows'] = positionals
if (values.help || !RUNS[name] || !['auto', 'native', 'portable'].includes(values.plane)) {
  console.log(USAGE)
  process.exit(values.help ? 0 : 2)
}

const given = (value) => (value === undefined ? undefined : Number(value))
const usual = () => ('addon' in loadAddon() ? 'native' : 'portable')
const wrong = await RUNS[name]({
  plane: values.plane === 'auto' ? usual() : values.plane,
  flows: Number(values.flows),
  gigabytes: Number(values.gigabytes),
  sessions: given(values.sessions),
  sources: given(values.sources),
  seconds: given(values.seconds),
  only: values.only,
})
for (const fault of wrong) console.log(`FAULT ${fault}`)
console.log(wrong.length === 0 ? 'all went as it should, and everything is back where it began' : 'failed')
process.exit(wrong.length === 0 ? 0 : 1)

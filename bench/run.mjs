// `npm run bench`: drives nothing, HAProxy, nginx and the planes of fairlead with the same load and prints what it
// cost them.

import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { cpus, loadavg, release } from 'node:os'
import { parseArgs } from 'node:util'
import * as decision from './decision.mjs'
import * as latency from './latency.mjs'
import { pinLoad } from './machine.mjs'
import * as memory from './memory.mjs'
import { PROFILERS } from './profile.mjs'
import { TARGETS } from './proxies.mjs'
import { backends, rules, servers } from './scale.mjs'
import * as stalls from './stalls.mjs'
import * as threads from './threads.mjs'
import * as throughput from './throughput.mjs'
import * as udp from './udp.mjs'
import * as udpdns from './udpdns.mjs'
import * as udpmemory from './udpmemory.mjs'
import { WORKLOADS } from './workloads.mjs'

const CONNECTIONS = [throughput, latency, memory, threads, decision, backends, rules, servers, stalls]
const DATAGRAMS = [udp, udpmemory, udpdns]
/** In the order in which they run. */
const GROUPS = [...CONNECTIONS, ...DATAGRAMS]
const NEEDED = { haproxy: '-v', nginx: '-v', wrk: '-v', taskset: '-V', cc: '--version' }
const page = new URL('../docs/performance.md', import.meta.url)

const GROUP_NAMES = GROUPS.map(({ name }) => name)
const WORKLOAD_KEYS = WORKLOADS.map(({ key }) => key)

const USAGE = `npm run bench -- [options]

  --rounds N          of every measurement: 9 unless said, and 15 where a ratio is within 5 % of its goal (if N >= 7)
  --only A,B          groups: ${GROUP_NAMES.join(', ')}
  --targets A,B       ${TARGETS.join(', ')}
  --workloads A,B     of throughput and threads: ${WORKLOAD_KEYS.join(', ')}
  --perf HOW          after each workload of throughput and udp one more round under a profiler, whose top lines are
                      printed: ${PROFILERS.join(' (perf record -g) or ')} (strace -c -f)
  --write             puts the tables into docs/performance.md; with all targets and workloads only
  --help

Everything takes 75 to 90 minutes, throughput alone 15 to 23. Whether a change brought something (1 minute):

  npm run bench -- --only throughput --targets native,haproxy,nginx --workloads close --rounds 5 --perf record

FAIRLEAD_NODE_FLAGS="--perf-basic-prof --single-threaded-gc --max-semi-space-size=4" names the JavaScript functions in it.`

const options = parseArgs({
  options: {
    rounds: { type: 'string', default: '9' },
    only: { type: 'string', default: GROUP_NAMES.join() },
    targets: { type: 'string', default: TARGETS.join() },
    workloads: { type: 'string', default: WORKLOAD_KEYS.join() },
    perf: { type: 'string' },
    write: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
}).values
const { perf, write } = options
const rounds = Number(options.rounds)

if (options.help) {
  console.log(USAGE)
  process.exit()
}
if (!(rounds >= 1)) fail(`--rounds: expected a number from 1, got "${options.rounds}"`)
const wanted = listed('only', GROUP_NAMES)
const targets = listed('targets', TARGETS)
const workloads = listed('workloads', WORKLOAD_KEYS)
if (perf) listed('perf', PROFILERS)
const whole = targets.length === TARGETS.length && workloads.length === WORKLOAD_KEYS.length && !perf
if (write && !whole) fail('--write: expected neither --targets nor --workloads nor --perf beside it')
const versions = Object.fromEntries(
  Object.entries(NEEDED).map(([tool, args]) => [tool, versionOf(tool, args)]),
)
const chosen = (names) => names.filter((name) => targets.includes(name))

pinLoad()
for (const { name, run, report } of GROUPS.filter(({ name }) => wanted.includes(name))) {
  const began = performance.now()
  const say = (line) =>
    console.error(`[${((performance.now() - began) / 1000).toFixed(0)} s] ${name}: ${line}`)
  const before = loadavg()[0]
  const results = await run({ rounds, say, chosen, workloads, perf })
  const text = `${conditions(before)}\n${report(results)}\n`
  console.log(`\n## ${name}\n\n${text}`)
  if (write) put(name, text)
}
process.exit()

/** When, on what and how undisturbed a group was measured. */
function conditions(load) {
  const { haproxy, nginx } = versions
  const machine = `${cpus().length} × ${cpus()[0].model}, Linux ${release().split('-')[0]}`
  return `${new Date().toISOString().slice(0, 10)}, ${machine}, Node ${process.versions.node}, HAProxy ${haproxy}, nginx ${nginx}; ${rounds} rounds; load average
before it began: ${load.toFixed(1)}.`
}

/** Replaces what stands between the markers of a group. */
function put(name, text) {
  const [begin, end] = [`<!-- ${name} -->\n`, `<!-- end of ${name} -->`]
  const [before, rest] = readFileSync(page, 'utf8').split(begin)
  const after = rest?.slice(rest.indexOf(end))
  if (!after) fail(`docs/performance.md: expected the markers "${begin.trim()}" and "${end}", got none`)
  writeFileSync(page, before + begin + text + after)
}

function versionOf(tool, args) {
  try {
    // Some print their version to stderr, wrk with status 1.
    const printed = execFileSync('sh', [
      '-c',
      `command -v ${tool} >/dev/null && ${tool} ${args} 2>&1 || true`,
    ])
    return /\d+\.\d+(\.\d+)?/.exec(String(printed))[0]
  } catch {
    return fail(`expected ${Object.keys(NEEDED).join(', ')}; ${tool} is missing: run scripts/debian.sh bench`)
  }
}

/** What an option lists; each must be one of `names`. */
function listed(option, names) {
  const given = options[option].split(',')
  for (const name of given)
    if (!names.includes(name)) fail(`--${option}: expected some of ${names.join(', ')}, got "${name}"`)
  return given
}

function fail(message) {
  console.error(message)
  process.exit(2)
}

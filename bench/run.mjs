// `npm run bench -- [--rounds N] [--only NAME,…] [--write]`: drives nothing, HAProxy, nginx and fairlead with
// the same load and prints what it cost; `--write` puts that into docs/performance.md.

import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { cpus, loadavg, release } from 'node:os'
import { parseArgs } from 'node:util'
import * as latency from './latency.mjs'
import { pinLoad } from './machine.mjs'
import * as memory from './memory.mjs'
import { backends, rules, servers } from './scale.mjs'
import * as stalls from './stalls.mjs'
import * as throughput from './throughput.mjs'

const GROUPS = [throughput, latency, memory, backends, rules, servers, stalls]
const NEEDED = { haproxy: ['-v'], nginx: ['-v'], wrk: ['-v'], taskset: ['-V'] }
const page = new URL('../docs/performance.md', import.meta.url)

const { rounds, only, write } = parseArgs({
  options: {
    rounds: { type: 'string', default: '9' },
    only: { type: 'string', default: GROUPS.map(({ name }) => name).join() },
    write: { type: 'boolean', default: false },
  },
}).values

const wanted = only
  .split(',')
  .map((name) => GROUPS.find((group) => group.name === name) ?? fail(unknown(name)))
if (!(Number(rounds) >= 1)) fail(`--rounds: expected a number from 1, got "${rounds}"`)
const versions = Object.fromEntries(
  Object.entries(NEEDED).map(([tool, args]) => [tool, versionOf(tool, args)]),
)

pinLoad()
for (const { name, run, report } of wanted) {
  const began = performance.now()
  const say = (line) =>
    console.error(`[${((performance.now() - began) / 1000).toFixed(0)} s] ${name}: ${line}`)
  const before = loadavg()[0]
  const text = `${conditions(before)}\n${report(await run({ rounds: Number(rounds), say }))}\n`
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

function unknown(name) {
  return `--only: expected some of ${GROUPS.map((group) => group.name).join(', ')}, got "${name}"`
}

function fail(message) {
  console.error(message)
  process.exit(2)
}

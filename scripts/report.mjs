// Reads what tap printed (TAP) and says at its end what matters: which real components were tested against, what was
// skipped and why, and every failure with what it said. Usage: node scripts/report.mjs FILE
import { readFileSync } from 'node:fs'

/** Tests that talk to a real server when there is one. */
const REAL = /^(test\/components|examples)\/(.*)\.test\.ts$/

/** Lines shown of what a failed test said. */
const SHOWN = 25

const lines = readFileSync(process.argv[2], 'utf8').split('\n')
const real = []
const skipped = []
const failed = []

let file = ''
for (const [i, line] of lines.entries()) {
  file = /^# Subtest: (\S+\.test\.ts)$/.exec(line)?.[1] ?? file
  const result = /^( *)(not )?ok \d+ - (.*?)(?: # time=\S+)?$/.exec(line)
  if (!result) continue
  const [, indent, not, name] = result
  const skip = /^(.*?) # SKIP ?(.*)$/.exec(name)
  if (skip) skipped.push(`${file}: ${skip[1]}: ${skip[2] || 'no reason given'}`)
  // What a failed assertion says stands below it; the tests around it only repeat it.
  else if (not && isInnermost(i, indent, name)) failed.push({ file, at: i, indent })
  if (indent === '' && REAL.test(name)) real.push(`${not ? 'FAILED' : 'passed'}  ${name}`)
}

const said = lines
  .filter((line) => /^\s*# real: /.test(line))
  .map((line) => line.trim().slice('# real: '.length))

print('Tests that use real servers', real)
print('Real servers they met', [...new Set(said)])
print('Skipped', skipped)
print(
  `${failed.length} failed`,
  failed.map(({ file, at, indent }) => [file, ...diagnosis(at, indent)].join('\n  ')),
)

/** False for a test that failed because something inside it did, which has been told. */
function isInnermost(at, indent, name) {
  const began = lines.findLastIndex((line, i) => i < at && line === `${indent}# Subtest: ${name}`)
  return began < 0 || !failed.some((each) => each.at > began && each.indent.length > indent.length)
}

function diagnosis(at, indent) {
  const end = lines.findIndex((line, i) => i > at && line === `${indent}  ...`)
  return lines.slice(at, Math.min(end < 0 ? at + 1 : end, at + SHOWN))
}

function print(title, entries) {
  if (entries.length === 0) return
  console.log(`\n${title}:`)
  for (const entry of entries) console.log(`  ${entry}`)
}

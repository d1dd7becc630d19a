// A folder of src/ imports only from itself and from folders above it in this list.
import { readFileSync, readdirSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'

const order = 'core dns balance discovery health access config pool plane server manager api cli'.split(' ')
const rank = (file) => order.indexOf(relative('src', file).split('/')[0])

let wrong = 0
for (const file of readdirSync('src', { recursive: true }).filter((name) => name.endsWith('.ts'))) {
  const path = join('src', file)
  if (rank(path) < 0) wrong += report(path, 'lies outside the layers: ' + order.join(', '))
  for (const [, target] of readFileSync(path, 'utf8').matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)) {
    const imported = join(dirname(path), target)
    if (rank(imported) > rank(path)) wrong += report(path, `imports uphill: ${target}`)
  }
}
process.exitCode = wrong ? 1 : 0

function report(path, message) {
  console.error(`${path}: ${message}`)
  return 1
}

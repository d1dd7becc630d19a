// What one election costs: every kind, 10 to 10,000 backends, and the slowest election after a change.
//
//   npx tsc -p tsconfig.build.json && node --import @tapjs/typescript/import bench/elect.ts

import type { Balancer, BalancerContext, BalancerKind, Electable } from '../src/balance/balancer.ts'

const SIZES = [10, 1000, 10_000]
const built = new URL('../dist/balance/kinds.js', import.meta.url).href
const kinds = (await import(built)) as Record<string, BalancerKind>
const context: BalancerContext = { clock: { now: () => performance.now(), random: Math.random } }
let versions = 0

console.log(row(['kind', ...SIZES.map((size) => `${size} (ns)`), 'after change at 10,000 (slowest, ms)']))
for (const [name, kind] of Object.entries(kinds)) {
  const settings = Object.fromEntries(
    Object.entries(kind.settings).map(([key, schema]) => [key, schema.parse(undefined)]),
  )
  const costs = SIZES.map((size) => electionNs(kind.create(settings, context), pool(size)).toFixed(0))
  console.log(row([name, ...costs, slowestMs(kind.create(settings, context)).toFixed(2)]))
}

function row(cells: string[]): string {
  return cells.map((cell) => cell.padEnd(16)).join('')
}

function pool(size: number): Electable {
  const rows = Int32Array.from({ length: size }, (_, i) => i)
  const port = 8000 + (versions % 1000)
  const text = Array.from(rows, (i) => `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}:${port}`).sort()
  const columns = {
    text,
    weight: new Float64Array(size).map((_, i) => 1 + (i % 3)),
    slots: new Int32Array(size).map(() => Math.random() * 10),
    limit: new Int32Array(size),
    bandwidth: new Float64Array(size).map(Math.random),
  }
  return { rows, members: rows, version: ++versions, has: (row) => row < size, columns }
}

function electionNs(balancer: Balancer, electable: Electable): number {
  warm(balancer, electable)
  const keys = Array.from({ length: 4096 }, client)
  let best = Infinity
  for (let round = 0; round < 5; round++) {
    const began = performance.now()
    let done = 0
    for (; performance.now() - began < 40;) {
      for (let i = 0; i < 64; i++) balancer.elect(keys[done++ & 4095]!, electable)
    }
    best = Math.min(best, ((performance.now() - began) * 1e6) / done)
  }
  return best
}

/** The slowest election after a change; of several changes the best, for other processes take their turns too. */
function slowestMs(balancer: Balancer): number {
  warm(balancer, pool(10_000))
  return Math.min(...Array.from({ length: 7 }, () => slowestAfterChangeMs(balancer, pool(10_000))))
}

function slowestAfterChangeMs(balancer: Balancer, electable: Electable): number {
  let slowest = 0
  for (let i = 0; i < 1000; i++) {
    const key = client()
    const began = performance.now()
    balancer.elect(key, electable)
    slowest = Math.max(slowest, performance.now() - began)
  }
  return slowest
}

function warm(balancer: Balancer, electable: Electable): void {
  for (let i = 0; i < 5000; i++) balancer.elect(client(), electable)
}

function client(): Uint8Array {
  return Uint8Array.from({ length: 4 }, () => Math.random() * 256)
}

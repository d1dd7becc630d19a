// By how much the memory of a proxy grows with what it holds.

import { setTimeout as sleep } from 'node:timers/promises'
import { PLANES, label, startTarget } from './proxies.mjs'
import { byName, interleave } from './rounds.mjs'
import { fixed, median, of, spread, table, verdict } from './statistics.mjs'

const ROUNDS = 3

/** `measure(name)` for every name, a few rounds over. */
export async function grow(names, rounds, say, measure) {
  return byName(names, await interleave(names, Math.min(rounds, ROUNDS), say, measure))
}

/** Starts a proxy afresh, so that no earlier growth hides this one, and gives it time to come to rest. */
export async function startFresh(name, setup) {
  const probe = PLANES.includes(name) ? new URL('gcprobe.mjs', import.meta.url).href : undefined
  const proxy = await startTarget(name, { ...setup, probe })
  await sleep(1_000)
  return { ...proxy, collect: () => probe && proxy.ask() }
}

/** Has a fresh proxy `hold` so many, then more until there are `all`. Growth in KiB for each, the last one in all. */
export async function growth(proxy, { some, all, hold }) {
  const none = await collected(proxy)
  await hold(some)
  const few = await collected(proxy)
  await hold(all)
  const uncollected = await settled(proxy)
  const many = await collected(proxy)
  return { growth: (many - none) / all, further: (many - few) / (all - some), uncollected }
}

async function collected(proxy) {
  await proxy.collect()
  return settled(proxy)
}

/** Resident memory once it has stayed within 1 % for 5 s, or after 40 s. */
async function settled(proxy) {
  let steady = 0
  let last = proxy.residentKiB()
  for (let second = 0; second < 40 && steady < 5; second++) {
    await sleep(1_000)
    const now = proxy.residentKiB()
    steady = Math.abs(now - last) < last / 100 ? steady + 1 : 0
    last = now
  }
  return last
}

/** The table of all rounds; `goals` are those of some names, in KiB for each `what`. */
export function growthTable(results, { what, some, all, goals }) {
  const rows = Object.entries(results).map(([name, runs]) => {
    const [growth, further] = [of(runs, 'growth'), of(runs, 'further')]
    // Neither may hide behind the other: what the start has left over, nor what came late.
    const worse = Math.max(median(growth), median(further))
    return [
      label(name),
      spread(growth, 2),
      spread(further, 2),
      name in goals ? verdict(worse, goals[name]) : '',
      spread(of(runs, 'uncollected').map((kib) => kib / 1024)),
    ]
  })
  const head = [`KiB a ${what}`, `beyond ${fixed(some, 0)}`, 'goal', `MiB in all at ${fixed(all, 0)}`]
  return table(['proxy', ...head], rows)
}

// What a question and its answer cost with more and more sessions: part of the group `udp`.

import { drive } from './datagrams.mjs'
import { RELAY, label, startTarget } from './proxies.mjs'
import { interleave } from './rounds.mjs'
import { fixed, median, of, ratio, ratios, spread, table, verdict } from './statistics.mjs'

/** The cost of a datagram may not grow with these, but for what the kernel's own part grows: that of the relay. */
const COUNTS = [10, 1_000, 12_000]
const GOAL = 1.1
const ROUNDS = 5
/** One may have no more sessions than half of the descriptors of its process. */
const SERVERS = 2

/**
 * Each number of sessions has a proxy to itself, started afresh: sessions of another would still be there, and several
 * proxies at once would run out of local ports.
 */
export async function manySessions(names, { backends, idle, rounds, say }) {
  const places = names.flatMap((name) => COUNTS.map((sessions) => ({ name, sessions })))
  const results = await interleave(places, Math.min(rounds, ROUNDS), say, async ({ name, sessions }) => {
    const servers = name === RELAY ? 1 : SERVERS
    const target = await startTarget(name, { backends, servers, udp: { idle } })
    await drive(target, { sessions, seconds: 0.2 }) // to warm up
    const result = await drive(target, { sessions })
    await target.stop()
    return result
  })
  const costs = results.map((runs) => of(runs, 'cpuUs'))
  return names.map((name, i) => ({ name, costs: costs.slice(i * COUNTS.length, (i + 1) * COUNTS.length) }))
}

export function reportMany(many) {
  const growth = ([first, ...more]) => ratios(more.at(-1), first)
  const relay = growth(many.find(({ name }) => name === RELAY).costs)
  const rows = many.map(({ name, costs }) => {
    const [first, ...more] = costs
    return [
      label(name),
      spread(first, 2),
      ...more.flatMap((cpuUs) => [spread(cpuUs, 2), ratio(cpuUs, first)]),
      name === RELAY ? '' : ratio(growth(costs), relay),
      name === 'native' ? verdict(median(ratios(growth(costs), relay)), GOAL) : '',
    ]
  })
  const [fewest, ...others] = COUNTS.map((sessions) => `${fixed(sessions, 0)} sessions`)
  const head = ['proxy', fewest, ...others.flatMap((count) => [count, 'ratio']), "over the relay's", 'goal']
  return `Processor time for a question and its answer with more and more sessions over two servers, each number with a proxy of its
own, and the ratio to the fewest in the same round. The kernel's own part grows as well, which the relay shows: the goal is
about the last ratio over that of the relay.

${table(head, rows)}`
}

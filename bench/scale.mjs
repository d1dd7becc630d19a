// What a connection costs when there are many backends, access rules or servers.

import { PLANES, PROXIES, label, startOrigin, startTarget } from './proxies.mjs'
import { interleave } from './rounds.mjs'
import { fixed, ratio, spread, table } from './statistics.mjs'
import { drive } from './wrk.mjs'

export const backends = group('backends', [10, 1_000, 10_000], PROXIES, (count, port) => ({
  backends: Array.from(
    { length: count },
    (_, i) => `127.${1 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}:${port}`,
  ),
}))

// nginx looks through its rules one by one, and tells so in its documentation.
export const rules = group('rules', [10, 100_000], ['haproxy', ...PLANES], (count, port) => ({
  backends: [`127.0.0.1:${port}`],
  rules: Array.from(
    { length: count },
    (_, i) => `10.${(i >> 12) & 255}.${(i >> 4) & 255}.${(i & 15) << 4}/28`,
  ),
}))

export const servers = group('servers', [1, 500], PROXIES, (count, port) => ({
  backends: [`127.0.0.1:${port}`],
  servers: count,
}))

/** A group that drives connect, request, close against each proxy at each size; `setup` says how it is set up. */
function group(name, sizes, proxies, setup) {
  return {
    name,
    async run({ rounds, say, chosen }) {
      const origin = await startOrigin()
      const names = chosen(proxies)
      const targets = []
      for (const proxy of names) {
        for (const size of sizes) {
          say(`starting ${proxy} with ${size} ${name}`)
          targets.push(await startTarget(proxy, setup(size, origin.port)))
        }
      }
      const load = { close: true }
      for (const target of targets) await drive(target, { ...load, seconds: 1 }) // to warm up
      const results = await interleave(targets, rounds, say, (target) => drive(target, load))
      for (const each of [...targets, origin]) await each.stop()
      const costs = results.map((runs) => runs.map(({ cpuUs }) => cpuUs))
      return { names, costs }
    },
    report({ names, costs }) {
      const rows = names.map((proxy, i) => {
        const [few, ...more] = costs.slice(i * sizes.length, (i + 1) * sizes.length)
        return [label(proxy), spread(few), ...more.flatMap((many) => [spread(many), ratio(many, few)])]
      })
      const head = sizes.map((size) => `${fixed(size, 0)} ${name}`)
      const grows = head.slice(1).flatMap((title) => [title, 'ratio to the first'])
      return `
Processor time of connect, request, close, in microseconds.

${table(['proxy', head[0], ...grows], rows)}`
    },
  }
}

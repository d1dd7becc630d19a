// Interleaved rounds: what disturbs the machine for a while disturbs every target alike.

/**
 * Runs `once(each)` for all of `list`, up to `rounds` rounds over, beginning with another one every round. Resolves
 * with a list of results for each, in step: the same place is the same round. `say` is told of every round. Goes on
 * with `results` where there are some already.
 */
export async function interleave(list, rounds, say, once, results = list.map(() => [])) {
  for (let round = results[0].length; round < rounds; round++) {
    say(`round ${round + 1} of ${rounds}`)
    for (let i = 0; i < list.length; i++) {
      const at = (round + i) % list.length
      results[at].push(await once(list[at]))
    }
  }
  return results
}

/** The results of a list of names, by name. */
export function byName(names, results) {
  return Object.fromEntries(names.map((name, i) => [name, results[i]]))
}

/** Rounds of a workload whose median lies near its goal, when there are at least so many anyway. */
const MANY = 15
const AT_LEAST = 7
const NEAR = 0.05

/** `interleave`, and on to 15 rounds when `worth(results)` finds a ratio within 5 % of its goal. */
export async function untilClear(list, rounds, say, once, worth) {
  const results = await interleave(list, rounds, say, once)
  const near = worth(results).some(({ value, goal }) => Math.abs(value / goal - 1) <= NEAR)
  if (!near || rounds < AT_LEAST || rounds >= MANY) return results
  say(`within ${NEAR * 100} % of its goal: ${MANY} rounds`)
  return interleave(list, MANY, say, once, results)
}

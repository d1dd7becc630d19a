// Interleaved rounds: what disturbs the machine for a while disturbs every target alike.

/**
 * Runs `once(each)` for all of `list`, `rounds` times over, beginning with another one every round. Resolves with
 * a list of results for each, in step: the same place is the same round. `say` is told of every round.
 */
export async function interleave(list, rounds, say, once) {
  const results = list.map(() => [])
  for (let round = 0; round < rounds; round++) {
    say(`round ${round + 1} of ${rounds}`)
    for (let i = 0; i < list.length; i++) {
      const at = (round + i) % list.length
      results[at].push(await once(list[at]))
    }
  }
  return results
}

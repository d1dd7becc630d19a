// Medians, what they are worth, and how they are written.

/** One figure of every round. */
export function of(rounds, figure) {
  return rounds.map((round) => round[figure])
}

/** Its sum over all rounds. */
export function total(rounds, figure) {
  return of(rounds, figure).reduce((sum, value) => sum + value, 0)
}

/** The middle of some numbers; the mean of the two in the middle when they are even. */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b)
  const half = sorted.length >> 1
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2
}

/** The value below which the share `p` of `sorted` lies. */
export function percentile(sorted, p) {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))]
}

/**
 * Confidence interval of a median from order statistics, without an assumption about the distribution: the
 * narrowest pair of ranks that covers at least 95 %, or the extremes when there are fewer than six values.
 * `covers` is the coverage it really has (David and Nagaraja, Order Statistics, 7.1).
 */
export function interval(values) {
  const sorted = [...values].sort((a, b) => a - b)
  const n = sorted.length
  let rank = 0
  while (coverage(n, rank + 1) >= 0.95) rank++
  return { low: sorted[rank], high: sorted[n - 1 - rank], covers: coverage(n, rank) }
}

/** How often the median lies between the values `rank` places from either end of `n`. */
function coverage(n, rank) {
  if (rank >= n / 2) return 0
  let outside = 0
  for (let k = 0, ways = 1; k <= rank; k++, ways = (ways * (n - k + 1)) / k) outside += ways
  return 1 - outside / 2 ** (n - 1)
}

/** `12.3 (11.9 – 13.0)`: the median and the extremes. */
export function spread(values, digits = 1) {
  const sorted = [...values].sort((a, b) => a - b)
  return `${fixed(median(values), digits)} (${fixed(sorted[0], digits)} – ${fixed(sorted.at(-1), digits)})`
}

/** Each round's value over the same round's value of another. */
export function ratios(values, others) {
  return values.map((value, i) => value / others[i])
}

/** `1.41 [1.38 – 1.46]`: the median of paired ratios and its interval. */
export function ratio(values, others) {
  const paired = ratios(values, others)
  const { low, high } = interval(paired)
  return `${fixed(median(paired), 2)} [${fixed(low, 2)} – ${fixed(high, 2)}]`
}

/** `-0.3 [-0.5 – 0.1]`: the median of what each round's value is above another's, and its interval. */
export function excess(values, others, digits = 0) {
  const paired = differences(values, others)
  const { low, high } = interval(paired)
  return `${fixed(median(paired), digits)} [${fixed(low, digits)} – ${fixed(high, digits)}]`
}

/** Each round's value less the same round's value of another. */
export function differences(values, others) {
  return values.map((value, i) => value - others[i])
}

/** The name whose values have the lowest median; undefined without names. */
export function lowest(names, valuesOf) {
  return [...names].sort((a, b) => median(valuesOf(a)) - median(valuesOf(b)))[0]
}

/** `met` or `not met`, and the goal. */
export function verdict(value, goal) {
  return `${value <= goal ? 'met' : '**not met**'} (≤ ${goal})`
}

export function fixed(value, digits) {
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits })
}

/** `3 of 120,000`: how many were lost of those asked, all rounds together. */
export function lossOf(rounds) {
  return `${fixed(total(rounds, 'lost'), 0)} of ${fixed(total(rounds, 'asked'), 0)}`
}

/** A Markdown table; cells of the first column stand left, the others right. */
export function table(head, rows) {
  const line = (cells) => `| ${cells.join(' | ')} |`
  const rule = head.map((_, i) => (i === 0 ? '---' : '---:'))
  return [head, rule, ...rows].map(line).join('\n')
}

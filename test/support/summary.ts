// Figures of a run that is measured, for its comment.

/** The middle of `values`, which are not empty. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const half = sorted.length / 2
  return (sorted[Math.floor(half - 0.5)]! + sorted[Math.floor(half)]!) / 2
}

/** `median 8.9 ms of 20 (6.3 to 21.5)`. */
export function summary(values: readonly number[]): string {
  const [least, most] = [Math.min(...values), Math.max(...values)]
  return `median ${median(values).toFixed(1)} ms of ${values.length} (${least.toFixed(1)} to ${most.toFixed(1)})`
}

/** Medians and percentiles for figures that tests and the bench print. */

/** The value below which the given share (0 to 1) of the samples lies; NaN without samples. */
export function percentile (samples: readonly number[], share: number): number {
  const sorted = [...samples].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

/** The middle of the samples; the mean of the two middle ones when their count is even. */
export function median (samples: readonly number[]): number {
  const sorted = [...samples].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2
}

/** Prints one measured figure of a test beside the figure that the issue names. */
export function printFigure (what: string, value: number, unit: string, target?: string): void {
  const shown = value >= 100 ? value.toFixed(0) : value.toFixed(2)
  console.log(`figure: ${what}: ${shown} ${unit}${target === undefined ? '' : ` (target ${target})`}`)
}

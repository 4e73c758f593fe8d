// Several measurements of one thing, in a few figures.

export interface Spread {
  readonly mean: number;
  /** Standard deviation of a sample (n − 1); 0 for a single measurement. */
  readonly deviation: number;
  readonly median: number;
  /** In the order in which they were taken. */
  readonly samples: readonly number[];
}

/** @param samples one at least */
export function spreadOf(samples: readonly number[]): Spread {
  const count = samples.length;
  const mean = samples.reduce((sum, value) => sum + value, 0) / count;
  const squares = samples.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const sorted = [...samples].sort((a, b) => a - b);
  const median = (sorted[(count - 1) >> 1]! + sorted[count >> 1]!) / 2;
  return { mean, deviation: count > 1 ? Math.sqrt(squares / (count - 1)) : 0, median, samples };
}

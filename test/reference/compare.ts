// How far two sets of logits are apart, in the measures the project promises.

/** Rows of logits, one a position. */
export type Rows = readonly ArrayLike<number>[];

/** Standard deviation over all values. */
export function deviation(rows: Rows): number {
  let [count, sum, squares] = [0, 0, 0];
  for (const row of rows) {
    for (let i = 0; i < row.length; i++) {
      count++;
      sum += row[i]!;
      squares += row[i]! ** 2;
    }
  }
  return Math.sqrt(squares / count - (sum / count) ** 2);
}

/** Largest |got − wanted| in units of the standard deviation of `wanted`; NaN counts as infinite. */
export function largestDifference(got: Rows, wanted: Rows): number {
  sameShape(got, wanted);
  let largest = 0;
  wanted.forEach((row, r) => {
    for (let i = 0; i < row.length; i++) {
      const difference = Math.abs(got[r]![i]! - row[i]!);
      if (!(difference <= largest)) largest = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
    }
  });
  return largest / deviation(wanted);
}

/** Root mean square of got − wanted in units of the standard deviation of `wanted`; NaN counts as infinite. */
export function meanDifference(got: Rows, wanted: Rows): number {
  sameShape(got, wanted);
  let [count, squares] = [0, 0];
  wanted.forEach((row, r) => {
    for (let i = 0; i < row.length; i++) {
      count++;
      squares += (got[r]![i]! - row[i]!) ** 2;
    }
  });
  return Number.isNaN(squares) ? Number.POSITIVE_INFINITY : Math.sqrt(squares / count) / deviation(wanted);
}

function sameShape(got: Rows, wanted: Rows): void {
  const same = got.length === wanted.length && wanted.every((row, i) => row.length === got[i]!.length);
  if (!same) throw new Error(`logits of ${got.length} × ${got[0]?.length} against ${wanted.length} × ${wanted[0]?.length}`);
}

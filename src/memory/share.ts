// How much of its cap a device uses, compared exactly. Two shares that differ by a byte on
// devices of terabytes are still told apart: near-equal ones are multiplied out in integers.

/** One device's use of its cap. */
export interface Share {
  readonly use: number;
  readonly cap: number;
  /** use / cap as a double or, where caps may be exceeded, use − cap. */
  readonly value: number;
}

/** Negative where a uses less of its cap. */
export function compareRatios(a: Share, b: Share): number {
  const difference = a.value - b.value;
  if (Math.abs(difference) > 1e-12 * (a.value + b.value)) return difference;
  if (a.cap === b.cap) return a.use - b.use;
  return Number(BigInt(a.use) * BigInt(b.cap) - BigInt(b.use) * BigInt(a.cap));
}

/** Negative where a exceeds its cap by less; whole bytes, so exact as they are. */
export function compareOvershoots(a: Share, b: Share): number {
  return a.value - b.value;
}

/** Descending vectors, largest element first; a missing element is below every other. */
export function compareVectors(a: readonly Share[], b: readonly Share[], compare: (a: Share, b: Share) => number): number {
  const common = Math.min(a.length, b.length);
  for (let i = 0; i < common; i++) {
    const order = compare(a[i]!, b[i]!);
    if (order !== 0) return order;
  }
  return a.length - b.length;
}

/** A descending vector with one more element. */
export function insertShare(shares: readonly Share[], share: Share, compare: (a: Share, b: Share) => number): Share[] {
  const sorted = shares.slice();
  let at = sorted.length;
  while (at > 0 && compare(sorted[at - 1]!, share) < 0) at--;
  sorted.splice(at, 0, share);
  return sorted;
}

// How much of its cap a device uses, compared exactly. Two shares that differ by a byte on
// devices of terabytes are still told apart: near-equal ones are multiplied out in integers.

/** use/cap of one device, or, for refusals, how far use exceeds cap. */
export interface Share {
  readonly use: number;
  readonly cap: number;
  /** What is compared first: use/cap rounded to a double, or the exact overshoot in bytes. */
  readonly value: number;
  readonly exact: boolean;
}

export function shareOf(use: number, cap: number, overshoot: boolean): Share {
  return overshoot ? { use, cap, value: use - cap, exact: true } : { use, cap, value: use / cap, exact: false };
}

/** Negative where a is smaller. */
export function compareShares(a: Share, b: Share): number {
  const difference = a.value - b.value;
  if (a.exact || Math.abs(difference) > 1e-12 * (a.value + b.value)) return difference;
  if (a.cap === b.cap) return a.use - b.use;
  return Number(BigInt(a.use) * BigInt(b.cap) - BigInt(b.use) * BigInt(a.cap));
}

// The draw: one uniform number picks a token by the cumulative weights, walked in the order of
// the ids. That order belongs to the result: with the same seed, dropping tokens that were not
// drawn anyway shifts the borders but never shuffles them, and every backend can repeat it.

import { type Candidates, totalWeight } from "./candidates.js";

/**
 * The id whose share of the total weight holds `uniform`.
 *
 * @param uniform in [0, 1)
 */
export function draw(candidates: Candidates, uniform: number): number {
  const { ids, count, weights } = candidates;
  const kept = ids.subarray(0, count);
  if (!ascending(kept)) kept.sort(); // a stage may have shuffled them without dropping any
  const target = uniform * totalWeight(candidates);
  let passed = 0;
  let last = kept[0]!;
  for (const id of kept) {
    const weight = weights[id]!;
    if (weight === 0) continue;
    last = id;
    passed += weight;
    if (passed > target) break; // rounding may leave the end a hair short of the target: then it is the last one
  }
  return last;
}

function ascending(ids: Int32Array): boolean {
  for (let i = 1; i < ids.length; i++) if (ids[i]! < ids[i - 1]!) return false;
  return true;
}

// Whether a backend's logits are right.

import { largestDifference, meanDifference, type Rows } from "../reference/compare.js";
import { referenceLogits } from "../reference/forward.js";
import type { ReferenceModel } from "../reference/model.js";
import { EXACT_LARGEST, QUANTIZED_MEAN } from "./bounds.js";
import type { Misreading } from "./misreadings.js";

/** What is wrong with these logits, or `null`: for backends that compute in f32. */
export function judgeExact(got: Rows, wanted: Rows): string | null {
  const largest = largestDifference(got, wanted);
  return largest <= EXACT_LARGEST ? null : `the largest difference is ${largest} of a standard deviation, not ${EXACT_LARGEST}`;
}

/** The same for backends that quantise activations. */
export function judgeQuantized(
  got: Rows,
  wanted: Rows,
  ids: readonly number[],
  misreadings: readonly Misreading[],
): string | null {
  const mean = meanDifference(got, wanted);
  if (!(mean <= QUANTIZED_MEAN.synthetic))
    return `the mean difference is ${mean} of a standard deviation, not ${QUANTIZED_MEAN.synthetic}`;
  for (const { name, model } of misreadings) {
    const mistaken = logitsOf(model, ids);
    // Some mistakes make no difference to some models (groups that share one scale).
    if (meanDifference(mistaken, wanted) < 1e-6) continue;
    const distance = meanDifference(got, mistaken);
    if (distance <= mean) return `it is nearer to "${name}" (${distance}) than to the truth (${mean})`;
  }
  return null;
}

/** Of each misreading once, however many answers are judged by it. */
const known = new WeakMap<ReferenceModel, { readonly ids: string; readonly rows: Rows }>();

function logitsOf(model: ReferenceModel, ids: readonly number[]): Rows {
  const found = known.get(model);
  if (found?.ids === ids.join()) return found.rows;
  const rows = referenceLogits(model, ids);
  known.set(model, { ids: ids.join(), rows });
  return rows;
}

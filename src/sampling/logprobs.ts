// Log-probabilities under the plain logits: temperature 1, no penalty, nothing dropped.

import { selectBest } from "./candidates.js";
import { LogitsError } from "./errors.js";

/**
 * The largest logit.
 *
 * @throws {LogitsError} for NaN, +∞, or nothing above −∞
 */
export function largestLogit(logits: Float32Array | Float64Array): number {
  let largest = -Infinity;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id]!;
    if (!(logit < Infinity)) throw new LogitsError(`id ${id} has ${logit}`, { id, value: String(logit) });
    if (logit > largest) largest = logit;
  }
  if (largest === -Infinity) {
    throw new LogitsError(logits.length === 0 ? "there are none" : "all are −∞", { vocabSize: logits.length });
  }
  return largest;
}

/** What turns a logit into a log-probability: logit − largest − logSum. */
export interface LogitSums {
  readonly largest: number;
  /** log Σ exp(logit − largest) */
  readonly logSum: number;
  /** The first id that has the largest logit, where whoever made the sums looked for it. */
  readonly largestId?: number;
}

/** Throws as {@link largestLogit} does. */
export function logitSums(logits: Float32Array): LogitSums {
  const largest = largestLogit(logits);
  return { largest, logSum: logOfSum(logits, largest) };
}

/** Log-probability of `id`; throws as {@link largestLogit} does. */
export function logSoftmaxAt(logits: Float32Array, id: number): number {
  const { largest, logSum } = logitSums(logits);
  return logits[id]! - largest - logSum;
}

/** The `count` most likely ids, best first, the lowest id among equals; throws as {@link largestLogit} does. */
export function topLogprobs(logits: Float32Array, count: number): { id: number; logprob: number }[] {
  if (count <= 0) return [];
  const { largest, logSum } = logitSums(logits);
  const ids = Int32Array.from(logits, (_, id) => id);
  const kept = count < ids.length ? selectBest(ids, ids.length, logits, null, count) : ids.length;
  return Array.from(ids.subarray(0, kept))
    .sort((a, b) => logits[b]! - logits[a]! || a - b)
    .map((id) => ({ id, logprob: logits[id]! - largest - logSum }));
}

/** log Σ exp(logit − largest) */
function logOfSum(logits: Float32Array, largest: number): number {
  let sum = 0;
  for (let id = 0; id < logits.length; id++) sum += Math.exp(logits[id]! - largest);
  return Math.log(sum);
}

// Penalties, biases and bans as a short list of changes, for backends whose logits lie where the
// host does not reach: one entry per id, in place of a pass over the vocabulary. The token mask
// is not among them: it may name every id.

import type { SampleRequest } from "./parameters.js";
import { visitOccurring, visitRepeated } from "./penalties.js";

/** What happens to one id's logit: `logit > 0 ? logit / factor : logit * factor`, then `+ add`. */
export interface Adjustment {
  factor: number;
  /** −∞: never chosen. */
  add: number;
}

/** The changes that a request makes before mask and temperature, by id; every id lies in the vocabulary. */
export function collectAdjustments(
  { parameters, history, promptLength }: SampleRequest,
  vocabSize: number,
): Map<number, Adjustment> {
  const changes = new Map<number, Adjustment>();
  const change = (id: number): Adjustment => {
    const known = changes.get(id);
    if (known) return known;
    const fresh = { factor: 1, add: 0 };
    changes.set(id, fresh);
    return fresh;
  };
  const scratch = scratchFor(vocabSize);
  visitRepeated(vocabSize, history, parameters, scratch, (id, strength) => {
    change(id).factor = strength;
  });
  for (const [id, bias] of parameters.logitBias) if (id < vocabSize) change(id).add += bias;
  visitOccurring(vocabSize, history.subarray(promptLength), parameters, scratch, (id, penalty) => {
    change(id).add -= penalty;
  });
  for (const id of parameters.bannedIds) if (id < vocabSize) change(id).add = -Infinity;
  return changes;
}

let latest = new Int32Array();

/** All zero between uses. */
function scratchFor(vocabSize: number): Int32Array {
  if (latest.length !== vocabSize) latest = new Int32Array(vocabSize);
  return latest;
}

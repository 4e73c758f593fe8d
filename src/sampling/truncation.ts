// The stages that drop unlikely tokens, in the order in which they run. Each leaves at least
// one token and is skipped by its caller when its parameter switches it off.

import { type Candidates, selectBest, totalWeight } from "./candidates.js";

/** Keeps the `k` largest logits; the lowest ids among equals. Needs no weights. */
export function keepTopK(candidates: Candidates, k: number): void {
  if (k >= candidates.count) return;
  candidates.count = selectBest(candidates.ids, candidates.count, candidates.logits, null, k);
}

/**
 * Nucleus sampling (Holtzman et al. 2020): the most likely tokens until their share reaches
 * `p`, the one that crosses included.
 */
export function keepTopP(candidates: Candidates, p: number): void {
  const { ids, count, logits, weights } = candidates;
  candidates.count = selectBest(ids, count, logits, weights, p * totalWeight(candidates));
}

/** Keeps tokens at least `share` times as likely as the best one, whose weight is 1. */
export function keepMinP(candidates: Candidates, share: number): void {
  const { ids, weights } = candidates;
  let kept = 0;
  for (let i = 0; i < candidates.count; i++) if (weights[ids[i]!]! >= share) ids[kept++] = ids[i]!;
  candidates.count = kept;
}

/**
 * Locally typical sampling (Meister et al. 2022): the tokens whose surprisal is nearest the
 * entropy, until their share reaches `mass`, the one that crosses included; the lowest id
 * among equally near ones.
 *
 * @param nearness scratch, `[vocab]`
 */
export function keepTypical(candidates: Candidates, mass: number, nearness: Float64Array): void {
  const { ids, count, weights } = candidates;
  const total = totalWeight(candidates);
  let entropy = 0;
  for (let i = 0; i < count; i++) {
    const probability = weights[ids[i]!]! / total;
    if (probability > 0) entropy -= probability * Math.log(probability);
  }
  for (let i = 0; i < count; i++) {
    const id = ids[i]!;
    nearness[id] = -Math.abs(-Math.log(weights[id]! / total) - entropy);
  }
  candidates.count = selectBest(ids, count, nearness, weights, mass * total);
}

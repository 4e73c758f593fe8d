// The tokens that are still in the running, and the one operation that narrows them: keep the
// best few, by count or by mass. It is a quickselect, so a vocabulary of 128k is never sorted.

/** Kept tokens; all arrays are `[vocab]`, reused from token to token. */
export interface Candidates {
  /** The first `count` are kept, in no particular order. */
  readonly ids: Int32Array;
  count: number;
  /** Adjusted logits by id. */
  readonly logits: Float64Array;
  /** Probability by id, up to a common factor: the best token has 1. Only kept ids are current. */
  readonly weights: Float64Array;
}

/** Puts every id above −∞ in the running. */
export function gather(candidates: Candidates): void {
  const { ids, logits } = candidates;
  let count = 0;
  for (let id = 0; id < logits.length; id++) if (logits[id]! > -Infinity) ids[count++] = id;
  candidates.count = count;
}

/** weight = exp((logit − best) / temperature): a softmax without its division. */
export function weigh({ ids, count, logits, weights }: Candidates, best: number, temperature: number): void {
  for (let i = 0; i < count; i++) {
    const id = ids[i]!;
    weights[id] = Math.exp((logits[id]! - best) / temperature);
  }
}

/** Sum of the kept weights. */
export function totalWeight({ ids, count, weights }: Candidates): number {
  let total = 0;
  for (let i = 0; i < count; i++) total += weights[ids[i]!]!;
  return total;
}

/**
 * Brings to the front of `ids[0 … count)` the smallest set of best ids (largest key first, the
 * lowest id among equals) whose weights reach `goal`, and says how many they are; all of them
 * when the goal is never reached.
 *
 * @param key by id
 * @param weights by id, none negative; `null`: every id weighs 1, so that `goal` is a count
 */
export function selectBest(
  ids: Int32Array,
  count: number,
  key: Float64Array | Float32Array,
  weights: Float64Array | null,
  goal: number,
): number {
  // The end of the set lies in [low, high); everything before `low` belongs to it and weighs `reached`.
  let low = 0;
  let high = count;
  let reached = 0;
  let random = 0x2545f491; // any pivot is right; a scattered one is quick on sorted keys too
  while (low < high) {
    random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
    const pivotAt = low + (random % (high - low));
    const pivot = ids[pivotAt]!;
    const pivotKey = key[pivot]!;
    ids[pivotAt] = ids[high - 1]!;
    let split = low;
    let before = 0;
    for (let i = low; i < high - 1; i++) {
      const id = ids[i]!;
      const idKey = key[id]!;
      if (idKey > pivotKey || (idKey === pivotKey && id < pivot)) {
        before += weights === null ? 1 : weights[id]!;
        ids[i] = ids[split]!;
        ids[split++] = id;
      }
    }
    ids[high - 1] = ids[split]!;
    ids[split] = pivot;
    if (split > low && reached + before >= goal) {
      high = split;
      continue;
    }
    reached += before + (weights === null ? 1 : weights[pivot]!);
    if (reached >= goal) return split + 1;
    low = split + 1;
  }
  return high;
}

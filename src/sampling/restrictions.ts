// Wishes and prohibitions for single ids: logit bias, the token mask of a grammar, banned ids.
// They change logits in place, `[vocab]` f64; −∞ means never.

/** Adds each bias to its id's logit; an id named twice gets both. */
export function applyLogitBias(logits: Float64Array, bias: ReadonlyArray<readonly [id: number, bias: number]>): void {
  for (const [id, value] of bias) if (id < logits.length) logits[id]! += value;
}

/**
 * Leaves only the ids whose bit is set. A mask may be shorter than the vocabulary (models pad
 * theirs beyond the tokenizer's): ids past its end are not allowed.
 *
 * @param mask bit id % 32 of word id / 32, lowest bit first
 */
export function applyMask(logits: Float64Array, mask: Uint32Array): void {
  for (let first = 0; first < logits.length; first += 32) {
    const word = mask[first >>> 5] ?? 0;
    if (word === 0xffffffff) continue;
    const end = Math.min(logits.length, first + 32);
    for (let id = first; id < end; id++) if (((word >>> (id - first)) & 1) === 0) logits[id] = -Infinity;
  }
}

/** Sets the logits of these ids to −∞. */
export function banIds(logits: Float64Array, bannedIds: readonly number[]): void {
  for (const id of bannedIds) if (id < logits.length) logits[id] = -Infinity;
}

// What of a proposal stands. The model itself chooses a token at every proposed position, with
// the seed, the position and the history that plain decoding would have there; a proposed id
// stands while it is the model's own choice. So speculation changes how many tokens a step
// yields and never which: greedy answers are the same by definition, and sampled ones because a
// draw depends on (seed, position) alone. That holds wherever a step's arithmetic does not
// depend on how many tokens it feeds (the CPU backend); elsewhere it holds as far as batches do.

/**
 * The ids that one step has yielded: those of the proposal that stand, and behind them the
 * model's own.
 *
 * @param proposed ids that were fed on trust, none or more
 * @param chosen the model's choice after the last certain id, and after each proposed one
 */
export function yieldedIds(proposed: readonly number[], chosen: readonly number[]): number[] {
  let standing = 0;
  while (standing < proposed.length && proposed[standing] === chosen[standing]) standing++;
  return chosen.slice(0, standing + 1);
}

// The order in which a GPTQ linear's inputs are stored: sorted by their group, so that a
// group's inputs are neighbours whatever g_idx says. From the sorted groups follows whether
// blocks hold (every group begins at a block), or segments are needed.

import { TensorContentsError } from "./errors.js";

export interface InputOrder {
  /** Position → input; `null`: as they come. */
  readonly permutation: Int32Array | null;
  /** First position of each group, and the end: [groups + 1]. */
  readonly starts: Int32Array;
}

/** Inputs as they come, `groupSize` to a group. */
export function sequentialOrder(inputs: number, groups: number, groupSize: number): InputOrder {
  return { permutation: null, starts: Int32Array.from({ length: groups + 1 }, (_, g) => Math.min(inputs, g * groupSize)) };
}

/**
 * Inputs sorted by group, within a group as they come.
 *
 * @param gIdx group of each input
 * @throws {TensorContentsError} when an input names a group that does not exist
 */
export function orderByGroup(tensor: string, gIdx: Int32Array, groups: number): InputOrder {
  const starts = new Int32Array(groups + 1);
  let sorted = true;
  for (let k = 0; k < gIdx.length; k++) {
    const group = gIdx[k]!;
    if (group < 0 || group >= groups)
      throw new TensorContentsError(tensor, `gives input ${k} group ${group}, where there are ${groups}`);
    starts[group + 1]!++;
    if (k > 0 && group < gIdx[k - 1]!) sorted = false;
  }
  for (let group = 0; group < groups; group++) starts[group + 1]! += starts[group]!;
  if (sorted) return { permutation: null, starts };
  const next = starts.slice();
  const permutation = new Int32Array(gIdx.length);
  for (let k = 0; k < gIdx.length; k++) permutation[next[gIdx[k]!]!++] = k;
  return { permutation, starts };
}

/** Whether every group that has inputs begins at a multiple of `blockSize`. */
export function fitsBlocks({ starts }: InputOrder, blockSize: number): boolean {
  for (let group = 0; group + 1 < starts.length; group++)
    if (starts[group + 1]! > starts[group]! && starts[group]! % blockSize !== 0) return false;
  return true;
}

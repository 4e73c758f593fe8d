// What a g_idx means for the kernels: nothing (inputs come in the order of their groups), or a
// permutation that sorts them, after which every group is whole and as long as the others.

import { orderByGroup } from "../cpu/input-order.js";
import { IrregularActOrderError } from "./errors.js";

export interface ActOrder {
  /** Input that stands at each sorted place, i32 [in]. */
  readonly permutation: Int32Array<ArrayBuffer>;
  /** Place of each input, i32 [in rounded up to 32]; what is beyond the inputs stays where it is. */
  readonly inverse: Int32Array<ArrayBuffer>;
}

/**
 * @param gIdx group of each input
 * @returns `null` where inputs come in order
 * @throws {IrregularActOrderError} groups of unequal length
 * @throws {TensorContentsError} a group that does not exist
 */
export function actOrder(tensor: string, gIdx: Int32Array, groups: number, groupSize: number): ActOrder | null {
  const { permutation, starts } = orderByGroup(tensor, gIdx, groups);
  for (let group = 0; group < groups; group++) {
    const rows = starts[group + 1]! - starts[group]!;
    const whole = Math.min(groupSize, gIdx.length - group * groupSize);
    if (rows !== whole) throw new IrregularActOrderError(tensor, group, rows, whole);
  }
  if (permutation === null) return null;
  const inverse = Int32Array.from({ length: Math.ceil(gIdx.length / 32) * 32 }, (_, i) => i);
  permutation.forEach((input, place) => {
    inverse[input] = place;
  });
  return { permutation: Int32Array.from(permutation), inverse };
}

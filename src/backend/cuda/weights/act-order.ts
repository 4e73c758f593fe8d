// What a g_idx means for the kernels: nothing (inputs come in the order of their groups), a
// permutation that sorts them, after which every group is whole and as long as the others; or,
// where groups have unequal lengths, no order at all, and every input is asked for its group.

import { orderByGroup } from "../../input-order.js";

export type ActOrder =
  | { readonly kind: "sequential" }
  | {
      readonly kind: "sorted";
      /** Input that stands at each sorted place, i32 [in]. */
      readonly permutation: Int32Array<ArrayBuffer>;
      /** Place of each input, i32 [in rounded up to 32]; what is beyond the inputs stays where it is. */
      readonly inverse: Int32Array<ArrayBuffer>;
    }
  | { readonly kind: "irregular" };

/**
 * @param gIdx group of each input
 * @throws {TensorContentsError} a group that does not exist
 */
export function actOrder(tensor: string, gIdx: Int32Array, groups: number, groupSize: number): ActOrder {
  const { permutation, starts } = orderByGroup(tensor, gIdx, groups);
  for (let group = 0; group < groups; group++)
    if (starts[group] !== Math.min(group * groupSize, gIdx.length)) return { kind: "irregular" };
  if (permutation === null) return { kind: "sequential" };
  const inverse = Int32Array.from({ length: Math.ceil(gIdx.length / 32) * 32 }, (_, i) => i);
  permutation.forEach((input, place) => {
    inverse[input] = place;
  });
  return { kind: "sorted", permutation: Int32Array.from(permutation), inverse };
}

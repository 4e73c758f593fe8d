// GPTQ codes → f32, for the exact path: w[n, k] = (code − zero) · scale, every factor exactly as
// stored, the product rounded once. A slab is some whole rows of `qweight`: input rows firstRow …
// firstRow + rows − 1, firstRow a multiple of 32, which fill whole words. 32 inputs at a time of one
// output after the other: the words of neighbours lie side by side, and what is written fills lines.

import { elementAt } from "./pack-scales";

/** Code `index` of a stream of words that lie `stride` bytes apart, lowest bits first. */
// @ts-ignore: decorator
@inline
function codeAt(words: usize, stride: usize, index: i32, bits: i32, mask: i32): i32 {
  const bit = index * bits, shift = bit & 31;
  const word = words + <usize>(bit >> 5) * stride;
  let value = load<u32>(word) >>> shift;
  if (shift + bits > 32) value |= load<u32>(word + stride) << (32 - shift);
  return <i32>value & mask;
}

/**
 * Dequantises output columns from … until − 1 of a slab.
 *
 * @param slab i32 `[rows · bits / 32, out]`
 * @param offset 1 where zeros are stored less 1 in `bits` bits (v1: a zero of 0 has become all ones), else 0
 * @param scales `[groups, out]` of `dtype`
 * @param zeros i32 `[groups, out · bits / 32]`
 * @param gIdx i32 `[inputs]`, each below `groups`, or 0: k / groupSize
 * @param to f32 `[out, inputs]`
 */
export function dequantize_columns(
  slab: usize, bits: i32, offset: i32, out: i32, inputs: i32, firstRow: i32, rows: i32, scales: usize, dtype: i32,
  zeros: usize, gIdx: usize, groupSize: i32, to: usize, from: i32, until: i32,
): void {
  const mask = (1 << bits) - 1;
  const zeroBytes = <usize>((out * bits) >> 5) << 2, stride = <usize>out << 2;
  for (let unit = 0; unit < rows; unit += 32) {
    const first = firstRow + unit, end = min(firstRow + rows, first + 32);
    for (let n = from; n < until; n++) {
      const words = slab + (<usize>n << 2);
      const row = to + ((<usize>n * <usize>inputs) << 2);
      let group = -1, groupEnd = first, zero = 0;
      let scale: f32 = 0;
      for (let k = first; k < end; k++) {
        let wanted = group;
        if (gIdx != 0) wanted = load<i32>(gIdx + (<usize>k << 2));
        else if (k >= groupEnd) {
          wanted = k / groupSize;
          groupEnd = (wanted + 1) * groupSize;
        }
        if (wanted != group) {
          group = wanted;
          scale = elementAt(scales, group * out + n, dtype);
          zero = (codeAt(zeros + <usize>group * zeroBytes, 4, n, bits, mask) + offset) & mask;
        }
        store<f32>(row + (<usize>k << 2), <f32>(codeAt(words, stride, k - firstRow, bits, mask) - zero) * scale);
      }
    }
  }
}

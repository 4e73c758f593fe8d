// y[m, out] = W x + bias for weights of at most 4 bits and int8 activations, for a range of
// tiles of 16 outputs. A single token streams the weights (nibble-rows.ts); more of them meet
// blocks that are unpacked once (nibble-products.ts). Both ways give the same bits.

import { product } from "./nibble-products";
import { rows } from "./nibble-rows";

/**
 * Tiles tileFrom … tileTo − 1 of a nibble linear in the record form with f16 scales.
 *
 * @param buffer activations that `quantize_records` wrote for `m` tokens
 * @param bias f32 [out, padded to 16], or 0
 * @param y f32 [m, ldy]; only the outputs of these tiles are written
 * @param add 1: y += instead of y =
 */
export function linear_nibbles_f16(
  weights: usize, tileBytes: usize, blocks: i32, blockSize: i32, buffer: usize, m: i32, bias: usize, y: usize, ldy: i32,
  out: i32, tileFrom: i32, tileTo: i32, add: i32,
): void {
  if (m == 1) rows<u16>(true, weights, tileBytes, blocks, blockSize, buffer, bias, y, out, tileFrom, tileTo, add);
  else product<u16>(true, weights, tileBytes, blocks, blockSize, buffer, m, bias, y, ldy, out, tileFrom, tileTo, add);
}

/** The same with f32 scales. */
export function linear_nibbles_f32(
  weights: usize, tileBytes: usize, blocks: i32, blockSize: i32, buffer: usize, m: i32, bias: usize, y: usize, ldy: i32,
  out: i32, tileFrom: i32, tileTo: i32, add: i32,
): void {
  if (m == 1) rows<f32>(true, weights, tileBytes, blocks, blockSize, buffer, bias, y, out, tileFrom, tileTo, add);
  else product<f32>(true, weights, tileBytes, blocks, blockSize, buffer, m, bias, y, ldy, out, tileFrom, tileTo, add);
}

/** With f16 scales and no zeros: all of them are 8. */
export function linear_symmetric_f16(
  weights: usize, tileBytes: usize, blocks: i32, blockSize: i32, buffer: usize, m: i32, bias: usize, y: usize, ldy: i32,
  out: i32, tileFrom: i32, tileTo: i32, add: i32,
): void {
  if (m == 1) rows<u16>(false, weights, tileBytes, blocks, blockSize, buffer, bias, y, out, tileFrom, tileTo, add);
  else product<u16>(false, weights, tileBytes, blocks, blockSize, buffer, m, bias, y, ldy, out, tileFrom, tileTo, add);
}

// y[m, out] = W x + bias for 8-bit weights and int16 activations (±511), the same with and
// without relaxed SIMD: products of i16 pairs go straight into i32 (511 · 255 · 128 < 2^24,
// so that sums stay exact as f32 too). Few tokens stream the weights (byte-rows.ts), many meet them
// block by block (byte-products.ts); the bits are the same.

import { product } from "./byte-products";
import { rows } from "./byte-rows";
import { BYTES_HEAD } from "./quantized-rows";

const PRODUCT_FROM: i32 = 4;

/**
 * Tiles tileFrom … tileTo − 1 of a byte linear in the record form, f32 scales; as
 * `linear_nibbles_f16`, but a weight is (code − zero) · scale.
 */
export function linear_bytes(
  weights: usize, tileBytes: usize, blocks: i32, blockSize: i32, buffer: usize, m: i32, bias: usize, y: usize, ldy: i32,
  out: i32, tileFrom: i32, tileTo: i32, add: i32,
): void {
  if (m < PRODUCT_FROM) rows(weights, tileBytes, blocks, blockSize, buffer, m, bias, y, ldy, out, tileFrom, tileTo, add);
  else product(weights, tileBytes, blocks, blockSize, buffer, m, bias, y, ldy, out, tileFrom, tileTo, add);
}

/** One weight row in f32, for embeddings that share the head's codes: to f32 [inputs]. */
export function gather_row_bytes(
  weights: usize, tileBytes: usize, blocks: i32, blockSize: i32, row: i32, inputs: i32, to: usize,
): void {
  const r = row & 15;
  let record = weights + <usize>(row >> 4) * tileBytes;
  for (let block = 0; block < blocks; block++) {
    const scale = load<f32>(record + (<usize>r << 2));
    const zero = <i32>load<u8>(record + 64 + r);
    const codes = record + BYTES_HEAD + (<usize>r << 1);
    const first = block * blockSize, count = min(blockSize, inputs - first);
    for (let k = 0; k < count; k++) {
      const code = <i32>load<u8>(codes + (<usize>(k >> 1) << 5) + (k & 1));
      store<f32>(to + (<usize>(first + k) << 2), <f32>(code - zero) * scale);
    }
    record += BYTES_HEAD + (<usize>blockSize << 4);
  }
}

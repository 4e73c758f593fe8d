// Weights kept as numbers, rounded to bytes on the way in: per row and block the scale is the
// largest magnitude / 127 and the code round(w / scale) + 128, in the byte form with zero 128.

import { DTYPE_BF16, DTYPE_F16, DTYPE_F32, dtypeBytes, elementAt } from "./pack-scales";
import { BYTES_HEAD, largerMagnitude, largestMagnitude, widenF16 } from "./quantized-rows";

const ROUND: f32 = 12582912.0; // 1.5 · 2^23
const ROUND_BITS: i32 = 0x4b400000;

/** Weights k … k + 3 of a row as f32, 0 from `inputs` on; infinite or NaN f16 as an f32 NaN. */
// @ts-ignore: decorator
@inline
function weightsAt(row: usize, k: i32, inputs: i32, dtype: i32): v128 {
  if (k + 4 > inputs) return someWeights(row, k, inputs, dtype);
  if (dtype == DTYPE_F32) return v128.load(row + (<usize>k << 2));
  const from = row + (<usize>k << 1);
  if (dtype == DTYPE_BF16) return i32x4.shl(v128.load16x4_u(from), 16);
  return widenAny(v128.load16x4_s(from));
}

/** f16 → f32 with its largest exponent kept as infinity or NaN. */
// @ts-ignore: decorator
@inline
function widenAny(v: v128): v128 {
  const special = i32x4.eq(v128.and(v, i32x4.splat(0x7c00)), i32x4.splat(0x7c00));
  return v128.or(widenF16(v), v128.and(special, i32x4.splat(0x7fc00000)));
}

function someWeights(row: usize, k: i32, inputs: i32, dtype: i32): v128 {
  let v = i32x4.splat(0);
  const from = row + <usize>k * dtypeBytes(dtype), count = inputs - k;
  if (count > 0) v = i32x4.replace_lane(v, 0, weightBits(from, 0, dtype));
  if (count > 1) v = i32x4.replace_lane(v, 1, weightBits(from, 1, dtype));
  if (count > 2) v = i32x4.replace_lane(v, 2, weightBits(from, 2, dtype));
  return dtype == DTYPE_F16 ? widenAny(v) : v;
}

/** f32 bits; for f16 its own bits, sign-extended. */
// @ts-ignore: decorator
@inline
function weightBits(from: usize, index: usize, dtype: i32): i32 {
  if (dtype == DTYPE_F32) return load<i32>(from + (index << 2));
  if (dtype == DTYPE_BF16) return <i32>load<u16>(from + (index << 1)) << 16;
  return <i32>load<i16>(from + (index << 1));
}

/** Index of the first NaN or infinite weight of a row that has one. */
function firstBad(row: usize, dtype: i32, inputs: i32): i32 {
  let k = 0;
  while (k < inputs && isFinite<f32>(elementAt(row, k, dtype))) k++;
  return k;
}

/** Returns 0, or 1 + the index in the row of a NaN or infinite weight. */
function packRow(row: usize, dtype: i32, inputs: i32, first: i32, blockSize: i32, record: usize, r: i32): i32 {
  let most = i32x4.splat(0);
  for (let k = first; k < first + blockSize; k += 4) most = largerMagnitude(most, weightsAt(row, k, inputs, dtype));
  const max = largestMagnitude(most);
  if (!isFinite<f32>(max)) return firstBad(row, dtype, inputs) + 1;
  const tiny = max < 1e-30;
  store<f32>(record + (<usize>r << 2), tiny ? 0 : max / 127);
  store<u8>(record + 64 + r, 128);
  const factor = f32x4.splat(tiny ? 0 : 127 / max);
  let to = record + BYTES_HEAD + (<usize>r << 1);
  for (let k = first; k < first + blockSize; k += 4) {
    const v = f32x4.add(f32x4.mul(weightsAt(row, k, inputs, dtype), factor), f32x4.splat(ROUND));
    const codes = i32x4.sub(v, i32x4.splat(ROUND_BITS - 128));
    const pairs = v128.shuffle<i8>(codes, codes, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
    store<u16>(to, <u16>i16x8.extract_lane_u(pairs, 0));
    store<u16>(to, <u16>i16x8.extract_lane_u(pairs, 1), 32);
    to += 64;
  }
  return 0;
}

/**
 * Rounds and packs the rows of tiles tileFrom … tileTo − 1 that lie in the slab.
 *
 * @param slab `[rows, inputs]` of `dtype`, beginning with output row firstRow (a multiple of 16)
 * @returns 0, or 1 + the index in the slab of a NaN or infinite weight
 */
export function pack_plain(
  slab: usize, dtype: i32, firstRow: i32, inputs: i32, out: i32, weights: usize, tileBytes: usize, blocks: i32,
  blockSize: i32, tileFrom: i32, tileTo: i32,
): i32 {
  const rowBytes = <usize>inputs * dtypeBytes(dtype);
  for (let tile = tileFrom; tile < tileTo; tile++) {
    for (let n = tile << 4; n < min(out, (tile + 1) << 4); n++) {
      const row = slab + <usize>(n - firstRow) * rowBytes;
      let record = weights + <usize>tile * tileBytes;
      for (let block = 0; block < blocks; block++) {
        const bad = packRow(row, dtype, inputs, block * blockSize, blockSize, record, n & 15);
        if (bad) return (n - firstRow) * inputs + bad;
        record += BYTES_HEAD + (<usize>blockSize << 4);
      }
    }
  }
  return 0;
}

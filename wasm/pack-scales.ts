// Scales and zeros of GPTQ linears on their way into the tiles. A slab is some whole rows
// (groups) of `scales` or `qzeros`; where each group goes says `places`, i32 [groups + 1]:
// group g fills places[g] … places[g + 1] − 1, a place being a record (a group may cover
// several, or none) or, in the segmented form, the group's own. Zeros of padded rows are 0.

import { widenF16 } from "./quantized-rows";

/** Element types of tensors, as the host numbers them. */
export const DTYPE_F16: i32 = 0;
export const DTYPE_BF16: i32 = 1;
export const DTYPE_F32: i32 = 2;

/** One element as f32. */
// @ts-ignore: decorator
@inline
export function elementAt(from: usize, index: i32, dtype: i32): f32 {
  if (dtype == DTYPE_F32) return load<f32>(from + (<usize>index << 2));
  const bits = load<u16>(from + (<usize>index << 1));
  if (dtype == DTYPE_BF16) return reinterpret<f32>(<u32>bits << 16);
  if ((bits & 0x7c00) == 0x7c00) return (bits & 0x3ff) != 0 ? NaN : (bits & 0x8000) != 0 ? -Infinity : Infinity;
  return f32x4.extract_lane(widenF16(i32x4.splat(<i32>(<i16>bits))), 0);
}

/** Bytes of an element. */
// @ts-ignore: decorator
@inline
export function dtypeBytes(dtype: i32): usize {
  return dtype == DTYPE_F32 ? 4 : 2;
}

/**
 * Packs scales of groups groupFrom … groupTo − 1 into tiles tileFrom … tileTo − 1.
 *
 * @param slab `[groupTo − groupFrom, out]` of `dtype`
 * @param to offset of a tile's first scales in the weights region; stride to the next tile `tileBytes`, to the next place `placeBytes`
 * @param half 1: f16 stays f16; 0: stored as f32
 * @returns 0, or 1 + the index in the slab of a NaN or infinite scale
 */
export function pack_scales(
  slab: usize, dtype: i32, out: i32, groupFrom: i32, groupTo: i32, places: usize, to: usize, tileBytes: usize,
  placeBytes: usize, half: i32, tileFrom: i32, tileTo: i32,
): i32 {
  for (let group = groupFrom; group < groupTo; group++) {
    const row = (group - groupFrom) * out;
    const first = load<i32>(places + (<usize>group << 2)), end = load<i32>(places + (<usize>group << 2), 4);
    for (let tile = tileFrom; tile < tileTo; tile++) {
      for (let r = 0; r < 16; r++) {
        const n = (tile << 4) + r;
        const value: f32 = n < out ? elementAt(slab, row + n, dtype) : 0;
        if (!isFinite<f32>(value)) return row + n + 1;
        let place = to + <usize>tile * tileBytes + <usize>first * placeBytes;
        for (let i = first; i < end; i++) {
          if (half) store<u16>(place + (<usize>r << 1), n < out ? load<u16>(slab + (<usize>(row + n) << 1)) : 0);
          else store<f32>(place + (<usize>r << 2), value);
          place += placeBytes;
        }
      }
    }
  }
  return 0;
}

/**
 * Packs zeros of groups groupFrom … groupTo − 1, each as a byte: (stored + `offset`) mod 2^bits. GPTQ v1
 * stores zero − 1 in `bits` bits, so that a zero of 0 has become all ones there.
 *
 * @param slab i32 `[groupTo − groupFrom, ceil(out·bits/32)]`: values in a row are one stream of bits, lowest first
 * @param to offset of the first tile's first zeros
 */
export function pack_zeros(
  slab: usize, bits: i32, offset: i32, out: i32, groupFrom: i32, groupTo: i32, places: usize, to: usize, tileBytes: usize,
  placeBytes: usize, tileFrom: i32, tileTo: i32,
): void {
  const rowBytes = (<usize>((out * bits + 31) >> 5)) << 2;
  const mask = (1 << bits) - 1;
  for (let group = groupFrom; group < groupTo; group++) {
    const row = slab + <usize>(group - groupFrom) * rowBytes;
    const first = load<i32>(places + (<usize>group << 2)), end = load<i32>(places + (<usize>group << 2), 4);
    for (let tile = tileFrom; tile < tileTo; tile++) {
      for (let r = 0; r < 16; r++) {
        const n = (tile << 4) + r;
        const zero = n < out ? (bitsAt(row, n * bits, bits) + offset) & mask : 0;
        let place = to + <usize>tile * tileBytes + <usize>first * placeBytes + r;
        for (let i = first; i < end; i++) {
          store<u8>(place, <u8>zero);
          place += placeBytes;
        }
      }
    }
  }
}

/** Bits from `bit` on of a stream of words; more than `count` may come. */
// @ts-ignore: decorator
@inline
function bitsAt(from: usize, bit: i32, count: i32): u32 {
  const word = from + (<usize>(bit >> 5) << 2), shift = bit & 31;
  let value = load<u32>(word) >>> shift;
  if (shift + count > 32) value |= load<u32>(word, 4) << (32 - shift);
  return value;
}

/**
 * Bias of tiles tileFrom … tileTo − 1 as f32, padded rows 0.
 *
 * @param from `[out]` of `dtype`
 * @param to f32 [tiles · 16]
 * @returns 0, or 1 + the index of a NaN or infinite value
 */
export function pack_bias(from: usize, dtype: i32, out: i32, to: usize, tileFrom: i32, tileTo: i32): i32 {
  for (let n = tileFrom << 4; n < tileTo << 4; n++) {
    const value: f32 = n < out ? elementAt(from, n, dtype) : 0;
    if (!isFinite<f32>(value)) return n + 1;
    store<f32>(to + (<usize>n << 2), value);
  }
  return 0;
}

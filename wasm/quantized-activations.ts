// Activations as integers: per token and block of inputs a scale d, −Σcodes and the codes,
// x ≈ code · d. For nibble weights codes are int8, in eights ordered 0 2 4 6 1 3 5 7, so that
// four of them meet the low and four the high nibbles of a weight word; for byte weights
// int16 of up to ±511, in order. Records of one block lie together for all tokens:
//
//   [blocks, tokens, record]      record: d f32 · −sum i32 · starts 2 × 2 i16 · codes
//
// Starts: for each 64 inputs of int8 codes, what products of byte pairs count from (nibbles.ts): −8 · Σcodes of the
// inputs that meet in the first and in the second lane of a row, which are the first and the last four of every eight.
//
// In the segmented form every segment of a token is such a record, its codes padded with
// zeros to whole lines of 8 inputs: [tokens, segments].

import { CENTRED_INPUTS } from "./nibbles";
import { largestMagnitude } from "./quantized-rows";
import { SLOT_AREA, quantized_reset_slots } from "./quantized-slot";

export { quantized_reset_slots };

/** Read for the reason that EXP is (float-arithmetic.ts). */
const NUMBERS: usize = memory.data<u32>(
  [
    0x4b400000, 0x4b400000, 0x4b400000, 0x4b400000, // 0: 1.5 · 2^23, and its bits
    0x7fffffff, 0x7fffffff, 0x7fffffff, 0x7fffffff, // 16: all but the sign
  ],
  16,
);
/** Below this 511 / max would overflow; such a block is zero for all purposes. */
const TINY: f32 = 1e-30;

/** Inputs k … k + 3 of a token; those at or after `end` or before `start` are 0. `whole`: there are none of them, and no permutation. */
// @ts-ignore: decorator
@inline
function inputs(whole: bool, x: usize, permutation: usize, k: i32, start: i32, end: i32): v128 {
  if (whole) return v128.load(x + (<usize>k << 2));
  if (k >= start && k + 4 <= end) {
    if (!permutation) return v128.load(x + (<usize>k << 2));
    const p = permutation + (<usize>k << 2);
    let v = v128.load32_zero(x + (<usize>load<u32>(p) << 2));
    v = v128.load32_lane(x + (<usize>load<u32>(p, 4) << 2), v, 1);
    v = v128.load32_lane(x + (<usize>load<u32>(p, 8) << 2), v, 2);
    return v128.load32_lane(x + (<usize>load<u32>(p, 12) << 2), v, 3);
  }
  return someInputs(x, permutation, k, start, end);
}

function someInputs(x: usize, permutation: usize, k: i32, start: i32, end: i32): v128 {
  let v = f32x4.splat(0);
  v = f32x4.replace_lane(v, 0, oneInput(x, permutation, k, start, end));
  v = f32x4.replace_lane(v, 1, oneInput(x, permutation, k + 1, start, end));
  v = f32x4.replace_lane(v, 2, oneInput(x, permutation, k + 2, start, end));
  return f32x4.replace_lane(v, 3, oneInput(x, permutation, k + 3, start, end));
}

function oneInput(x: usize, permutation: usize, k: i32, start: i32, end: i32): f32 {
  if (k < start || k >= end) return 0;
  const row = permutation ? load<u32>(permutation + (<usize>k << 2)) : <u32>k;
  return load<f32>(x + (<usize>row << 2));
}

/** To the nearest integer, ties to even: adding and taking off `round`, 1.5 · 2^23, does that. */
// @ts-ignore: decorator
@inline
function rounded(v: v128, factor: v128, round: v128): v128 {
  return i32x4.sub(f32x4.add(f32x4.mul(v, factor), round), round);
}

// @ts-ignore: decorator
@inline
function sumOf(v: v128): i32 {
  v = i32x4.add(v, v128.shuffle<i32>(v, v, 2, 3, 0, 1));
  return i32x4.extract_lane(v, 0) + i32x4.extract_lane(v, 1);
}

/** One record from inputs first … first + count − 1 (count a multiple of 8), zeros outside start … end − 1. */
function quantizeRecord<C>(
  x: usize, permutation: usize, first: i32, count: i32, start: i32, end: i32, limit: f32, record: usize,
): void {
  if (!permutation && first >= start && first + count <= end) quantize<C>(true, x, 0, first, count, start, end, limit, record);
  else quantize<C>(false, x, permutation, first, count, start, end, limit, record);
}

/** Twice in the code: most records are whole, and need not ask for every input where it is. */
// @ts-ignore: decorator
@inline
function quantize<C>(
  whole: bool, x: usize, permutation: usize, first: i32, count: i32, start: i32, end: i32, limit: f32, record: usize,
): void {
  const round = v128.load(NUMBERS), magnitude = v128.load(NUMBERS, 16);
  let most = i32x4.splat(0), other = most;
  for (let k = first; k < first + count; k += 8) {
    most = i32x4.max_s(most, v128.and(inputs(whole, x, permutation, k, start, end), magnitude));
    other = i32x4.max_s(other, v128.and(inputs(whole, x, permutation, k + 4, start, end), magnitude));
  }
  const max = largestMagnitude(i32x4.max_s(most, other));
  const factor = f32x4.splat(max < TINY ? 0 : limit / max);
  let sum = 0, to = record + 16, start64 = record + 8;
  for (let part = first; part < first + count; part += CENTRED_INPUTS) {
    let sumA = i32x4.splat(0), sumB = sumA;
    const stop = min(part + CENTRED_INPUTS, first + count);
    for (let k = part; k < stop; k += 8) {
      const a = rounded(inputs(whole, x, permutation, k, start, end), factor, round);
      const b = rounded(inputs(whole, x, permutation, k + 4, start, end), factor, round);
      sumA = i32x4.sub(sumA, a);
      sumB = i32x4.sub(sumB, b);
      if (sizeof<C>() == 2) {
        v128.store(to, i16x8.narrow_i32x4_s(a, b));
        to += 16;
      } else {
        // 0 2 4 6 1 3 5 7
        const codes = i16x8.narrow_i32x4_s(v128.shuffle<i32>(a, b, 0, 2, 4, 6), v128.shuffle<i32>(a, b, 1, 3, 5, 7));
        v128.store64_lane(to, i8x16.narrow_i16x8_s(codes, codes), 0);
        to += 8;
      }
    }
    const minusA = sumOf(sumA), minusB = sumOf(sumB);
    sum += minusA + minusB;
    // A segment that begins amid eight inputs can have a third part; nobody reads the starts of segments.
    if (sizeof<C>() == 1 && part < first + 2 * CENTRED_INPUTS) {
      store<i16>(start64, <i16>(minusA << 3));
      store<i16>(start64, <i16>(minusB << 3), 2);
      start64 += 4;
    }
  }
  // NaN or infinite inputs: d carries them on, whatever the codes are.
  store<f32>(record, max < TINY ? 0 : max / limit);
  store<i32>(record, sum, 4);
}

/**
 * Quantises rows rowFrom … rowTo − 1 of x f32 [m, inputs] for linears of the record form.
 *
 * @param permutation i32 [inputs]: position → input, or 0
 * @param limit 127 writes int8, 511 int16
 */
export function quantize_records(
  x: usize, m: i32, count: i32, permutation: usize, blockSize: i32, limit: i32, buffer: usize, rowFrom: i32, rowTo: i32,
): void {
  const bytes: usize = 16 + (<usize>blockSize << (limit > 127 ? 1 : 0));
  for (let row = rowFrom; row < rowTo; row++) {
    const source = x + ((<usize>row * count) << 2);
    let record = buffer + SLOT_AREA + <usize>row * bytes;
    for (let first = 0; first < count; first += blockSize) {
      if (limit > 127) quantizeRecord<i16>(source, permutation, first, blockSize, 0, count, <f32>limit, record);
      else quantizeRecord<i8>(source, permutation, first, blockSize, 0, count, <f32>limit, record);
      record += bytes * m;
    }
  }
}

/**
 * The same for linears of the segmented form.
 *
 * @param table entries {first input, length, group, offset of the record in the token's part} i32
 * @param tokenBytes bytes of one token's records
 */
export function quantize_segments(
  x: usize, count: i32, permutation: usize, table: usize, segments: i32, tokenBytes: i32, limit: i32, buffer: usize,
  rowFrom: i32, rowTo: i32,
): void {
  for (let row = rowFrom; row < rowTo; row++) {
    const source = x + ((<usize>row * count) << 2);
    const records = buffer + SLOT_AREA + <usize>row * tokenBytes;
    for (let i = 0; i < segments; i++) {
      const entry = table + (<usize>i << 4);
      const start = load<i32>(entry), end = start + load<i32>(entry, 4);
      const first = start & ~7, span = ((end + 7) & ~7) - first;
      const record = records + load<u32>(entry, 12);
      if (limit > 127) quantizeRecord<i16>(source, permutation, first, span, start, end, <f32>limit, record);
      else quantizeRecord<i8>(source, permutation, first, span, start, end, <f32>limit, record);
    }
  }
}

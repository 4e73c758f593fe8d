// What the kernels for weights of at most 4 bits share.
//
// Where products are pairs of bytes added in i16, a sum over 64 inputs, 32 in each of the two lanes of a
// row, can exceed i16 on the way, which does no harm: additions wrap. It counts from −8 · Σx, so that
// what comes out is Σ(code − 8)x, at most 8 · 127 · 32 = 32,512, and is exact. So sums are widened once in
// 64 inputs, not once in 16 or 32.

import { DOT_ADD } from "./dot-add";

/** Whether sums are i16 and count from −8 · Σx. */
export const CENTRED: bool = ASC_FEATURE_RELAXED_SIMD && !DOT_ADD;
/** Inputs whose sum fits, centred. */
export const CENTRED_INPUTS: i32 = 64;
/** What a code is worth less. */
const CENTRE: i16 = CENTRED ? 8 : 0;

/**
 * 15, but exported and variable, so that nobody knows: V8 13 (Node 24) makes a known constant
 * anew at every use, which costs a third of the speed.
 */
export let nibbleMask: i32 = 15;

// @ts-ignore: decorator
@inline
export function low(v: v128, mask: v128): v128 {
  return v128.and(v, mask);
}

// @ts-ignore: decorator
@inline
export function high(v: v128, mask: v128): v128 {
  return v128.and(i16x8.shr_u(v, 4), mask);
}

/** [r0 k01, r0 k23, r1 …] and [r2 k01, …] → one sum for each of four rows. */
// @ts-ignore: decorator
@inline
export function fold(a: v128, b: v128): v128 {
  return i32x4.add(v128.shuffle<i32>(a, b, 0, 2, 4, 6), v128.shuffle<i32>(a, b, 1, 3, 5, 7));
}

/** Zeros of eight rows as i16, such that zero · −Σx is what the sums lack. */
// @ts-ignore: decorator
@inline
export function centredZeros(zeros: v128): v128 {
  return CENTRED ? i16x8.sub(zeros, i16x8.splat(CENTRE)) : zeros;
}

/** zero · −Σx for four rows: zeros as an i16 in every even lane, 0 in the odd ones, and −Σx as an i16 in every even lane. */
// @ts-ignore: decorator
@inline
export function zeroTerm(zeros: v128, minusSum: v128): v128 {
  return i32x4.dot_i16x8_s(zeros, minusSum);
}

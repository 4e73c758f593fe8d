// What the kernels for weights of at most 4 bits share.

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

/** zero · −Σx for four rows: zeros as i32 ≤ 16, −Σx as an i16 in every even lane. */
// @ts-ignore: decorator
@inline
export function zeroTerm(zeros: v128, minusSum: v128): v128 {
  return i32x4.dot_i16x8_s(zeros, minusSum);
}

// Arithmetic on four f32 lanes that the other float kernels share. Every result depends on
// its own inputs only, never on how many rows are computed together: that is what makes the
// backend batch-invariant bit for bit.

/** a · b + c; fused where the relaxed build runs on a CPU that has it. */
// @ts-ignore: decorator
@inline
export function madd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
  return f32x4.add(f32x4.mul(a, b), c);
}

/** Sum of the lanes, always as (0 + 2) + (1 + 3). */
// @ts-ignore: decorator
@inline
export function lane_sum(v: v128): f32 {
  const pair = f32x4.add(v, v128.shuffle<i32>(v, v, 2, 3, 0, 1));
  return f32x4.extract_lane(pair, 0) + f32x4.extract_lane(pair, 1);
}

// @ts-ignore: decorator
@inline
export function lane_max(v: v128): f32 {
  const pair = f32x4.max(v, v128.shuffle<i32>(v, v, 2, 3, 0, 1));
  return max(f32x4.extract_lane(pair, 0), f32x4.extract_lane(pair, 1));
}

/**
 * The numbers of exp4, four times each. V8 makes a constant of 128 bits anew wherever it is used, in several instructions on a
 * port that has much to do; to read it takes one.
 */
const EXP: usize = memory.data<f32>(
  [
    -87.3, -87.3, -87.3, -87.3, // 0: below it the answer is 0
    88.0, 88.0, 88.0, 88.0, // 16
    1.44269504088896341, 1.44269504088896341, 1.44269504088896341, 1.44269504088896341, // 32: 1 / ln 2
    12582912.0, 12582912.0, 12582912.0, 12582912.0, // 48: 1.5 · 2^23
    -0.693359375, -0.693359375, -0.693359375, -0.693359375, // 64: −ln 2 in two parts
    2.12194440054690583e-4, 2.12194440054690583e-4, 2.12194440054690583e-4, 2.12194440054690583e-4, // 80
    0.001388888888888889, 0.001388888888888889, 0.001388888888888889, 0.001388888888888889, // 96: 1 / 720
    0.008333333333333333, 0.008333333333333333, 0.008333333333333333, 0.008333333333333333, // 112: 1 / 120
    0.041666666666666664, 0.041666666666666664, 0.041666666666666664, 0.041666666666666664, // 128: 1 / 24
    0.16666666666666666, 0.16666666666666666, 0.16666666666666666, 0.16666666666666666, // 144: 1 / 6
    0.5, 0.5, 0.5, 0.5, // 160
    1.0, 1.0, 1.0, 1.0, // 176
  ],
  16,
);

/**
 * exp(x) within 2 ulp: x = n·ln 2 + r, a polynomial of degree 6 in r (Taylor's coefficients,
 * |r| ≤ 0.347), then n added to the exponent. Below −87.3 the answer is 0 (no denormals),
 * above 88 it stays at exp(88).
 */
// @ts-ignore: decorator
@inline
export function exp4(x: v128): v128 {
  const least = v128.load(EXP), one = v128.load(EXP, 176);
  const tooSmall = f32x4.lt(x, least);
  // pmin and pmax are one instruction where min and max are six; NaN stays, for it is the first operand.
  const bounded = f32x4.pmax(f32x4.pmin(x, v128.load(EXP, 16)), least);
  // Adding 1.5 · 2^23 rounds to the nearest integer, ties to even, and leaves it in the lowest bits: a conversion is ten instructions.
  const round = v128.load(EXP, 48);
  const shifted = f32x4.add(f32x4.mul(bounded, v128.load(EXP, 32)), round);
  const n = f32x4.sub(shifted, round);
  let r = madd(n, v128.load(EXP, 64), bounded);
  r = madd(n, v128.load(EXP, 80), r);
  let p = madd(v128.load(EXP, 96), r, v128.load(EXP, 112));
  p = madd(p, r, v128.load(EXP, 128));
  p = madd(p, r, v128.load(EXP, 144));
  p = madd(p, r, v128.load(EXP, 160));
  p = madd(p, r, one);
  p = madd(p, r, one);
  return v128.andnot(i32x4.add(p, i32x4.shl(shifted, 23)), tooSmall);
}

/** Four f16 in the low halves of i32 lanes → f32, exactly, infinities and NaN included. */
// @ts-ignore: decorator
@inline
export function f16_to_f32(h: v128): v128 {
  const magnitude = v128.and(h, i32x4.splat(0x7fff));
  // Shifted into place the exponent is 112 too small; the multiplication mends that, denormals too.
  let f = f32x4.mul(i32x4.shl(magnitude, 13), f32x4.splat(5.192296858534828e33));
  f = v128.or(f, v128.and(i32x4.gt_s(magnitude, i32x4.splat(0x7bff)), i32x4.splat(0x7f800000)));
  return v128.or(f, i32x4.shl(v128.and(h, i32x4.splat(0x8000)), 16));
}

/** f32 → f16, round to nearest even; overflow becomes infinity, NaN stays NaN. */
export function f32_to_f16(x: f32): u32 {
  const bits = reinterpret<u32>(x);
  const sign = (bits >> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Adding 0.5 lets the FPU round to a multiple of 2^-24, the f16 denormals' step.
    return sign | (reinterpret<u32>(reinterpret<f32>(magnitude) + <f32>0.5) - 0x3f000000);
  }
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13);
}

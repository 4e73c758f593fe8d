// Low-rank adapters, one row (token) at a time: t = weight · A x, then y += B t. What a row gets
// never depends on the other rows, nor on how ranks and columns are cut into calls.

import { lane_sum, madd } from "./float-arithmetic";

/** Columns of B that lie together. */
const TILE: i32 = 16;

/**
 * Four normal f16 numbers or zeros, sign-extended, → f32: shifted into place the exponent is 112 too
 * small. Factors are stored so that they are nothing else (adapter-loading.ts): f16's smallest
 * numbers would become denormals here, which are slow, and infinities have no place in a model.
 */
// @ts-ignore: decorator
@inline
function widen(bits: v128): v128 {
  const placed = v128.and(i32x4.shl(bits, 13), i32x4.splat(<i32>0x8fffffff));
  return f32x4.mul(placed, f32x4.splat(5.192296858534828e33));
}

/** Four values of a factor: f16 or f32. */
// @ts-ignore: decorator
@inline
function four(at: usize, half: bool): v128 {
  return half ? widen(v128.load_ext<i16>(at)) : v128.load(at);
}

// @ts-ignore: decorator
@inline
function one(at: usize, half: bool): f32 {
  return half ? f32x4.extract_lane(widen(i32x4.splat(<i32>load<i16>(at))), 0) : load<f32>(at);
}

// @ts-ignore: decorator
@inline
function dot(a: usize, x: usize, size: i32, half: bool): f32 {
  const shift: usize = half ? 1 : 2;
  let sum = f32x4.splat(0);
  let i = 0;
  for (; i + 4 <= size; i += 4) sum = madd(four(a + (<usize>i << shift), half), v128.load(x + (<usize>i << 2)), sum);
  let value = lane_sum(sum);
  for (; i < size; i++) value += one(a + (<usize>i << shift), half) * load<f32>(x + (<usize>i << 2));
  return value;
}

/** Four ranks that read x together: each sum as dot() makes it. */
// @ts-ignore: decorator
@inline
function dot_4(a: usize, x: usize, size: i32, weight: f32, t: usize, half: bool): void {
  const shift: usize = half ? 1 : 2;
  const row = <usize>size << shift;
  const whole = size & ~3;
  let s0 = f32x4.splat(0), s1 = f32x4.splat(0), s2 = f32x4.splat(0), s3 = f32x4.splat(0);
  for (let i = 0; i < whole; i += 4) {
    const at = a + (<usize>i << shift);
    const v = v128.load(x + (<usize>i << 2));
    s0 = madd(four(at, half), v, s0);
    s1 = madd(four(at + row, half), v, s1);
    s2 = madd(four(at + row * 2, half), v, s2);
    s3 = madd(four(at + row * 3, half), v, s3);
  }
  let v0 = lane_sum(s0), v1 = lane_sum(s1), v2 = lane_sum(s2), v3 = lane_sum(s3);
  for (let i = whole; i < size; i++) {
    const at = a + (<usize>i << shift);
    const v = load<f32>(x + (<usize>i << 2));
    v0 += one(at, half) * v;
    v1 += one(at + row, half) * v;
    v2 += one(at + row * 2, half) * v;
    v3 += one(at + row * 3, half) * v;
  }
  store<f32>(t, v0 * weight);
  store<f32>(t, v1 * weight, 4);
  store<f32>(t, v2 * weight, 8);
  store<f32>(t, v3 * weight, 12);
}

// @ts-ignore: decorator
@inline
function shrink(a: usize, x: usize, size: i32, ranks: i32, weight: f32, t: usize, half: bool): void {
  const row = <usize>size << (half ? 1 : 2);
  let r = 0;
  for (; r + 4 <= ranks; r += 4) dot_4(a + <usize>r * row, x, size, weight, t + (<usize>r << 2), half);
  for (; r < ranks; r++) store<f32>(t + (<usize>r << 2), dot(a + <usize>r * row, x, size, half) * weight);
}

/**
 * t[r] = weight · Σ a[r, i] · x[i].
 *
 * @param a [ranks, size], f16 (normal numbers and zeros) where `half`, else f32
 * @param x [size] f32
 * @param t [ranks] f32
 */
export function adapter_shrink(a: usize, x: usize, size: i32, ranks: i32, weight: f32, t: usize, half: i32): void {
  if (half) shrink(a, x, size, ranks, weight, t, true);
  else shrink(a, x, size, ranks, weight, t, false);
}

// @ts-ignore: decorator
@inline
function expand(b: usize, total: i32, ranks: i32, t: usize, y: usize, out: i32, tileFrom: i32, tileTo: i32, half: bool): void {
  const shift: usize = half ? 1 : 2;
  for (let tile = tileFrom; tile < tileTo; tile++) {
    const weights = b + ((<usize>tile * <usize>total * <usize>TILE) << shift);
    const columns = min(TILE, out - tile * TILE);
    const to = y + (<usize>(tile * TILE) << 2);
    if (columns == TILE) {
      let y0 = v128.load(to), y1 = v128.load(to, 16), y2 = v128.load(to, 32), y3 = v128.load(to, 48);
      for (let r = 0; r < ranks; r++) {
        const at = weights + ((<usize>r * <usize>TILE) << shift);
        const v = v128.load32_splat(t + (<usize>r << 2));
        y0 = madd(four(at, half), v, y0);
        y1 = madd(four(at + (<usize>4 << shift), half), v, y1);
        y2 = madd(four(at + (<usize>8 << shift), half), v, y2);
        y3 = madd(four(at + (<usize>12 << shift), half), v, y3);
      }
      v128.store(to, y0);
      v128.store(to, y1, 16);
      v128.store(to, y2, 32);
      v128.store(to, y3, 48);
      continue;
    }
    for (let c = 0; c < columns; c++) {
      let sum = load<f32>(to + (<usize>c << 2));
      for (let r = 0; r < ranks; r++)
        sum += one(weights + (<usize>(r * TILE + c) << shift), half) * load<f32>(t + (<usize>r << 2));
      store<f32>(to + (<usize>c << 2), sum);
    }
  }
}

/**
 * y[c] += Σ b[c, r] · t[r] for the columns of tiles tileFrom … tileTo − 1.
 *
 * @param b [tiles][total][16], f16 (normal numbers and zeros) where `half`, else f32; the first of `ranks` neighbours among `total`
 * @param t [ranks] f32
 * @param y [out] f32
 */
export function adapter_expand(
  b: usize, total: i32, ranks: i32, t: usize, y: usize, out: i32, tileFrom: i32, tileTo: i32, half: i32,
): void {
  if (half) expand(b, total, ranks, t, y, out, tileFrom, tileTo, true);
  else expand(b, total, ranks, t, y, out, tileFrom, tileTo, false);
}

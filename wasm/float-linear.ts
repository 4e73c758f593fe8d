// f32_linear: y[m, out] = x[m, in] · w[out, in]ᵀ + bias, everything f32: the exact path's
// matrix product. Lanes run over `in`; each output is one accumulator of four lanes, summed
// at the end, so it does not matter how rows and tokens are tiled.

import { lane_sum, madd } from "./float-arithmetic";

/** The last in % 4 products, one after the other. */
function tail(w: usize, x: usize, from: i32, size: i32): f32 {
  let sum: f32 = 0;
  for (let i = from; i < size; i++) sum += load<f32>(w + (<usize>i << 2)) * load<f32>(x + (<usize>i << 2));
  return sum;
}

/** Four rows of w against two tokens. */
function block_4x2(w: usize, x0: usize, x1: usize, size: i32, y0: usize, y1: usize, bias: usize): void {
  const row = <usize>size << 2;
  const whole = size & ~3;
  const end = w + (<usize>whole << 2);
  let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0), a3 = f32x4.splat(0);
  let b0 = f32x4.splat(0), b1 = f32x4.splat(0), b2 = f32x4.splat(0), b3 = f32x4.splat(0);
  let p = x0, q = x1;
  const row2 = row << 1, row3 = row * 3;
  for (let at = w; at < end; at += 16, p += 16, q += 16) {
    const xa = v128.load(p), xb = v128.load(q);
    let v = v128.load(at);
    a0 = madd(v, xa, a0);
    b0 = madd(v, xb, b0);
    v = v128.load(at + row);
    a1 = madd(v, xa, a1);
    b1 = madd(v, xb, b1);
    v = v128.load(at + row2);
    a2 = madd(v, xa, a2);
    b2 = madd(v, xb, b2);
    v = v128.load(at + row3);
    a3 = madd(v, xa, a3);
    b3 = madd(v, xb, b3);
  }
  store_row(y0, bias, 0, lane_sum(a0), w, x0, whole, size);
  store_row(y0, bias, 1, lane_sum(a1), w + row, x0, whole, size);
  store_row(y0, bias, 2, lane_sum(a2), w + row2, x0, whole, size);
  store_row(y0, bias, 3, lane_sum(a3), w + row3, x0, whole, size);
  store_row(y1, bias, 0, lane_sum(b0), w, x1, whole, size);
  store_row(y1, bias, 1, lane_sum(b1), w + row, x1, whole, size);
  store_row(y1, bias, 2, lane_sum(b2), w + row2, x1, whole, size);
  store_row(y1, bias, 3, lane_sum(b3), w + row3, x1, whole, size);
}

/** Four rows of w against one token. */
function block_4x1(w: usize, x: usize, size: i32, y: usize, bias: usize): void {
  const row = <usize>size << 2;
  const whole = size & ~3;
  const end = w + (<usize>whole << 2);
  let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0), a3 = f32x4.splat(0);
  let p = x;
  const row2 = row << 1, row3 = row * 3;
  for (let at = w; at < end; at += 16, p += 16) {
    const xa = v128.load(p);
    a0 = madd(v128.load(at), xa, a0);
    a1 = madd(v128.load(at + row), xa, a1);
    a2 = madd(v128.load(at + row2), xa, a2);
    a3 = madd(v128.load(at + row3), xa, a3);
  }
  store_row(y, bias, 0, lane_sum(a0), w, x, whole, size);
  store_row(y, bias, 1, lane_sum(a1), w + row, x, whole, size);
  store_row(y, bias, 2, lane_sum(a2), w + row2, x, whole, size);
  store_row(y, bias, 3, lane_sum(a3), w + row3, x, whole, size);
}

function block_1x1(w: usize, x: usize, size: i32, y: usize, bias: usize): void {
  const whole = size & ~3;
  let a = f32x4.splat(0);
  for (let i = 0; i < whole; i += 4) a = madd(v128.load(w + (<usize>i << 2)), v128.load(x + (<usize>i << 2)), a);
  store_row(y, bias, 0, lane_sum(a), w, x, whole, size);
}

// @ts-ignore: decorator
@inline
function store_row(y: usize, bias: usize, index: i32, sum: f32, w: usize, x: usize, whole: i32, size: i32): void {
  let value = sum;
  if (whole < size) value += tail(w, x, whole, size);
  if (bias) value += load<f32>(bias + (<usize>index << 2));
  store<f32>(y + (<usize>index << 2), value);
}

/**
 * @param w [out, size] f32
 * @param bias [out] f32, or 0
 * @param x [m, size] f32
 * @param y [m, ldy] f32, of which columns rowFrom … rowTo − 1 are written
 */
export function f32_linear(
  w: usize, bias: usize, x: usize, m: i32, size: i32, y: usize, ldy: i32, rowFrom: i32, rowTo: i32,
): void {
  const row = <usize>size << 2;
  const line = <usize>ldy << 2;
  let n = rowFrom;
  for (; n + 4 <= rowTo; n += 4) {
    const weights = w + <usize>n * row;
    const b = bias ? bias + (<usize>n << 2) : 0;
    const column = y + (<usize>n << 2);
    let t = 0;
    for (; t + 2 <= m; t += 2) {
      const at = x + <usize>t * row;
      block_4x2(weights, at, at + row, size, column + <usize>t * line, column + <usize>(t + 1) * line, b);
    }
    if (t < m) block_4x1(weights, x + <usize>t * row, size, column + <usize>t * line, b);
  }
  for (; n < rowTo; n++) {
    const b = bias ? bias + (<usize>n << 2) : 0;
    for (let t = 0; t < m; t++)
      block_1x1(w + <usize>n * row, x + <usize>t * row, size, y + (<usize>n << 2) + <usize>t * line, b);
  }
}

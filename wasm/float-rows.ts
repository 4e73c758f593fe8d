// Work on whole rows of f32: norms with the residual added, the gated activation, embedding
// rows in their stored dtype, the sums behind log-probabilities, and the search for values
// that are no numbers.

import { exp4, f16_to_f32, lane_max, lane_sum, madd } from "./float-arithmetic";

/**
 * For rows from … to − 1: x += delta (where there is one), y = x / sqrt(mean(x²) + eps) · weight.
 *
 * @param x [rows, size] f32, updated when `delta` is not 0
 * @param delta [rows, size] f32, or 0
 * @param weight [size] f32; 0: only the addition is made
 * @param y [rows, size] f32; may be x
 */
export function rms_norm(x: usize, delta: usize, weight: usize, y: usize, size: i32, eps: f32, from: i32, to: i32): void {
  const row = (<usize>size) << 2;
  for (let r = from; r < to; r++) {
    const at = x + <usize>r * row;
    if (delta) add_row(at, delta + <usize>r * row, size);
    if (weight) norm_row(at, weight, y + <usize>r * row, size, eps);
  }
}

/**
 * The first half of a norm of one row that several threads make together: 1 / sqrt(mean((x + delta)²) + eps), in the bits
 * of rms_norm. Nothing is written.
 *
 * @param delta [size] f32, or 0
 */
export function norm_factor(x: usize, delta: usize, size: i32, eps: f32): f32 {
  return delta ? factor_of(x, delta, true, size, eps) : factor_of(x, 0, false, size, eps);
}

/** The second half, columns from … to − 1: y = (x + delta) · factor · weight. */
export function norm_columns(x: usize, delta: usize, weight: usize, y: usize, factor: f32, from: i32, to: i32): void {
  if (delta) columns_of(x, delta, true, weight, y, factor, from, to);
  else columns_of(x, 0, false, weight, y, factor, from, to);
}

/** x += delta, columns from … to − 1. */
export function add_columns(x: usize, delta: usize, from: i32, to: i32): void {
  const at = (<usize>from) << 2;
  add_row(x + at, delta + at, to - from);
}

function add_row(x: usize, delta: usize, size: i32): void {
  let i = 0;
  for (; i + 4 <= size; i += 4) {
    const at = (<usize>i) << 2;
    v128.store(x + at, f32x4.add(v128.load(x + at), v128.load(delta + at)));
  }
  for (; i < size; i++) {
    const at = (<usize>i) << 2;
    store<f32>(x + at, load<f32>(x + at) + load<f32>(delta + at));
  }
}

function norm_row(x: usize, weight: usize, y: usize, size: i32, eps: f32): void {
  columns_of(x, 0, false, weight, y, factor_of(x, 0, false, size, eps), 0, size);
}

/** Four values of x, `more` of x + delta. */
// @ts-ignore: decorator
@inline
function four(x: usize, delta: usize, more: bool, at: usize): v128 {
  return more ? f32x4.add(v128.load(x + at), v128.load(delta + at)) : v128.load(x + at);
}

// @ts-ignore: decorator
@inline
function one(x: usize, delta: usize, more: bool, at: usize): f32 {
  return more ? load<f32>(x + at) + load<f32>(delta + at) : load<f32>(x + at);
}

// @ts-ignore: decorator
@inline
function factor_of(x: usize, delta: usize, more: bool, size: i32, eps: f32): f32 {
  let s0 = f32x4.splat(0),
    s1 = f32x4.splat(0);
  let i = 0;
  for (; i + 8 <= size; i += 8) {
    const at = (<usize>i) << 2;
    const a = four(x, delta, more, at),
      b = four(x, delta, more, at + 16);
    s0 = madd(a, a, s0);
    s1 = madd(b, b, s1);
  }
  let sum = lane_sum(f32x4.add(s0, s1));
  for (; i < size; i++) {
    const v = one(x, delta, more, (<usize>i) << 2);
    sum += v * v;
  }
  return <f32>1 / Mathf.sqrt(sum / <f32>size + eps);
}

// @ts-ignore: decorator
@inline
function columns_of(x: usize, delta: usize, more: bool, weight: usize, y: usize, factor: f32, from: i32, to: i32): void {
  const f = f32x4.splat(factor);
  let i = from;
  for (; i + 4 <= to; i += 4) {
    const at = (<usize>i) << 2;
    v128.store(y + at, f32x4.mul(f32x4.mul(four(x, delta, more, at), f), v128.load(weight + at)));
  }
  for (; i < to; i++) {
    const at = (<usize>i) << 2;
    store<f32>(y + at, one(x, delta, more, at) * factor * load<f32>(weight + at));
  }
}

/**
 * gate = gate / (1 + exp(−gate)) · up, columns from … to − 1 of `rows` rows; both [rows, size] f32.
 * Whole groups of four columns are computed together: `from` must be a multiple of 4.
 */
export function silu_mul(gate: usize, up: usize, size: i32, rows: i32, from: i32, to: i32): void {
  const one = f32x4.splat(1);
  for (let r = 0; r < rows; r++) {
    const g = gate + ((<usize>r * size) << 2),
      u = up + ((<usize>r * size) << 2);
    let i = from;
    for (; i + 4 <= to; i += 4) {
      const at = (<usize>i) << 2;
      const v = v128.load(g + at);
      const s = f32x4.div(v, f32x4.add(one, exp4(f32x4.neg(v))));
      v128.store(g + at, f32x4.mul(s, v128.load(u + at)));
    }
    for (; i < to; i++) {
      const at = (<usize>i) << 2;
      const v = load<f32>(g + at);
      const e = f32x4.extract_lane(exp4(f32x4.splat(-v)), 0);
      store<f32>(g + at, (v / (<f32>1 + e)) * load<f32>(u + at));
    }
  }
}

/** A row of `size` values → f32; kind 0: f32, 1: f16, 2: bf16. */
export function widen_row(from: usize, to: usize, size: i32, kind: i32): void {
  if (kind == 0) {
    memory.copy(to, from, (<usize>size) << 2);
    return;
  }
  let i = 0;
  for (; i + 4 <= size; i += 4) {
    const h = v128.load_ext<u16>(from + ((<usize>i) << 1));
    v128.store(to + ((<usize>i) << 2), kind == 1 ? f16_to_f32(h) : i32x4.shl(h, 16));
  }
  for (; i < size; i++) {
    const h = i32x4.splat(<i32>load<u16>(from + ((<usize>i) << 1)));
    const f = kind == 1 ? f16_to_f32(h) : i32x4.shl(h, 16);
    store<f32>(to + ((<usize>i) << 2), f32x4.extract_lane(f, 0));
  }
}

/** Index of the first infinity or NaN among `count` values of a kind (as in widen_row), or −1. */
export function first_non_finite(at: usize, count: i32, kind: i32): i32 {
  if (kind == 0) {
    for (let i = 0; i < count; i++) if ((load<u32>(at + ((<usize>i) << 2)) & 0x7f800000) == 0x7f800000) return i;
    return -1;
  }
  const mask: u32 = kind == 1 ? 0x7c00 : 0x7f80;
  const lanes = i16x8.splat(<i16>mask);
  let i = 0;
  for (; i + 8 <= count; i += 8) if (v128.any_true(i16x8.eq(v128.and(v128.load(at + ((<usize>i) << 1)), lanes), lanes))) break;
  for (; i < count; i++) if ((<u32>load<u16>(at + ((<usize>i) << 1)) & mask) == mask) return i;
  return -1;
}

/**
 * What a log-softmax of a row needs: its largest value, and the sum of exp(x − largest) in f64; and where the
 * largest is.
 *
 * @param out two f64: largest, sum; 4 bytes further on an i32: index of the first value that is the largest
 */
export function log_softmax_sums(x: usize, size: i32, out: usize): void {
  const largest = largest_of(x, size);
  const shift = f32x4.splat(largest);
  let low = f64x2.splat(0),
    high = f64x2.splat(0);
  let i = 0;
  for (; i + 4 <= size; i += 4) {
    const e = exp4(f32x4.sub(v128.load(x + ((<usize>i) << 2)), shift));
    low = f64x2.add(low, f64x2.promote_low_f32x4(e));
    high = f64x2.add(high, f64x2.promote_low_f32x4(v128.shuffle<i32>(e, e, 2, 3, 0, 1)));
  }
  const both = f64x2.add(low, high);
  let sum = f64x2.extract_lane(both, 0) + f64x2.extract_lane(both, 1);
  for (; i < size; i++) sum += <f64>f32x4.extract_lane(exp4(f32x4.splat(load<f32>(x + ((<usize>i) << 2)) - largest)), 0);
  store<f64>(out, <f64>largest);
  store<f64>(out, sum, 8);
  store<i32>(out, index_of(x, size, largest), 20);
}

/** NaN where there is one. Four sums at a time: one alone would wait for itself. */
function largest_of(x: usize, size: i32): f32 {
  let a = f32x4.splat(-Infinity), b = a, c = a, d = a;
  let i = 0;
  for (; i + 16 <= size; i += 16) {
    const at = x + ((<usize>i) << 2);
    a = f32x4.max(a, v128.load(at));
    b = f32x4.max(b, v128.load(at, 16));
    c = f32x4.max(c, v128.load(at, 32));
    d = f32x4.max(d, v128.load(at, 48));
  }
  let largest = lane_max(f32x4.max(f32x4.max(a, b), f32x4.max(c, d)));
  for (; i < size; i++) largest = max(largest, load<f32>(x + ((<usize>i) << 2)));
  return largest;
}

/** Index of the first `value` of a row, or −1. */
function index_of(x: usize, size: i32, value: f32): i32 {
  const wanted = f32x4.splat(value);
  let i = 0;
  for (; i + 4 <= size; i += 4) if (v128.any_true(f32x4.eq(v128.load(x + ((<usize>i) << 2)), wanted))) break;
  for (; i < size; i++) if (load<f32>(x + ((<usize>i) << 2)) == value) return i;
  return -1;
}

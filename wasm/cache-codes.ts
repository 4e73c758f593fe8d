// Keys and values as codes: a quantised KV cache is written a token at a time, and widened to f32 in tiles
// before attention (float-attention.ts) reads it.
//
// Layout     pieces of a (page, KV head), 256 tokens:
//            q8  keys [32 blocks of 8 tokens][headDim][8] i8, values [256][headDim] i8; then [256] f16 scales
//            q4  keys [32 blocks][headDim / 2][8]: the low nibble is the even dim, the high one the odd;
//                then scales [32 blocks][groups][8] f16
//                values [256][headDim / 2]: in each group of 32 dims (the last may be shorter) low nibbles are
//                its first half; then scales [256][groups] f16
//            value = code · scale; nibbles hold code + 8.
// Rotation   Before q4 heads are turned by a Hadamard matrix over blocks of 2^n ≤ 128 dims, the largest that
//            divides headDim, so that no dim stands out. Queries are turned alike, which leaves scores
//            as they were, and what attention gathers is turned back: the matrix is its own inverse.

import { f16_to_f32, f32_to_f16, lane_max, lane_sum, madd } from "./float-arithmetic";

const PAGE: i32 = 256;
const GROUP: i32 = 32;

/** Turns `heads` heads that lie one after the other, in place. */
export function rotate_heads(x: usize, heads: i32, headDim: i32): void {
  const block = min(128, headDim & -headDim);
  const end = x + (<usize>(heads * headDim) << 2);
  for (let at = x; at < end; at += <usize>block << 2) rotate_block(at, block);
}

function rotate_block(x: usize, block: i32): void {
  const norm: f32 = <f32>1 / Mathf.sqrt(<f32>block);
  if (block < 4) {
    const a = load<f32>(x), b = load<f32>(x, 4);
    store<f32>(x, (a + b) * norm);
    store<f32>(x, (a - b) * norm, 4);
    return;
  }
  const end = x + (<usize>block << 2);
  const factor = f32x4.splat(norm);
  for (let at = x; at < end; at += 16) {
    let v = f32x4.mul(v128.load(at), factor);
    v = f32x4.add(f32x4.mul(v, f32x4(1, -1, 1, -1)), v128.shuffle<i32>(v, v, 1, 0, 3, 2));
    v = f32x4.add(f32x4.mul(v, f32x4(1, 1, -1, -1)), v128.shuffle<i32>(v, v, 2, 3, 0, 1));
    v128.store(at, v);
  }
  for (let step: usize = 16; step < <usize>block << 2; step <<= 1)
    for (let base = x; base < end; base += step << 1)
      for (let at = base; at < base + step; at += 16) {
        const a = v128.load(at), b = v128.load(at + step);
        v128.store(at, f32x4.add(a, b));
        v128.store(at + step, f32x4.sub(a, b));
      }
}

// @ts-ignore: decorator
@inline
function widened(bits: u32): f32 {
  return f32x4.extract_lane(f16_to_f32(i32x4.splat(<i32>bits)), 0);
}

/** What to multiply by for codes of this scale; 0 where the scale is. */
// @ts-ignore: decorator
@inline
function inverse_of(scale: f32): f32 {
  return scale == 0 ? 0 : <f32>1 / scale;
}

/** Codes of four numbers, i32 lanes; 0 for what is no number. */
// @ts-ignore: decorator
@inline
function codes(x: v128, inverse: v128, least: f32, most: f32): v128 {
  const rounded = f32x4.nearest(f32x4.mul(x, inverse));
  return i32x4.trunc_sat_f32x4_s(f32x4.min(f32x4.max(rounded, f32x4.splat(least)), f32x4.splat(most)));
}

// @ts-ignore: decorator
@inline
function code(x: f32, inverse: f32, least: f32, most: f32): i32 {
  return i32x4.extract_lane(codes(f32x4.splat(x), f32x4.splat(inverse), least, most), 0);
}

/** The f16 scale of a head in eight bits: its largest number becomes 127. */
function scale_8(x: usize, headDim: i32): u32 {
  let m = f32x4.splat(0);
  let i = 0;
  for (; i + 4 <= headDim; i += 4) m = f32x4.max(m, f32x4.abs(v128.load(x + (<usize>i << 2))));
  let largest = lane_max(m);
  for (; i < headDim; i++) largest = max(largest, abs(load<f32>(x + (<usize>i << 2))));
  return f32_to_f16(largest / 127);
}

/**
 * Writes one token's key and value of one KV head in eight bits.
 *
 * @param keys, values beginning of this (page, KV head)
 * @param slot position % 256
 */
export function store_codes_8(key: usize, value: usize, keys: usize, values: usize, headDim: i32, slot: i32): void {
  const scales = <usize>(PAGE * headDim + slot * 2);
  let scale = scale_8(key, headDim);
  store<u16>(keys + scales, <u16>scale);
  let inverse = inverse_of(widened(scale));
  const block = keys + <usize>((slot & ~7) * headDim + (slot & 7));
  for (let d = 0; d < headDim; d++) store<i8>(block + (<usize>d << 3), <i8>code(load<f32>(key + (<usize>d << 2)), inverse, -127, 127));
  scale = scale_8(value, headDim);
  store<u16>(values + scales, <u16>scale);
  inverse = inverse_of(widened(scale));
  const row = values + <usize>(slot * headDim);
  for (let d = 0; d < headDim; d++) store<i8>(row + <usize>d, <i8>code(load<f32>(value + (<usize>d << 2)), inverse, -127, 127));
}

/**
 * The f16 scale of 32 numbers in four bits. The outermost becomes about −8, the one code whose negative is none;
 * of seven such scales, each then moved to where its own codes fit best, the one that leaves the
 * smallest squares. Half the cost in perplexity of the first guess.
 */
function scale_4(x: usize): u32 {
  let high = f32x4.splat(0), low = f32x4.splat(0);
  for (let i: usize = 0; i < <usize>GROUP << 2; i += 16) {
    const v = v128.load(x + i);
    high = f32x4.max(high, v);
    low = f32x4.max(low, f32x4.neg(v));
  }
  const most = lane_max(high), least = lane_max(low);
  const inverse = -inverse_of(most > least ? most : -least);
  let best: f32 = 0, scale: f32 = 0;
  for (let guess: f32 = 6.5; guess <= 9.5; guess += 0.5) {
    const factor = f32x4.splat(inverse * guess);
    let products = f32x4.splat(0), squares = f32x4.splat(0);
    for (let i: usize = 0; i < <usize>GROUP << 2; i += 16) {
      const v = v128.load(x + i);
      const c = f32x4.min(f32x4.max(f32x4.nearest(f32x4.mul(v, factor)), f32x4.splat(-8)), f32x4.splat(7));
      products = madd(v, c, products);
      squares = madd(c, c, squares);
    }
    // What is left is Σx² − products² / squares.
    const fit: f32 = lane_sum(products) / max<f32>(lane_sum(squares), 1);
    const gain: f32 = fit * lane_sum(products);
    if (gain > best) {
      best = gain;
      scale = fit;
    }
  }
  return f32_to_f16(scale);
}

/** A group as 32 numbers: itself, or with zeros behind it in `room`. */
// @ts-ignore: decorator
@inline
function whole_group(x: usize, size: i32, room: usize): usize {
  if (size == GROUP) return x;
  memory.copy(room, x, <usize>size << 2);
  memory.fill(room + (<usize>size << 2), 0, <usize>(GROUP - size) << 2);
  return room;
}

/**
 * The same in four bits, of a head that has been turned.
 *
 * @param room 32 f32 that only this thread uses
 */
export function store_codes_4(key: usize, value: usize, keys: usize, values: usize, headDim: i32, slot: i32, room: usize): void {
  const groups = (headDim + GROUP - 1) / GROUP;
  const bytes = <usize>(PAGE * (headDim >> 1));
  const block = keys + <usize>((slot & ~7) * (headDim >> 1) + (slot & 7));
  const row = values + <usize>(slot * (headDim >> 1));
  for (let g = 0; g < groups; g++) {
    const first = g * GROUP, size = min(GROUP, headDim - first), half = size >> 1;
    const from = <usize>first << 2;
    let scale = scale_4(whole_group(key + from, size, room));
    store<u16>(keys + bytes + <usize>(((slot >> 3) * groups + g) * 16 + (slot & 7) * 2), <u16>scale);
    let inverse = inverse_of(widened(scale));
    for (let i = 0; i < size; i += 2) {
      const x = key + from + (<usize>i << 2);
      const even = code(load<f32>(x), inverse, -8, 7) + 8, odd = code(load<f32>(x, 4), inverse, -8, 7) + 8;
      store<u8>(block + (<usize>((first + i) >> 1) << 3), <u8>(even | (odd << 4)));
    }
    scale = scale_4(whole_group(value + from, size, room));
    store<u16>(values + bytes + <usize>((slot * groups + g) * 2), <u16>scale);
    inverse = inverse_of(widened(scale));
    for (let i = 0; i < half; i++) {
      const x = value + from + (<usize>i << 2);
      const low = code(load<f32>(x), inverse, -8, 7) + 8, high = code(load<f32>(x + (<usize>half << 2)), inverse, -8, 7) + 8;
      store<u8>(row + <usize>((first >> 1) + i), <u8>(low | (high << 4)));
    }
  }
}

/** Eight codes (i16 lanes) times scales → f32. */
// @ts-ignore: decorator
@inline
function store_eight(to: usize, c: v128, low: v128, high: v128): void {
  v128.store(to, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(c)), low));
  v128.store(to, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(c)), high), 16);
}

/** Keys `token` … `token + count − 1` (multiples of 8) to f32 [count / 8][headDim][8]. */
export function widen_keys_8(keys: usize, headDim: i32, token: i32, count: i32, to: usize): void {
  for (let t = token; t < token + count; t += 8) {
    const s = v128.load(keys + <usize>(PAGE * headDim + t * 2));
    const low = f16_to_f32(i32x4.extend_low_i16x8_u(s)), high = f16_to_f32(i32x4.extend_high_i16x8_u(s));
    const block = keys + <usize>(t * headDim);
    for (let d: usize = 0; d < <usize>headDim; d++, to += 32) store_eight(to, v128.load_ext<i8>(block + (d << 3)), low, high);
  }
}

/** Values `token` … `token + count − 1` to f32 [count][headDim]. */
export function widen_values_8(values: usize, headDim: i32, token: i32, count: i32, to: usize): void {
  for (let t = token; t < token + count; t++) {
    const scale = widened(load<u16>(values + <usize>(PAGE * headDim + t * 2)));
    const factor = f32x4.splat(scale);
    const row = values + <usize>(t * headDim);
    let d = 0;
    for (; d + 8 <= headDim; d += 8, to += 32) store_eight(to, v128.load_ext<i8>(row + <usize>d), factor, factor);
    for (; d < headDim; d++, to += 4) store<f32>(to, <f32>load<i8>(row + <usize>d) * scale);
  }
}

export function widen_keys_4(keys: usize, headDim: i32, token: i32, count: i32, to: usize): void {
  const groups = (headDim + GROUP - 1) / GROUP;
  const scales = keys + <usize>(PAGE * (headDim >> 1));
  const mask = i8x16.splat(15), bias = i8x16.splat(8);
  for (let t = token; t < token + count; t += 8) {
    const block = keys + <usize>(t * (headDim >> 1));
    for (let g = 0; g < groups; g++) {
      const s = v128.load(scales + <usize>(((t >> 3) * groups + g) * 16));
      const low = f16_to_f32(i32x4.extend_low_i16x8_u(s)), high = f16_to_f32(i32x4.extend_high_i16x8_u(s));
      const end = min(headDim, (g + 1) * GROUP);
      for (let d = g * GROUP; d < end; d += 2, to += 64) {
        const bytes = v128.load64_zero(block + (<usize>(d >> 1) << 3));
        store_eight(to, i16x8.extend_low_i8x16_s(i8x16.sub(v128.and(bytes, mask), bias)), low, high);
        store_eight(to + 32, i16x8.extend_low_i8x16_s(i8x16.sub(i8x16.shr_u(bytes, 4), bias)), low, high);
      }
    }
  }
}

export function widen_values_4(values: usize, headDim: i32, token: i32, count: i32, to: usize): void {
  const groups = (headDim + GROUP - 1) / GROUP;
  const scales = values + <usize>(PAGE * (headDim >> 1));
  const mask = i8x16.splat(15), bias = i8x16.splat(8);
  for (let t = token; t < token + count; t++) {
    const row = values + <usize>(t * (headDim >> 1));
    for (let g = 0; g < groups; g++) {
      const scale = widened(load<u16>(scales + <usize>((t * groups + g) * 2)));
      const factor = f32x4.splat(scale);
      const first = row + <usize>((g * GROUP) >> 1);
      const size = min(GROUP, headDim - g * GROUP);
      if (size == GROUP) {
        const bytes = v128.load(first);
        const low = i8x16.sub(v128.and(bytes, mask), bias), high = i8x16.sub(i8x16.shr_u(bytes, 4), bias);
        store_eight(to, i16x8.extend_low_i8x16_s(low), factor, factor);
        store_eight(to + 32, i16x8.extend_high_i8x16_s(low), factor, factor);
        store_eight(to + 64, i16x8.extend_low_i8x16_s(high), factor, factor);
        store_eight(to + 96, i16x8.extend_high_i8x16_s(high), factor, factor);
      } else {
        const half = size >> 1;
        for (let i = 0; i < half; i++) {
          const byte = <i32>load<u8>(first + <usize>i);
          store<f32>(to + (<usize>i << 2), <f32>((byte & 15) - 8) * scale);
          store<f32>(to + (<usize>(half + i) << 2), <f32>((byte >> 4) - 8) * scale);
        }
      }
      to += <usize>size << 2;
    }
  }
}

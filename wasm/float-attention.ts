// Attention over KV pages of 256 tokens.
//
// Strategy   The result of a (query, head) is defined as a merge, in page order, of one partial
//            softmax per page: largest score, sum of weights, weighted sum of values. Pages may
//            so be computed by different threads, or one after the other, with the same bits.
//            A block is `tokens` queries × the `group` heads that share a KV head.
// Layout     keys of a (page, KV head): [32 blocks of 8 tokens][headDim][8], values: [256][headDim],
//            f16, f32 or codes (cache-codes.ts); queries and partials f32. A partial is headDim values, then the
//            largest score and the sum of weights: `headDim + 4` f32, so that rows stay aligned.
// Limits     headDim even; multiples of 8 are fast, of 32 fastest.
//
// The inner loops are exported only so that the compiler keeps them functions of their own:
// inlined into attend_page, the engine's register allocator spills their accumulators, and
// they run at half the speed.

import { widen_keys_4, widen_keys_8, widen_values_4, widen_values_8 } from "./cache-codes";
import { exp4, f16_to_f32, f32_to_f16, lane_max, lane_sum, madd } from "./float-arithmetic";

/** Tokens of one page; PAGE_TOKENS of memory/plan.ts. */
const PAGE: i32 = 256;
/** Keys and values are widened so many tokens at a time. */
const TILE: i32 = 32;

/** How keys and values are stored; CACHE_KINDS of src/backend/cpu/cache-layout.ts. */
const F32: i32 = 0;
const F16: i32 = 1;
const Q8: i32 = 2;

/**
 * Rotates `heads` heads that lie one after the other, in place: x[i], x[i + half] turn by the
 * position's angle i. Where there is a norm it comes first; `scale` multiplies the result.
 *
 * @param cos [headDim / 2] f32, and so is sin
 * @param norm [headDim] f32, or 0
 */
export function rope_heads(
  x: usize, heads: i32, headDim: i32, cos: usize, sin: usize, norm: usize, eps: f32, scale: f32,
): void {
  const half = headDim >> 1;
  const factor = f32x4.splat(scale);
  for (let h = 0; h < heads; h++) {
    const a = x + ((<usize>h * headDim) << 2);
    const b = a + (<usize>half << 2);
    if (norm) head_norm(a, norm, headDim, eps);
    let i = 0;
    for (; i + 4 <= half; i += 4) {
      const at = <usize>i << 2;
      const c = f32x4.mul(v128.load(cos + at), factor), s = f32x4.mul(v128.load(sin + at), factor);
      const u = v128.load(a + at), v = v128.load(b + at);
      v128.store(a + at, f32x4.sub(f32x4.mul(u, c), f32x4.mul(v, s)));
      v128.store(b + at, f32x4.add(f32x4.mul(v, c), f32x4.mul(u, s)));
    }
    for (; i < half; i++) {
      const at = <usize>i << 2;
      const c = load<f32>(cos + at) * scale, s = load<f32>(sin + at) * scale;
      const u = load<f32>(a + at), v = load<f32>(b + at);
      store<f32>(a + at, u * c - v * s);
      store<f32>(b + at, v * c + u * s);
    }
  }
}

function head_norm(x: usize, weight: usize, size: i32, eps: f32): void {
  let sums = f32x4.splat(0);
  let i = 0;
  for (; i + 4 <= size; i += 4) {
    const v = v128.load(x + (<usize>i << 2));
    sums = madd(v, v, sums);
  }
  let sum = lane_sum(sums);
  for (; i < size; i++) sum += load<f32>(x + (<usize>i << 2)) * load<f32>(x + (<usize>i << 2));
  const factor: f32 = <f32>1 / Mathf.sqrt(sum / <f32>size + eps);
  for (i = 0; i < size; i++) {
    const at = <usize>i << 2;
    store<f32>(x + at, load<f32>(x + at) * factor * load<f32>(weight + at));
  }
}

/**
 * Writes one token's key and value of one KV head into its page.
 *
 * @param keys, values beginning of this (page, KV head)
 * @param slot position % 256
 * @param half 1: stored as f16, 0: as f32
 */
export function store_key_value(
  key: usize, value: usize, keys: usize, values: usize, headDim: i32, slot: i32, half: i32,
): void {
  const first = (slot >> 3) * headDim * 8 + (slot & 7);
  const row = slot * headDim;
  if (half) {
    for (let d = 0; d < headDim; d++) {
      store<u16>(keys + (<usize>(first + d * 8) << 1), <u16>f32_to_f16(load<f32>(key + (<usize>d << 2))));
      store<u16>(values + (<usize>(row + d) << 1), <u16>f32_to_f16(load<f32>(value + (<usize>d << 2))));
    }
  } else {
    for (let d = 0; d < headDim; d++)
      store<f32>(keys + (<usize>(first + d * 8) << 2), load<f32>(key + (<usize>d << 2)));
    memory.copy(values + (<usize>row << 2), value, <usize>headDim << 2);
  }
}

/** The numbers of widen(), read for the reason that EXP is (float-arithmetic.ts). */
const WIDEN: usize = memory.data<u32>(
  [
    0x7c007c00, 0x7c007c00, 0x7c007c00, 0x7c007c00, // 0: f16's exponent, twice
    0x8fffe000, 0x8fffe000, 0x8fffe000, 0x8fffe000, // 16: what is kept of a shifted f16
    0x77800000, 0x77800000, 0x77800000, 0x77800000, // 32: 2^112, from f16's exponents to f32's, denormals too
  ],
  16,
);

/**
 * Widens `count` f16 from → to. Infinities and NaN, which no sound model has, are looked for on
 * the way (16 bits a lane, cheaply) and mended afterwards.
 */
export function widen(from: usize, to: usize, count: i32): void {
  const exponent = v128.load(WIDEN), kept = v128.load(WIDEN, 16), bias = v128.load(WIDEN, 32);
  let odd = i16x8.splat(0);
  let i = 0;
  for (; i + 8 <= count; i += 8) {
    const v = v128.load(from + (<usize>i << 1));
    odd = v128.or(odd, i16x8.eq(v128.and(v, exponent), exponent));
    // Sign-extended and shifted by 13, the copies of the sign fill the bits above the exponent; one is kept.
    const low = v128.and(i32x4.shl(i32x4.extend_low_i16x8_s(v), 13), kept);
    const high = v128.and(i32x4.shl(i32x4.extend_high_i16x8_s(v), 13), kept);
    v128.store(to + (<usize>i << 2), f32x4.mul(low, bias));
    v128.store(to + (<usize>i << 2), f32x4.mul(high, bias), 16);
  }
  if (v128.any_true(odd)) i = 0;
  for (; i < count; i++) {
    const f = f16_to_f32(i32x4.splat(<i32>load<u16>(from + (<usize>i << 1))));
    store<f32>(to + (<usize>i << 2), f32x4.extract_lane(f, 0));
  }
}

/** Scores of four queries against eight keys `[headDim][8]`. */
export function scores_4(q0: usize, q1: usize, q2: usize, q3: usize, tile: usize, headDim: i32, s: usize): void {
  let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0), a3 = f32x4.splat(0);
  let b0 = f32x4.splat(0), b1 = f32x4.splat(0), b2 = f32x4.splat(0), b3 = f32x4.splat(0);
  const end = tile + (<usize>headDim << 5);
  let d: usize = 0;
  for (let at = tile; at < end; at += 32, d += 4) {
    const k0 = v128.load(at), k1 = v128.load(at, 16);
    let q = v128.load_splat<f32>(q0 + d);
    a0 = madd(q, k0, a0);
    b0 = madd(q, k1, b0);
    q = v128.load_splat<f32>(q1 + d);
    a1 = madd(q, k0, a1);
    b1 = madd(q, k1, b1);
    q = v128.load_splat<f32>(q2 + d);
    a2 = madd(q, k0, a2);
    b2 = madd(q, k1, b2);
    q = v128.load_splat<f32>(q3 + d);
    a3 = madd(q, k0, a3);
    b3 = madd(q, k1, b3);
  }
  const row: usize = PAGE << 2;
  v128.store(s, a0);
  v128.store(s, b0, 16);
  v128.store(s + row, a1);
  v128.store(s + row, b1, 16);
  v128.store(s + row * 2, a2);
  v128.store(s + row * 2, b2, 16);
  v128.store(s + row * 3, a3);
  v128.store(s + row * 3, b3, 16);
}

/** Scores of one query against eight keys. */
export function scores_1(q0: usize, tile: usize, headDim: i32, s: usize): void {
  let a = f32x4.splat(0), b = f32x4.splat(0);
  const end = tile + (<usize>headDim << 5);
  let d: usize = 0;
  for (let at = tile; at < end; at += 32, d += 4) {
    const q = v128.load_splat<f32>(q0 + d);
    a = madd(q, v128.load(at), a);
    b = madd(q, v128.load(at, 16), b);
  }
  v128.store(s, a);
  v128.store(s, b, 16);
}

/** Scores of one query against four times eight keys: enough sums at a time to hide their latency. */
export function scores_1x4(q0: usize, tile: usize, headDim: i32, s: usize): void {
  let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0), a3 = f32x4.splat(0);
  let b0 = f32x4.splat(0), b1 = f32x4.splat(0), b2 = f32x4.splat(0), b3 = f32x4.splat(0);
  const next = <usize>headDim << 5;
  const end = tile + next;
  const next2 = next << 1, next3 = next * 3;
  let d: usize = 0;
  for (let at = tile; at < end; at += 32, d += 4) {
    const q = v128.load_splat<f32>(q0 + d);
    a0 = madd(q, v128.load(at), a0);
    b0 = madd(q, v128.load(at, 16), b0);
    a1 = madd(q, v128.load(at + next), a1);
    b1 = madd(q, v128.load(at + next, 16), b1);
    a2 = madd(q, v128.load(at + next2), a2);
    b2 = madd(q, v128.load(at + next2, 16), b2);
    a3 = madd(q, v128.load(at + next3), a3);
    b3 = madd(q, v128.load(at + next3, 16), b3);
  }
  v128.store(s, a0);
  v128.store(s, b0, 16);
  v128.store(s, a1, 32);
  v128.store(s, b1, 48);
  v128.store(s, a2, 64);
  v128.store(s, b2, 80);
  v128.store(s, a3, 96);
  v128.store(s, b3, 112);
}

/** out[4 rows, 8 columns] += weights[4 rows, count] · values[count, 8 columns]. */
export function weigh_4(weights: usize, values: usize, headDim: i32, count: i32, out: usize, pitch: usize): void {
  const o1 = out + pitch, o2 = o1 + pitch, o3 = o2 + pitch;
  let a0 = v128.load(out), a1 = v128.load(o1), a2 = v128.load(o2), a3 = v128.load(o3);
  let b0 = v128.load(out, 16), b1 = v128.load(o1, 16), b2 = v128.load(o2, 16), b3 = v128.load(o3, 16);
  const line = <usize>headDim << 2;
  const row: usize = PAGE << 2;
  const end = weights + (<usize>count << 2);
  for (let w = weights, v = values; w < end; w += 4, v += line) {
    const v0 = v128.load(v), v1 = v128.load(v, 16);
    let p = v128.load_splat<f32>(w);
    a0 = madd(p, v0, a0);
    b0 = madd(p, v1, b0);
    p = v128.load_splat<f32>(w + row);
    a1 = madd(p, v0, a1);
    b1 = madd(p, v1, b1);
    p = v128.load_splat<f32>(w + row * 2);
    a2 = madd(p, v0, a2);
    b2 = madd(p, v1, b2);
    p = v128.load_splat<f32>(w + row * 3);
    a3 = madd(p, v0, a3);
    b3 = madd(p, v1, b3);
  }
  v128.store(out, a0);
  v128.store(out, b0, 16);
  v128.store(o1, a1);
  v128.store(o1, b1, 16);
  v128.store(o2, a2);
  v128.store(o2, b2, 16);
  v128.store(o3, a3);
  v128.store(o3, b3, 16);
}

export function weigh_1(weights: usize, values: usize, headDim: i32, count: i32, out: usize): void {
  let a = v128.load(out), b = v128.load(out, 16);
  const line = <usize>headDim << 2;
  const end = weights + (<usize>count << 2);
  for (let w = weights, v = values; w < end; w += 4, v += line) {
    const p = v128.load_splat<f32>(w);
    a = madd(p, v128.load(v), a);
    b = madd(p, v128.load(v, 16), b);
  }
  v128.store(out, a);
  v128.store(out, b, 16);
}

/** One row, 32 columns. */
export function weigh_1x4(weights: usize, values: usize, headDim: i32, count: i32, out: usize): void {
  let a0 = v128.load(out), a1 = v128.load(out, 16), a2 = v128.load(out, 32), a3 = v128.load(out, 48);
  let b0 = v128.load(out, 64), b1 = v128.load(out, 80), b2 = v128.load(out, 96), b3 = v128.load(out, 112);
  const line = <usize>headDim << 2;
  const end = weights + (<usize>count << 2);
  for (let w = weights, v = values; w < end; w += 4, v += line) {
    const p = v128.load_splat<f32>(w);
    a0 = madd(p, v128.load(v), a0);
    a1 = madd(p, v128.load(v, 16), a1);
    a2 = madd(p, v128.load(v, 32), a2);
    a3 = madd(p, v128.load(v, 48), a3);
    b0 = madd(p, v128.load(v, 64), b0);
    b1 = madd(p, v128.load(v, 80), b1);
    b2 = madd(p, v128.load(v, 96), b2);
    b3 = madd(p, v128.load(v, 112), b3);
  }
  v128.store(out, a0);
  v128.store(out, a1, 16);
  v128.store(out, a2, 32);
  v128.store(out, a3, 48);
  v128.store(out, b0, 64);
  v128.store(out, b1, 80);
  v128.store(out, b2, 96);
  v128.store(out, b3, 112);
}

/** The columns beyond a multiple of 8, one at a time, rounded as a fused lane would. */
function weigh_columns(weights: usize, values: usize, headDim: i32, count: i32, out: usize, from: i32): void {
  for (let d = from; d < headDim; d++) {
    let sum = f32x4.splat(load<f32>(out + (<usize>d << 2)));
    for (let t = 0; t < count; t++)
      sum = madd(v128.load_splat<f32>(weights + (<usize>t << 2)), v128.load_splat<f32>(values + (<usize>(t * headDim + d) << 2)), sum);
    store<f32>(out + (<usize>d << 2), f32x4.extract_lane(sum, 0));
  }
}

/** Scores → weights exp(s − largest) for keys lo … hi − 1 of one row; everything else up to `end` becomes 0. */
export function soften(s: usize, lo: i32, hi: i32, start: i32, end: i32, partial: usize, headDim: i32): void {
  for (let t = start; t < lo; t++) store<f32>(s + (<usize>t << 2), -Infinity);
  for (let t = max(hi, start); t < end; t++) store<f32>(s + (<usize>t << 2), -Infinity);
  let m = f32x4.splat(-Infinity);
  for (let t = start; t < end; t += 4) m = f32x4.max(m, v128.load(s + (<usize>t << 2)));
  const largest = lane_max(m);
  store<f32>(partial + (<usize>headDim << 2), largest);
  // −∞: no key of this page is seen; subtracting 0 then gives weights of 0 and no NaN.
  const shift = f32x4.splat(largest == -Infinity ? 0 : largest);
  let sum = f32x4.splat(0);
  for (let t = start; t < end; t += 4) {
    const at = s + (<usize>t << 2);
    const e = exp4(f32x4.sub(v128.load(at), shift));
    v128.store(at, e);
    sum = f32x4.add(sum, e);
  }
  store<f32>(partial + (<usize>headDim << 2), lane_sum(sum), 4);
}

// @ts-ignore: decorator
@inline
function query_row(q: usize, row: i32, group: i32, tokenStride: i32, headDim: i32): usize {
  return q + (<usize>((row / group) * tokenStride + (row % group) * headDim) << 2);
}

/**
 * Partials of a block of queries over one page.
 *
 * @param q first query: heads of a token headDim apart, tokens `tokenStride` f32 apart
 * @param relative position of the first token − position of the page's first key (may be negative for no keys)
 * @param window keys p − window + 1 … p are seen; 0: all up to p
 * @param keys, values beginning of this (page, KV head)
 * @param kind how they are stored, see below
 * @param scratch TILE · headDim f32 for widened tiles, then tokens · group · 256 f32 for scores
 * @param partials [tokens · group, headDim + 4] f32, written
 */
export function attend_page(
  q: usize, tokenStride: i32, tokens: i32, group: i32, headDim: i32, relative: i32, window: i32,
  keys: usize, values: usize, kind: i32, scratch: usize, partials: usize,
): void {
  const rows = tokens * group;
  const pitch = <usize>(headDim + 4) << 2;
  const scores = scratch + (<usize>(headDim * TILE) << 2);
  const end = min(PAGE, relative + tokens);
  const begin = window ? max(0, relative - window + 1) : 0;
  const start = begin & ~7;
  const padded = (end + 7) & ~7;

  for (let t = start; t < padded; t += TILE) {
    const count = min(TILE, padded - t);
    let tile = scratch;
    if (kind == F32) tile = keys + (<usize>(t * headDim) << 2);
    else if (kind == F16) widen(keys + (<usize>(t * headDim) << 1), scratch, headDim * count);
    else if (kind == Q8) widen_keys_8(keys, headDim, t, count, scratch);
    else widen_keys_4(keys, headDim, t, count, scratch);
    score_tile(q, tokenStride, rows, group, headDim, tile, count, scores + (<usize>t << 2));
  }

  for (let r = 0; r < rows; r++) {
    const p = relative + r / group;
    const lo = window ? max(0, p - window + 1) : 0;
    // Rows that see nothing here have their window behind the page's end.
    soften(scores + <usize>r * (PAGE << 2), min(lo, padded), min(PAGE, p + 1), start, padded, partials + <usize>r * pitch, headDim);
    memory.fill(partials + <usize>r * pitch, 0, <usize>headDim << 2);
  }

  for (let t = begin; t < end; t += TILE) {
    const count = min(TILE, end - t);
    let tile = scratch;
    if (kind == F32) tile = values + (<usize>(t * headDim) << 2);
    else if (kind == F16) widen(values + (<usize>(t * headDim) << 1), scratch, headDim * count);
    else if (kind == Q8) widen_values_8(values, headDim, t, count, scratch);
    else widen_values_4(values, headDim, t, count, scratch);
    weigh_tile(scores + (<usize>t << 2), rows, headDim, tile, count, partials);
  }
}

/** Scores of all rows against `count` keys, a multiple of 8. */
function score_tile(
  q: usize, tokenStride: i32, rows: i32, group: i32, headDim: i32, tile: usize, count: i32, scores: usize,
): void {
  const eight = <usize>headDim << 5;
  let r = 0;
  for (; r + 4 <= rows; r += 4) {
    const q0 = query_row(q, r, group, tokenStride, headDim), q1 = query_row(q, r + 1, group, tokenStride, headDim);
    const q2 = query_row(q, r + 2, group, tokenStride, headDim), q3 = query_row(q, r + 3, group, tokenStride, headDim);
    const column = scores + <usize>r * (PAGE << 2);
    for (let i = 0; i < count; i += 8) scores_4(q0, q1, q2, q3, tile + <usize>(i >> 3) * eight, headDim, column + (<usize>i << 2));
  }
  for (; r < rows; r++) {
    const q0 = query_row(q, r, group, tokenStride, headDim);
    const column = scores + <usize>r * (PAGE << 2);
    if (count == TILE) scores_1x4(q0, tile, headDim, column);
    else for (let i = 0; i < count; i += 8) scores_1(q0, tile + <usize>(i >> 3) * eight, headDim, column + (<usize>i << 2));
  }
}

/** Adds the weighted values of `count` keys to the partials of all rows. */
function weigh_tile(weights: usize, rows: i32, headDim: i32, tile: usize, count: i32, partials: usize): void {
  const pitch = <usize>(headDim + 4) << 2;
  const whole = headDim & ~7;
  let r = 0;
  for (; r + 4 <= rows; r += 4)
    for (let d = 0; d < whole; d += 8)
      weigh_4(
        weights + <usize>r * (PAGE << 2), tile + (<usize>d << 2), headDim, count,
        partials + <usize>r * pitch + (<usize>d << 2), pitch,
      );
  for (; r < rows; r++) {
    const w = weights + <usize>r * (PAGE << 2), out = partials + <usize>r * pitch;
    let d = 0;
    for (; d + 32 <= headDim; d += 32) weigh_1x4(w, tile + (<usize>d << 2), headDim, count, out + (<usize>d << 2));
    for (; d < whole; d += 8) weigh_1(w, tile + (<usize>d << 2), headDim, count, out + (<usize>d << 2));
  }
  if (whole < headDim)
    for (r = 0; r < rows; r++)
      weigh_columns(weights + <usize>r * (PAGE << 2), tile, headDim, count, partials + <usize>r * pitch, whole);
}

/** Makes `rows` accumulators empty: nothing seen yet. */
export function clear_partials(into: usize, rows: i32, headDim: i32): void {
  const pitch = <usize>(headDim + 4) << 2;
  for (let r = 0; r < rows; r++) {
    memory.fill(into + <usize>r * pitch, 0, pitch);
    store<f32>(into + <usize>r * pitch + (<usize>headDim << 2), -Infinity);
  }
}

/** Merges the partials of the next page into the accumulators, row by row. */
export function merge_partials(into: usize, partials: usize, rows: i32, headDim: i32): void {
  const pitch = <usize>(headDim + 4) << 2;
  const tail = <usize>headDim << 2;
  for (let r = 0; r < rows; r++) {
    const a = into + <usize>r * pitch, b = partials + <usize>r * pitch;
    const old = load<f32>(a + tail), page = load<f32>(b + tail);
    if (page == -Infinity) continue;
    const largest = max(old, page);
    const factors = exp4(f32x4(old - largest, page - largest, 0, 0));
    const keep: f32 = f32x4.extract_lane(factors, 0), add: f32 = f32x4.extract_lane(factors, 1);
    store<f32>(a + tail, largest);
    store<f32>(a + tail, load<f32>(a + tail, 4) * keep + load<f32>(b + tail, 4) * add, 4);
    const keeps = f32x4.splat(keep), adds = f32x4.splat(add);
    let d = 0;
    for (; d + 4 <= headDim; d += 4) {
      const at = <usize>d << 2;
      v128.store(a + at, f32x4.add(f32x4.mul(v128.load(a + at), keeps), f32x4.mul(v128.load(b + at), adds)));
    }
    for (; d < headDim; d++) {
      const at = <usize>d << 2;
      store<f32>(a + at, load<f32>(a + at) * keep + load<f32>(b + at) * add);
    }
  }
}

/** Divides the accumulators of a block by their sums and writes them as attention output, laid out as the queries are. */
export function finish_attention(
  from: usize, out: usize, tokenStride: i32, tokens: i32, group: i32, headDim: i32,
): void {
  const pitch = <usize>(headDim + 4) << 2;
  const rows = tokens * group;
  for (let r = 0; r < rows; r++) {
    const a = from + <usize>r * pitch;
    const y = query_row(out, r, group, tokenStride, headDim);
    const inverse: f32 = <f32>1 / load<f32>(a + (<usize>headDim << 2), 4);
    const factor = f32x4.splat(inverse);
    let d = 0;
    for (; d + 4 <= headDim; d += 4) {
      const at = <usize>d << 2;
      v128.store(y + at, f32x4.mul(v128.load(a + at), factor));
    }
    for (; d < headDim; d++) {
      const at = <usize>d << 2;
      store<f32>(y + at, load<f32>(a + at) * inverse);
    }
  }
}

// y[m, out] = W x + bias for weights of at most 4 bits and int8 activations, for a range of
// tiles of 16 outputs. Three loops:
//
// rows      one token: weights stream through registers, one sequential read;
//           a body of two lines (16 rows × 16 inputs) keeps twelve loads, which V8's register
//           allocator still manages without spilling.
// product   more: a block is unpacked once into a slot, then met by all tokens in pairs:
//           16 rows × 2 tokens of i16 sums in eight registers.
// product   without relaxed SIMD: 8 rows × 2 tokens of i32 sums.
//
// A sum of eight dot products, each of two pairs 15 · 127, is at most 30,480: it fits i16.

import { DOT_ADD } from "./dot-add";
import { READ_AHEAD, keepTouched } from "./read-ahead";
import { addBlock, scalesAt, storeTile } from "./quantized-rows";
import { CHUNK, SCALES, SLOT_AREA, SUMS, UNPACKED, ZEROS, claimSlot, releaseSlot } from "./quantized-slot";

/**
 * 15, but exported and variable, so that nobody knows: V8 13 (Node 24) makes a known constant
 * anew at every use, which costs a third of the speed.
 */
export let nibbleMask: i32 = 15;

/** From this many tokens on a block is unpacked first. Both ways give the same bits. */
const PRODUCT_FROM: i32 = 2;

// @ts-ignore: decorator
@inline
function low(v: v128, mask: v128): v128 {
  return v128.and(v, mask);
}

// @ts-ignore: decorator
@inline
function high(v: v128, mask: v128): v128 {
  return v128.and(i16x8.shr_u(v, 4), mask);
}

/** Four activation codes, for every row: as bytes, or as i16 where there is no dot product of bytes. */
// @ts-ignore: decorator
@inline
function splatInputs(x: usize): v128 {
  const v = v128.load32_splat(x);
  return ASC_FEATURE_RELAXED_SIMD ? v : i16x8.extend_low_i8x16_s(v);
}

/** [r0 k01, r0 k23, r1 …] and [r2 k01, …] → one sum for each of four rows. */
// @ts-ignore: decorator
@inline
function fold(a: v128, b: v128): v128 {
  return i32x4.add(v128.shuffle<i32>(a, b, 0, 2, 4, 6), v128.shuffle<i32>(a, b, 1, 3, 5, 7));
}

/** sum + four rows × 16 inputs, two words of a row each, i32x4. */
// @ts-ignore: decorator
@inline
function addDot16(sum: v128, x0: v128, x1: v128, x2: v128, x3: v128, w0: v128, w1: v128, mask: v128): v128 {
  if (DOT_ADD) {
    sum = v128.relaxed_dot_add<i32>(x0, low(w0, mask), sum);
    sum = v128.relaxed_dot_add<i32>(x1, high(w0, mask), sum);
    sum = v128.relaxed_dot_add<i32>(x2, low(w1, mask), sum);
    return v128.relaxed_dot_add<i32>(x3, high(w1, mask), sum);
  }
  return i32x4.add(sum, dot16(x0, x1, x2, x3, w0, w1, mask));
}

/** Four rows × 16 inputs: two words of a row each, i32x4. */
// @ts-ignore: decorator
@inline
function dot16(x0: v128, x1: v128, x2: v128, x3: v128, w0: v128, w1: v128, mask: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) {
    const a = i16x8.add(v128.relaxed_dot<i16>(x0, low(w0, mask)), v128.relaxed_dot<i16>(x1, high(w0, mask)));
    const b = i16x8.add(v128.relaxed_dot<i16>(x2, low(w1, mask)), v128.relaxed_dot<i16>(x3, high(w1, mask)));
    return i32x4.extadd_pairwise_i16x8_s(i16x8.add(a, b));
  }
  const l0 = low(w0, mask), h0 = high(w0, mask), l1 = low(w1, mask), h1 = high(w1, mask);
  const a = i32x4.add(
    i32x4.add(i32x4.dot_i16x8_s(x0, i16x8.extend_low_i8x16_s(l0)), i32x4.dot_i16x8_s(x1, i16x8.extend_low_i8x16_s(h0))),
    i32x4.add(i32x4.dot_i16x8_s(x2, i16x8.extend_low_i8x16_s(l1)), i32x4.dot_i16x8_s(x3, i16x8.extend_low_i8x16_s(h1))),
  );
  const b = i32x4.add(
    i32x4.add(i32x4.dot_i16x8_s(x0, i16x8.extend_high_i8x16_s(l0)), i32x4.dot_i16x8_s(x1, i16x8.extend_high_i8x16_s(h0))),
    i32x4.add(i32x4.dot_i16x8_s(x2, i16x8.extend_high_i8x16_s(l1)), i32x4.dot_i16x8_s(x3, i16x8.extend_high_i8x16_s(h1))),
  );
  return fold(a, b);
}

/** zero · −Σx for four rows: zeros as i32 ≤ 16, −Σx as an i16 in every even lane. */
// @ts-ignore: decorator
@inline
function zeroTerm(zeros: v128, minusSum: v128): v128 {
  return i32x4.dot_i16x8_s(zeros, minusSum);
}

// @ts-ignore: decorator
@inline
function rows<S>(
  weights: usize, tileBytes: usize, blocks: i32, blockSize: i32, records: usize, m: i32, bias: usize, y: usize, ldy: i32,
  out: i32, tileFrom: i32, tileTo: i32, add: i32,
): void {
  const recordBytes: usize = 16 + blockSize;
  const stride = recordBytes * m;
  const scaleBytes: usize = 16 * sizeof<S>();
  const mask = i8x16.splat(<i8>nibbleMask);
  let sink: u32 = 0;
  for (let tile = tileFrom; tile < tileTo; tile++) {
    for (let token = 0; token < m; token++) {
      let w = weights + <usize>tile * tileBytes;
      let record = records + <usize>token * recordBytes;
      let a0 = f32x4.splat(0), a1 = a0, a2 = a0, a3 = a0;
      for (let block = 0; block < blocks; block++) {
        const scales = w;
        const minusSum = v128.load32_splat(record, 4);
        const z01 = v128.load8x8_u(w + scaleBytes), z23 = v128.load8x8_u(w + scaleBytes, 8);
        let i0 = zeroTerm(i32x4.extend_low_i16x8_u(z01), minusSum);
        let i1 = zeroTerm(i32x4.extend_high_i16x8_u(z01), minusSum);
        let i2 = zeroTerm(i32x4.extend_low_i16x8_u(z23), minusSum);
        let i3 = zeroTerm(i32x4.extend_high_i16x8_u(z23), minusSum);
        w += scaleBytes + 16;
        let x = record + 16;
        const end = w + (<usize>blockSize << 3);
        do {
          sink |= load<u32>(w, READ_AHEAD - 64) | load<u32>(w, READ_AHEAD);
          const x0 = splatInputs(x), x1 = splatInputs(x + 4), x2 = splatInputs(x + 8), x3 = splatInputs(x + 12);
          i0 = addDot16(i0, x0, x1, x2, x3, v128.load(w), v128.load(w, 64), mask);
          i1 = addDot16(i1, x0, x1, x2, x3, v128.load(w, 16), v128.load(w, 80), mask);
          i2 = addDot16(i2, x0, x1, x2, x3, v128.load(w, 32), v128.load(w, 96), mask);
          i3 = addDot16(i3, x0, x1, x2, x3, v128.load(w, 48), v128.load(w, 112), mask);
          w += 128;
          x += 16;
        } while (w < end);
        const d = v128.load32_splat(record);
        a0 = addBlock(a0, i0, scalesAt<S>(scales, 0), d);
        a1 = addBlock(a1, i1, scalesAt<S>(scales, 1), d);
        a2 = addBlock(a2, i2, scalesAt<S>(scales, 2), d);
        a3 = addBlock(a3, i3, scalesAt<S>(scales, 3), d);
        record += stride;
      }
      const first = tile << 4;
      storeTile(y + ((<usize>token * ldy + first) << 2), bias ? bias + (<usize>first << 2) : 0, out - first, add, a0, a1, a2, a3);
    }
  }
  keepTouched(sink);
}

/** Codes, scales and zeros of one record as bytes, f32 and i32 in the slot. */
// @ts-ignore: decorator
@inline
function unpack<S>(w: usize, blockSize: i32, slot: usize): void {
  const scaleBytes: usize = 16 * sizeof<S>();
  for (let i: usize = 0; i < 4; i++) {
    v128.store(slot + SCALES + i * 16, scalesAt<S>(w, i));
    v128.store(slot + ZEROS + i * 16, i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(v128.load32_zero(w + scaleBytes + i * 4))));
  }
  w += scaleBytes + 16;
  const mask = i8x16.splat(<i8>nibbleMask);
  const end = w + (<usize>blockSize << 3);
  let to = slot + UNPACKED;
  do {
    const v0 = v128.load(w), v1 = v128.load(w, 16), v2 = v128.load(w, 32), v3 = v128.load(w, 48);
    v128.store(to, low(v0, mask));
    v128.store(to, low(v1, mask), 16);
    v128.store(to, low(v2, mask), 32);
    v128.store(to, low(v3, mask), 48);
    v128.store(to, high(v0, mask), 64);
    v128.store(to, high(v1, mask), 80);
    v128.store(to, high(v2, mask), 96);
    v128.store(to, high(v3, mask), 112);
    w += 64;
    to += 128;
  } while (w < end);
}

// @ts-ignore: decorator
@inline
function addTo(sums: usize, integers: v128, scales: usize, d: v128): void {
  v128.store(sums, addBlock(v128.load(sums), integers, v128.load(scales), d));
}

/** An unpacked block of 16 rows × two tokens, added to their sums. */
// @ts-ignore: decorator
@inline
function pairRelaxed(slot: usize, blockSize: i32, r: usize, q: usize, sumsR: usize, sumsQ: usize): void {
  const minusR = v128.load32_splat(r, 4), minusQ = v128.load32_splat(q, 4);
  let i0 = zeroTerm(v128.load(slot + ZEROS), minusR), j0 = zeroTerm(v128.load(slot + ZEROS), minusQ);
  let i1 = zeroTerm(v128.load(slot + ZEROS, 16), minusR), j1 = zeroTerm(v128.load(slot + ZEROS, 16), minusQ);
  let i2 = zeroTerm(v128.load(slot + ZEROS, 32), minusR), j2 = zeroTerm(v128.load(slot + ZEROS, 32), minusQ);
  let i3 = zeroTerm(v128.load(slot + ZEROS, 48), minusR), j3 = zeroTerm(v128.load(slot + ZEROS, 48), minusQ);
  let w = slot + UNPACKED, x = r, u = q;
  const end = w + (<usize>blockSize << 4);
  if (DOT_ADD) {
    do {
      const x0 = v128.load32_splat(x, 16), u0 = v128.load32_splat(u, 16);
      const w0 = v128.load(w), w1 = v128.load(w, 16), w2 = v128.load(w, 32), w3 = v128.load(w, 48);
      i0 = v128.relaxed_dot_add<i32>(x0, w0, i0);
      j0 = v128.relaxed_dot_add<i32>(u0, w0, j0);
      i1 = v128.relaxed_dot_add<i32>(x0, w1, i1);
      j1 = v128.relaxed_dot_add<i32>(u0, w1, j1);
      i2 = v128.relaxed_dot_add<i32>(x0, w2, i2);
      j2 = v128.relaxed_dot_add<i32>(u0, w2, j2);
      i3 = v128.relaxed_dot_add<i32>(x0, w3, i3);
      j3 = v128.relaxed_dot_add<i32>(u0, w3, j3);
      w += 64;
      x += 4;
      u += 4;
    } while (w < end);
  } else do {
    let s0 = i16x8.splat(0), s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0;
    const stop = w + 512;
    do {
      const x0 = v128.load32_splat(x, 16), u0 = v128.load32_splat(u, 16);
      const w0 = v128.load(w), w1 = v128.load(w, 16), w2 = v128.load(w, 32), w3 = v128.load(w, 48);
      s0 = i16x8.add(s0, v128.relaxed_dot<i16>(x0, w0));
      t0 = i16x8.add(t0, v128.relaxed_dot<i16>(u0, w0));
      s1 = i16x8.add(s1, v128.relaxed_dot<i16>(x0, w1));
      t1 = i16x8.add(t1, v128.relaxed_dot<i16>(u0, w1));
      s2 = i16x8.add(s2, v128.relaxed_dot<i16>(x0, w2));
      t2 = i16x8.add(t2, v128.relaxed_dot<i16>(u0, w2));
      s3 = i16x8.add(s3, v128.relaxed_dot<i16>(x0, w3));
      t3 = i16x8.add(t3, v128.relaxed_dot<i16>(u0, w3));
      w += 64;
      x += 4;
      u += 4;
    } while (w < stop);
    i0 = i32x4.add(i0, i32x4.extadd_pairwise_i16x8_s(s0));
    i1 = i32x4.add(i1, i32x4.extadd_pairwise_i16x8_s(s1));
    i2 = i32x4.add(i2, i32x4.extadd_pairwise_i16x8_s(s2));
    i3 = i32x4.add(i3, i32x4.extadd_pairwise_i16x8_s(s3));
    j0 = i32x4.add(j0, i32x4.extadd_pairwise_i16x8_s(t0));
    j1 = i32x4.add(j1, i32x4.extadd_pairwise_i16x8_s(t1));
    j2 = i32x4.add(j2, i32x4.extadd_pairwise_i16x8_s(t2));
    j3 = i32x4.add(j3, i32x4.extadd_pairwise_i16x8_s(t3));
  } while (w < end);
  addPair(slot, r, q, sumsR, sumsQ, i0, i1, i2, i3, j0, j1, j2, j3);
}

// @ts-ignore: decorator
@inline
function addPair(
  slot: usize, r: usize, q: usize, sumsR: usize, sumsQ: usize, i0: v128, i1: v128, i2: v128, i3: v128, j0: v128, j1: v128,
  j2: v128, j3: v128,
): void {
  const d = v128.load32_splat(r), e = v128.load32_splat(q);
  addTo(sumsR, i0, slot + SCALES, d);
  addTo(sumsR + 16, i1, slot + SCALES + 16, d);
  addTo(sumsR + 32, i2, slot + SCALES + 32, d);
  addTo(sumsR + 48, i3, slot + SCALES + 48, d);
  addTo(sumsQ, j0, slot + SCALES, e);
  addTo(sumsQ + 16, j1, slot + SCALES + 16, e);
  addTo(sumsQ + 32, j2, slot + SCALES + 32, e);
  addTo(sumsQ + 48, j3, slot + SCALES + 48, e);
}

/** The same with i16 dot products, eight rows (`half` = 0 or 32: where their bytes begin in a line). */
// @ts-ignore: decorator
@inline
function pairPlain(slot: usize, blockSize: i32, r: usize, q: usize, sumsR: usize, sumsQ: usize, half: usize): void {
  let s0 = i32x4.splat(0), s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0;
  let w = slot + UNPACKED + half, x = r, u = q;
  const end = w + (<usize>blockSize << 4);
  do {
    const x0 = i16x8.extend_low_i8x16_s(v128.load32_splat(x, 16)), u0 = i16x8.extend_low_i8x16_s(v128.load32_splat(u, 16));
    const w0 = v128.load8x8_s(w), w1 = v128.load8x8_s(w, 8), w2 = v128.load8x8_s(w, 16), w3 = v128.load8x8_s(w, 24);
    s0 = i32x4.add(s0, i32x4.dot_i16x8_s(x0, w0));
    t0 = i32x4.add(t0, i32x4.dot_i16x8_s(u0, w0));
    s1 = i32x4.add(s1, i32x4.dot_i16x8_s(x0, w1));
    t1 = i32x4.add(t1, i32x4.dot_i16x8_s(u0, w1));
    s2 = i32x4.add(s2, i32x4.dot_i16x8_s(x0, w2));
    t2 = i32x4.add(t2, i32x4.dot_i16x8_s(u0, w2));
    s3 = i32x4.add(s3, i32x4.dot_i16x8_s(x0, w3));
    t3 = i32x4.add(t3, i32x4.dot_i16x8_s(u0, w3));
    w += 64;
    x += 4;
    u += 4;
  } while (w < end);
  const minusR = v128.load32_splat(r, 4), minusQ = v128.load32_splat(q, 4), d = v128.load32_splat(r), e = v128.load32_splat(q);
  // Eight rows are 32 bytes of codes in a line, and 32 bytes of i32 or f32.
  const z = slot + ZEROS + half, scales = slot + SCALES + half;
  addTo(sumsR + half, i32x4.add(zeroTerm(v128.load(z), minusR), fold(s0, s1)), scales, d);
  addTo(sumsR + half + 16, i32x4.add(zeroTerm(v128.load(z, 16), minusR), fold(s2, s3)), scales + 16, d);
  addTo(sumsQ + half, i32x4.add(zeroTerm(v128.load(z), minusQ), fold(t0, t1)), scales, e);
  addTo(sumsQ + half + 16, i32x4.add(zeroTerm(v128.load(z, 16), minusQ), fold(t2, t3)), scales + 16, e);
}

// @ts-ignore: decorator
@inline
function product<S>(
  weights: usize, tileBytes: usize, blocks: i32, blockSize: i32, buffer: usize, m: i32, bias: usize, y: usize, ldy: i32,
  out: i32, tileFrom: i32, tileTo: i32, add: i32,
): void {
  const slot = claimSlot(buffer);
  const recordBytes: usize = 16 + blockSize;
  const weightBytes: usize = 16 * sizeof<S>() + 16 + (<usize>blockSize << 3);
  for (let tile = tileFrom; tile < tileTo; tile++) {
    const outputs = y + (<usize>tile << 6), tileBias = bias ? bias + (<usize>tile << 6) : 0;
    for (let first = 0; first < m; first += CHUNK) {
      const tokens = min(CHUNK, m - first);
      memory.fill(slot + SUMS, 0, <usize>tokens << 6);
      let w = weights + <usize>tile * tileBytes;
      let records = buffer + SLOT_AREA + <usize>first * recordBytes;
      for (let block = 0; block < blocks; block++) {
        unpack<S>(w, blockSize, slot);
        let r = records, sums = slot + SUMS;
        for (let token = 0; token < tokens; token += 2) {
          // An odd last token is its own partner, whose sums go where nobody looks.
          const odd = token + 1 == tokens;
          const q = odd ? r : r + recordBytes, sumsQ = odd ? slot + SUMS + (<usize>CHUNK << 6) : sums + 64;
          if (ASC_FEATURE_RELAXED_SIMD) pairRelaxed(slot, blockSize, r, q, sums, sumsQ);
          else {
            pairPlain(slot, blockSize, r, q, sums, sumsQ, 0);
            pairPlain(slot, blockSize, r, q, sums, sumsQ, 32);
          }
          r += 2 * recordBytes;
          sums += 128;
        }
        w += weightBytes;
        records += recordBytes * m;
      }
      for (let token = 0; token < tokens; token++) {
        const sums = slot + SUMS + (<usize>token << 6);
        storeTile(
          outputs + ((<usize>(first + token) * ldy) << 2), tileBias, out - (tile << 4), add,
          v128.load(sums), v128.load(sums, 16), v128.load(sums, 32), v128.load(sums, 48),
        );
      }
    }
  }
  releaseSlot(buffer);
}

/**
 * Tiles tileFrom … tileTo − 1 of a nibble linear in the record form with f16 scales.
 *
 * @param buffer activations that `quantize_records` wrote for `m` tokens
 * @param bias f32 [out, padded to 16], or 0
 * @param y f32 [m, ldy]; only the outputs of these tiles are written
 * @param add 1: y += instead of y =
 */
export function linear_nibbles_f16(
  weights: usize, tileBytes: usize, blocks: i32, blockSize: i32, buffer: usize, m: i32, bias: usize, y: usize, ldy: i32,
  out: i32, tileFrom: i32, tileTo: i32, add: i32,
): void {
  if (m < PRODUCT_FROM) rows<u16>(weights, tileBytes, blocks, blockSize, buffer + SLOT_AREA, m, bias, y, ldy, out, tileFrom, tileTo, add);
  else product<u16>(weights, tileBytes, blocks, blockSize, buffer, m, bias, y, ldy, out, tileFrom, tileTo, add);
}

/** The same with f32 scales. */
export function linear_nibbles_f32(
  weights: usize, tileBytes: usize, blocks: i32, blockSize: i32, buffer: usize, m: i32, bias: usize, y: usize, ldy: i32,
  out: i32, tileFrom: i32, tileTo: i32, add: i32,
): void {
  if (m < PRODUCT_FROM) rows<f32>(weights, tileBytes, blocks, blockSize, buffer + SLOT_AREA, m, bias, y, ldy, out, tileFrom, tileTo, add);
  else product<f32>(weights, tileBytes, blocks, blockSize, buffer, m, bias, y, ldy, out, tileFrom, tileTo, add);
}

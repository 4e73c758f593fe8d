// Many tokens against weights of at most 4 bits: a block is unpacked once into a slot, then met by
// all tokens, whose sums stay in registers for the length of a block:
//
// quad        16 rows × 4 tokens of i32, where one instruction makes a product (dot-add.ts);
// pair        16 rows × 2 tokens, of i32 there, else of i16;
// pairPlain   8 rows × 2 tokens of i32, without relaxed SIMD.

import { DOT_ADD } from "./dot-add";
import { CENTRED_INPUTS, centredZeros, fold, high, low, nibbleMask, zeroTerm } from "./nibbles";
import { addEight, addUpperEight, scalesAt, storeTile } from "./quantized-rows";
import { CHUNK, SCALES, SLOT_AREA, SUMS, UNPACKED, ZEROS, claimSlot, releaseSlot } from "./quantized-slot";

/** Codes, scales and zeros of one record as bytes, f32 and i32 in the slot; zeros that are not stored are 8. */
// @ts-ignore: decorator
@inline
function unpack<S>(stored: bool, w: usize, blockSize: i32, slot: usize): void {
  const scaleBytes: usize = 16 * sizeof<S>();
  for (let i: usize = 0; i < 4; i++) {
    v128.store(slot + SCALES + i * 16, scalesAt<S>(w, i));
    const zeros = centredZeros(
      stored ? i16x8.extend_low_i8x16_u(v128.load32_zero(w + scaleBytes + i * 4)) : i16x8.splat(8),
    );
    v128.store(slot + ZEROS + i * 16, i32x4.extend_low_i16x8_u(zeros));
  }
  w += scaleBytes + (stored ? 16 : 0);
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

/** Adds a block's integers of a token to its sums. */
// @ts-ignore: decorator
@inline
function addToken(slot: usize, record: usize, sums: usize, i0: v128, i1: v128, i2: v128, i3: v128): void {
  const d = v128.load32_splat(record);
  const scales = slot + SCALES;
  addEight(sums, i0, i1, v128.load(scales), v128.load(scales, 16), d);
  addUpperEight(sums, i2, i3, v128.load(scales, 32), v128.load(scales, 48), d);
}

/** An unpacked block of 16 rows × four tokens, added to their sums. */
// @ts-ignore: decorator
@inline
function quad(slot: usize, blockSize: i32, r0: usize, recordBytes: usize, sums: usize): void {
  const r1 = r0 + recordBytes, r2 = r1 + recordBytes, r3 = r2 + recordBytes;
  const zeros = slot + ZEROS;
  const z0 = v128.load(zeros), z1 = v128.load(zeros, 16), z2 = v128.load(zeros, 32), z3 = v128.load(zeros, 48);
  let minus = v128.load32_splat(r0, 4);
  let a0 = zeroTerm(z0, minus), a1 = zeroTerm(z1, minus), a2 = zeroTerm(z2, minus), a3 = zeroTerm(z3, minus);
  minus = v128.load32_splat(r1, 4);
  let b0 = zeroTerm(z0, minus), b1 = zeroTerm(z1, minus), b2 = zeroTerm(z2, minus), b3 = zeroTerm(z3, minus);
  minus = v128.load32_splat(r2, 4);
  let c0 = zeroTerm(z0, minus), c1 = zeroTerm(z1, minus), c2 = zeroTerm(z2, minus), c3 = zeroTerm(z3, minus);
  minus = v128.load32_splat(r3, 4);
  let d0 = zeroTerm(z0, minus), d1 = zeroTerm(z1, minus), d2 = zeroTerm(z2, minus), d3 = zeroTerm(z3, minus);
  let w = slot + UNPACKED, k: usize = 0;
  const end = w + (<usize>blockSize << 4);
  do {
    const w0 = v128.load(w), w1 = v128.load(w, 16), w2 = v128.load(w, 32), w3 = v128.load(w, 48);
    let x = v128.load32_splat(r0 + k, 16);
    a0 = v128.relaxed_dot_add<i32>(x, w0, a0);
    a1 = v128.relaxed_dot_add<i32>(x, w1, a1);
    a2 = v128.relaxed_dot_add<i32>(x, w2, a2);
    a3 = v128.relaxed_dot_add<i32>(x, w3, a3);
    x = v128.load32_splat(r1 + k, 16);
    b0 = v128.relaxed_dot_add<i32>(x, w0, b0);
    b1 = v128.relaxed_dot_add<i32>(x, w1, b1);
    b2 = v128.relaxed_dot_add<i32>(x, w2, b2);
    b3 = v128.relaxed_dot_add<i32>(x, w3, b3);
    x = v128.load32_splat(r2 + k, 16);
    c0 = v128.relaxed_dot_add<i32>(x, w0, c0);
    c1 = v128.relaxed_dot_add<i32>(x, w1, c1);
    c2 = v128.relaxed_dot_add<i32>(x, w2, c2);
    c3 = v128.relaxed_dot_add<i32>(x, w3, c3);
    x = v128.load32_splat(r3 + k, 16);
    d0 = v128.relaxed_dot_add<i32>(x, w0, d0);
    d1 = v128.relaxed_dot_add<i32>(x, w1, d1);
    d2 = v128.relaxed_dot_add<i32>(x, w2, d2);
    d3 = v128.relaxed_dot_add<i32>(x, w3, d3);
    w += 64;
    k += 4;
  } while (w < end);
  addToken(slot, r0, sums, a0, a1, a2, a3);
  addToken(slot, r1, sums + 64, b0, b1, b2, b3);
  addToken(slot, r2, sums + 128, c0, c1, c2, c3);
  addToken(slot, r3, sums + 192, d0, d1, d2, d3);
}

/** An unpacked block of 16 rows × two tokens, added to their sums. */
// @ts-ignore: decorator
@inline
function pair(slot: usize, blockSize: i32, r: usize, q: usize, sumsR: usize, sumsQ: usize): void {
  const minusR = v128.load32_splat(r, 4), minusQ = v128.load32_splat(q, 4);
  const zeros = slot + ZEROS;
  const z0 = v128.load(zeros), z1 = v128.load(zeros, 16), z2 = v128.load(zeros, 32), z3 = v128.load(zeros, 48);
  let i0 = zeroTerm(z0, minusR), i1 = zeroTerm(z1, minusR), i2 = zeroTerm(z2, minusR), i3 = zeroTerm(z3, minusR);
  let j0 = zeroTerm(z0, minusQ), j1 = zeroTerm(z1, minusQ), j2 = zeroTerm(z2, minusQ), j3 = zeroTerm(z3, minusQ);
  let w = slot + UNPACKED, x = r, u = q, startR = r, startQ = q;
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
    let s0 = v128.load32_splat(startR, 8), s1 = s0, s2 = s0, s3 = s0;
    let t0 = v128.load32_splat(startQ, 8), t1 = t0, t2 = t0, t3 = t0;
    const stop = min(end, w + (<usize>CENTRED_INPUTS << 4));
    startR += 4;
    startQ += 4;
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
  addToken(slot, r, sumsR, i0, i1, i2, i3);
  addToken(slot, q, sumsQ, j0, j1, j2, j3);
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
  const z = slot + ZEROS + half;
  const za = v128.load(z), zb = v128.load(z, 16), scales = slot + SCALES + half, sa = v128.load(scales), sb = v128.load(scales, 16);
  addEight(sumsR + half, i32x4.add(zeroTerm(za, minusR), fold(s0, s1)), i32x4.add(zeroTerm(zb, minusR), fold(s2, s3)), sa, sb, d);
  addEight(sumsQ + half, i32x4.add(zeroTerm(za, minusQ), fold(t0, t1)), i32x4.add(zeroTerm(zb, minusQ), fold(t2, t3)), sa, sb, e);
}

/** Tiles tileFrom … tileTo − 1, all tokens at once; the parameters are those of `rows`. S: u16 or f32 scales. */
// @ts-ignore: decorator
@inline
export function product<S>(
  stored: bool, weights: usize, tileBytes: usize, blocks: i32, blockSize: i32, buffer: usize, m: i32, bias: usize, y: usize, ldy: i32,
  out: i32, tileFrom: i32, tileTo: i32, add: i32,
): void {
  const slot = claimSlot(buffer);
  const recordBytes: usize = 16 + blockSize;
  const weightBytes: usize = 16 * sizeof<S>() + (stored ? 16 : 0) + (<usize>blockSize << 3);
  for (let tile = tileFrom; tile < tileTo; tile++) {
    const outputs = y + (<usize>tile << 6), tileBias = bias ? bias + (<usize>tile << 6) : 0;
    for (let first = 0; first < m; first += CHUNK) {
      const tokens = min(CHUNK, m - first);
      memory.fill(slot + SUMS, 0, <usize>tokens << 6);
      let w = weights + <usize>tile * tileBytes;
      let records = buffer + SLOT_AREA + <usize>first * recordBytes;
      for (let block = 0; block < blocks; block++) {
        unpack<S>(stored, w, blockSize, slot);
        let r = records, sums = slot + SUMS;
        let token = 0;
        if (DOT_ADD)
          for (; token + 4 <= tokens; token += 4) {
            quad(slot, blockSize, r, recordBytes, sums);
            r += 4 * recordBytes;
            sums += 256;
          }
        for (; token < tokens; token += 2) {
          // An odd last token is its own partner, whose sums go where nobody looks.
          const odd = token + 1 == tokens;
          const q = odd ? r : r + recordBytes, sumsQ = odd ? slot + SUMS + (<usize>CHUNK << 6) : sums + 64;
          if (ASC_FEATURE_RELAXED_SIMD) pair(slot, blockSize, r, q, sums, sumsQ);
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

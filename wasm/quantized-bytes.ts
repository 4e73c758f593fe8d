// y[m, out] = W x + bias for 8-bit weights and int16 activations (±511), the same with and
// without relaxed SIMD: products of i16 pairs go straight into i32 (511 · 255 · 128 < 2^24,
// so that sums stay exact as f32 too). Rows: one token, 16 rows. Product: 8 rows × 4 tokens.

import { READ_AHEAD, keepTouched } from "./read-ahead";
import { addBlock, storeTile } from "./quantized-rows";
import { CHUNK, SLOT_AREA, SUMS, claimSlot, releaseSlot } from "./quantized-slot";

/** f32 [16] and u8 [16] in front of the codes. */
const HEAD: usize = 80;
const PRODUCT_FROM: i32 = 4;

/** zero · −Σx of rows 4·index …; the product exceeds i16, so a true multiplication. */
// @ts-ignore: decorator
@inline
function zeroTerm(zeros: usize, index: usize, minusSum: v128): v128 {
  const z = i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(v128.load32_zero(zeros + index * 4)));
  return i32x4.mul(z, minusSum);
}

// @ts-ignore: decorator
@inline
function rows(
  weights: usize, tileBytes: usize, blocks: i32, blockSize: i32, records: usize, m: i32, bias: usize, y: usize, ldy: i32,
  out: i32, tileFrom: i32, tileTo: i32, add: i32,
): void {
  const recordBytes: usize = 16 + (<usize>blockSize << 1);
  const stride = recordBytes * m;
  let sink: u32 = 0;
  for (let tile = tileFrom; tile < tileTo; tile++) {
    for (let token = 0; token < m; token++) {
      let w = weights + <usize>tile * tileBytes;
      let record = records + <usize>token * recordBytes;
      let a0 = f32x4.splat(0), a1 = a0, a2 = a0, a3 = a0;
      for (let block = 0; block < blocks; block++) {
        const scales = w;
        const minusSum = v128.load32_splat(record, 4);
        let i0 = zeroTerm(w + 64, 0, minusSum), i1 = zeroTerm(w + 64, 1, minusSum);
        let i2 = zeroTerm(w + 64, 2, minusSum), i3 = zeroTerm(w + 64, 3, minusSum);
        w += HEAD;
        let x = record + 16;
        const end = w + (<usize>blockSize << 4);
        do {
          sink |= load<u32>(w, READ_AHEAD);
          const x0 = v128.load32_splat(x), x1 = v128.load32_splat(x, 4);
          i0 = i32x4.add(i0, i32x4.add(i32x4.dot_i16x8_s(x0, v128.load8x8_u(w)), i32x4.dot_i16x8_s(x1, v128.load8x8_u(w, 8))));
          i1 = i32x4.add(i1, i32x4.add(i32x4.dot_i16x8_s(x0, v128.load8x8_u(w, 16)), i32x4.dot_i16x8_s(x1, v128.load8x8_u(w, 24))));
          i2 = i32x4.add(i2, i32x4.add(i32x4.dot_i16x8_s(x0, v128.load8x8_u(w, 32)), i32x4.dot_i16x8_s(x1, v128.load8x8_u(w, 40))));
          i3 = i32x4.add(i3, i32x4.add(i32x4.dot_i16x8_s(x0, v128.load8x8_u(w, 48)), i32x4.dot_i16x8_s(x1, v128.load8x8_u(w, 56))));
          w += 64;
          x += 8;
        } while (w < end);
        const d = v128.load32_splat(record);
        a0 = addBlock(a0, i0, v128.load(scales), d);
        a1 = addBlock(a1, i1, v128.load(scales, 16), d);
        a2 = addBlock(a2, i2, v128.load(scales, 32), d);
        a3 = addBlock(a3, i3, v128.load(scales, 48), d);
        record += stride;
      }
      const first = tile << 4;
      storeTile(y + ((<usize>token * ldy + first) << 2), bias ? bias + (<usize>first << 2) : 0, out - first, add, a0, a1, a2, a3);
    }
  }
  keepTouched(sink);
}

// @ts-ignore: decorator
@inline
function addTo(sums: usize, integers: v128, scales: v128, record: usize): void {
  v128.store(sums, addBlock(v128.load(sums), integers, scales, v128.load32_splat(record)));
}

/** Eight rows of a block (`w`, `zeros`, `scales` begin with them) × four tokens. */
// @ts-ignore: decorator
@inline
function quad(
  w: usize, blockSize: i32, scales: usize, zeros: usize, r0: usize, r1: usize, r2: usize, r3: usize,
  s0: usize, s1: usize, s2: usize, s3: usize,
): void {
  let minus = v128.load32_splat(r0, 4);
  let a0 = zeroTerm(zeros, 0, minus), b0 = zeroTerm(zeros, 1, minus);
  minus = v128.load32_splat(r1, 4);
  let a1 = zeroTerm(zeros, 0, minus), b1 = zeroTerm(zeros, 1, minus);
  minus = v128.load32_splat(r2, 4);
  let a2 = zeroTerm(zeros, 0, minus), b2 = zeroTerm(zeros, 1, minus);
  minus = v128.load32_splat(r3, 4);
  let a3 = zeroTerm(zeros, 0, minus), b3 = zeroTerm(zeros, 1, minus);
  const end = w + (<usize>blockSize << 4);
  let k: usize = 16;
  do {
    let wa = v128.load8x8_u(w), wb = v128.load8x8_u(w, 16);
    let x = v128.load32_splat(r0 + k);
    a0 = i32x4.add(a0, i32x4.dot_i16x8_s(x, wa));
    b0 = i32x4.add(b0, i32x4.dot_i16x8_s(x, wb));
    x = v128.load32_splat(r1 + k);
    a1 = i32x4.add(a1, i32x4.dot_i16x8_s(x, wa));
    b1 = i32x4.add(b1, i32x4.dot_i16x8_s(x, wb));
    x = v128.load32_splat(r2 + k);
    a2 = i32x4.add(a2, i32x4.dot_i16x8_s(x, wa));
    b2 = i32x4.add(b2, i32x4.dot_i16x8_s(x, wb));
    x = v128.load32_splat(r3 + k);
    a3 = i32x4.add(a3, i32x4.dot_i16x8_s(x, wa));
    b3 = i32x4.add(b3, i32x4.dot_i16x8_s(x, wb));
    wa = v128.load8x8_u(w, 8);
    wb = v128.load8x8_u(w, 24);
    x = v128.load32_splat(r0 + k, 4);
    a0 = i32x4.add(a0, i32x4.dot_i16x8_s(x, wa));
    b0 = i32x4.add(b0, i32x4.dot_i16x8_s(x, wb));
    x = v128.load32_splat(r1 + k, 4);
    a1 = i32x4.add(a1, i32x4.dot_i16x8_s(x, wa));
    b1 = i32x4.add(b1, i32x4.dot_i16x8_s(x, wb));
    x = v128.load32_splat(r2 + k, 4);
    a2 = i32x4.add(a2, i32x4.dot_i16x8_s(x, wa));
    b2 = i32x4.add(b2, i32x4.dot_i16x8_s(x, wb));
    x = v128.load32_splat(r3 + k, 4);
    a3 = i32x4.add(a3, i32x4.dot_i16x8_s(x, wa));
    b3 = i32x4.add(b3, i32x4.dot_i16x8_s(x, wb));
    w += 64;
    k += 8;
  } while (w < end);
  const sa = v128.load(scales), sb = v128.load(scales, 16);
  addTo(s0, a0, sa, r0);
  addTo(s0 + 16, b0, sb, r0);
  addTo(s1, a1, sa, r1);
  addTo(s1 + 16, b1, sb, r1);
  addTo(s2, a2, sa, r2);
  addTo(s2 + 16, b2, sb, r2);
  addTo(s3, a3, sa, r3);
  addTo(s3 + 16, b3, sb, r3);
}

// @ts-ignore: decorator
@inline
function product(
  weights: usize, tileBytes: usize, blocks: i32, blockSize: i32, buffer: usize, m: i32, bias: usize, y: usize, ldy: i32,
  out: i32, tileFrom: i32, tileTo: i32, add: i32,
): void {
  const slot = claimSlot(buffer);
  const sums = slot + SUMS, spare = sums + (<usize>CHUNK << 6);
  const recordBytes: usize = 16 + (<usize>blockSize << 1);
  const weightBytes: usize = HEAD + (<usize>blockSize << 4);
  for (let tile = tileFrom; tile < tileTo; tile++) {
    const outputs = y + (<usize>tile << 6), tileBias = bias ? bias + (<usize>tile << 6) : 0;
    for (let first = 0; first < m; first += CHUNK) {
      const tokens = min(CHUNK, m - first);
      memory.fill(sums, 0, <usize>tokens << 6);
      let w = weights + <usize>tile * tileBytes;
      let records = buffer + SLOT_AREA + <usize>first * recordBytes;
      for (let block = 0; block < blocks; block++) {
        let r = records, s = sums;
        for (let token = 0; token < tokens; token += 4) {
          // Missing tokens of the last four are the first of them again, their sums go where nobody looks.
          const left = tokens - token;
          const r1 = left > 1 ? r + recordBytes : r, r2 = left > 2 ? r + 2 * recordBytes : r, r3 = left > 3 ? r + 3 * recordBytes : r;
          const s1 = left > 1 ? s + 64 : spare, s2 = left > 2 ? s + 128 : spare, s3 = left > 3 ? s + 192 : spare;
          for (let half: usize = 0; half < 64; half += 32)
            quad(w + HEAD + half, blockSize, w + half, w + 64 + (half >> 2), r, r1, r2, r3, s + half, s1 + half, s2 + half, s3 + half);
          r += 4 * recordBytes;
          s += 256;
        }
        w += weightBytes;
        records += recordBytes * m;
      }
      for (let token = 0; token < tokens; token++) {
        const from = sums + (<usize>token << 6);
        storeTile(
          outputs + ((<usize>(first + token) * ldy) << 2), tileBias, out - (tile << 4), add,
          v128.load(from), v128.load(from, 16), v128.load(from, 32), v128.load(from, 48),
        );
      }
    }
  }
  releaseSlot(buffer);
}

/**
 * Tiles tileFrom … tileTo − 1 of a byte linear in the record form, f32 scales; as
 * `linear_nibbles_f16`, but a weight is (code − zero) · scale.
 */
export function linear_bytes(
  weights: usize, tileBytes: usize, blocks: i32, blockSize: i32, buffer: usize, m: i32, bias: usize, y: usize, ldy: i32,
  out: i32, tileFrom: i32, tileTo: i32, add: i32,
): void {
  if (m < PRODUCT_FROM)
    rows(weights, tileBytes, blocks, blockSize, buffer + SLOT_AREA, m, bias, y, ldy, out, tileFrom, tileTo, add);
  else product(weights, tileBytes, blocks, blockSize, buffer, m, bias, y, ldy, out, tileFrom, tileTo, add);
}

/** One weight row in f32, for embeddings that share the head's codes: to f32 [inputs]. */
export function gather_row_bytes(
  weights: usize, tileBytes: usize, blocks: i32, blockSize: i32, row: i32, inputs: i32, to: usize,
): void {
  const r = row & 15;
  let record = weights + <usize>(row >> 4) * tileBytes;
  for (let block = 0; block < blocks; block++) {
    const scale = load<f32>(record + (<usize>r << 2));
    const zero = <i32>load<u8>(record + 64 + r);
    const codes = record + HEAD + (<usize>(r >> 2) << 4) + (<usize>(r & 3) << 1);
    const first = block * blockSize, count = min(blockSize, inputs - first);
    for (let k = 0; k < count; k++) {
      const code = <i32>load<u8>(codes + (<usize>(k >> 2) << 6) + (<usize>(k & 2) << 2) + (k & 1));
      store<f32>(to + (<usize>(first + k) << 2), <f32>(code - zero) * scale);
    }
    record += HEAD + (<usize>blockSize << 4);
  }
}

// Many tokens against 8-bit weights: 8 rows × 4 tokens of i32 sums in registers, for the length of
// a block.

import { BYTES_HEAD, addEight, storeTile } from "./quantized-rows";
import { CHUNK, SLOT_AREA, SUMS, claimSlot, releaseSlot } from "./quantized-slot";

/** Eight rows of a block (`w`, `zeros`, `scales` begin with them) × four tokens. */
// @ts-ignore: decorator
@inline
function quad(
  w: usize, blockSize: i32, scales: usize, zeros: usize, r0: usize, r1: usize, r2: usize, r3: usize,
  s0: usize, s1: usize, s2: usize, s3: usize,
): void {
  const z = v128.load8x8_u(zeros), za = i32x4.extend_low_i16x8_u(z), zb = i32x4.extend_high_i16x8_u(z);
  let x = v128.load32_splat(r0, 4);
  let a0 = i32x4.mul(x, za), b0 = i32x4.mul(x, zb);
  x = v128.load32_splat(r1, 4);
  let a1 = i32x4.mul(x, za), b1 = i32x4.mul(x, zb);
  x = v128.load32_splat(r2, 4);
  let a2 = i32x4.mul(x, za), b2 = i32x4.mul(x, zb);
  x = v128.load32_splat(r3, 4);
  let a3 = i32x4.mul(x, za), b3 = i32x4.mul(x, zb);
  const end = w + (<usize>blockSize << 4);
  let k: usize = 0;
  do {
    let wa = v128.load8x8_u(w), wb = v128.load8x8_u(w, 8);
    x = v128.load32_splat(r0 + k, 16);
    a0 = i32x4.add(a0, i32x4.dot_i16x8_s(x, wa));
    b0 = i32x4.add(b0, i32x4.dot_i16x8_s(x, wb));
    x = v128.load32_splat(r1 + k, 16);
    a1 = i32x4.add(a1, i32x4.dot_i16x8_s(x, wa));
    b1 = i32x4.add(b1, i32x4.dot_i16x8_s(x, wb));
    x = v128.load32_splat(r2 + k, 16);
    a2 = i32x4.add(a2, i32x4.dot_i16x8_s(x, wa));
    b2 = i32x4.add(b2, i32x4.dot_i16x8_s(x, wb));
    x = v128.load32_splat(r3 + k, 16);
    a3 = i32x4.add(a3, i32x4.dot_i16x8_s(x, wa));
    b3 = i32x4.add(b3, i32x4.dot_i16x8_s(x, wb));
    wa = v128.load8x8_u(w, 32);
    wb = v128.load8x8_u(w, 40);
    x = v128.load32_splat(r0 + k, 20);
    a0 = i32x4.add(a0, i32x4.dot_i16x8_s(x, wa));
    b0 = i32x4.add(b0, i32x4.dot_i16x8_s(x, wb));
    x = v128.load32_splat(r1 + k, 20);
    a1 = i32x4.add(a1, i32x4.dot_i16x8_s(x, wa));
    b1 = i32x4.add(b1, i32x4.dot_i16x8_s(x, wb));
    x = v128.load32_splat(r2 + k, 20);
    a2 = i32x4.add(a2, i32x4.dot_i16x8_s(x, wa));
    b2 = i32x4.add(b2, i32x4.dot_i16x8_s(x, wb));
    x = v128.load32_splat(r3 + k, 20);
    a3 = i32x4.add(a3, i32x4.dot_i16x8_s(x, wa));
    b3 = i32x4.add(b3, i32x4.dot_i16x8_s(x, wb));
    w += 64;
    k += 8;
  } while (w < end);
  const sa = v128.load(scales), sb = v128.load(scales, 16);
  addEight(s0, a0, b0, sa, sb, v128.load32_splat(r0));
  addEight(s1, a1, b1, sa, sb, v128.load32_splat(r1));
  addEight(s2, a2, b2, sa, sb, v128.load32_splat(r2));
  addEight(s3, a3, b3, sa, sb, v128.load32_splat(r3));
}

/** Tiles tileFrom … tileTo − 1, all tokens at once; the parameters are those of `linear_bytes`. */
// @ts-ignore: decorator
@inline
export function product(
  weights: usize, tileBytes: usize, blocks: i32, blockSize: i32, buffer: usize, m: i32, bias: usize, y: usize, ldy: i32,
  out: i32, tileFrom: i32, tileTo: i32, add: i32,
): void {
  const slot = claimSlot(buffer);
  const sums = slot + SUMS, spare = sums + (<usize>CHUNK << 6);
  const recordBytes: usize = 16 + (<usize>blockSize << 1);
  const weightBytes: usize = BYTES_HEAD + (<usize>blockSize << 4);
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
            quad(w + BYTES_HEAD + (half >> 1), blockSize, w + half, w + 64 + (half >> 2), r, r1, r2, r3, s + half, s1 + half, s2 + half, s3 + half);
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

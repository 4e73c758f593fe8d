// y[m, out] = W x + bias for linears whose groups cannot be cut into blocks: group sizes such
// as 24, or a g_idx with groups of unequal length. A segment is a run of inputs of one group,
// at most 128; its activations are padded with zeros to whole lines, so a line that two
// segments share is met twice, each time by its own inputs only. Plain and slower: i16 dot
// products, one token at a time, the same in both builds.

import { addBlock, scalesAt, storeTile } from "./quantized-rows";
import { SLOT_AREA } from "./quantized-slot";

// @ts-ignore: decorator
@inline
function fold(a: v128, b: v128): v128 {
  return i32x4.add(v128.shuffle<i32>(a, b, 0, 2, 4, 6), v128.shuffle<i32>(a, b, 1, 3, 5, 7));
}

/** Four rows × 8 inputs: GPTQ words with activations ordered 0 2 4 6 and 1 3 5 7. */
// @ts-ignore: decorator
@inline
function dotNibbles(evens: v128, odds: v128, w: v128): v128 {
  const l = v128.and(w, i8x16.splat(15)), h = v128.and(i16x8.shr_u(w, 4), i8x16.splat(15));
  return fold(
    i32x4.add(i32x4.dot_i16x8_s(evens, i16x8.extend_low_i8x16_s(l)), i32x4.dot_i16x8_s(odds, i16x8.extend_low_i8x16_s(h))),
    i32x4.add(i32x4.dot_i16x8_s(evens, i16x8.extend_high_i8x16_s(l)), i32x4.dot_i16x8_s(odds, i16x8.extend_high_i8x16_s(h))),
  );
}

/** Four rows × 8 inputs in two lines of bytes. */
// @ts-ignore: decorator
@inline
function dotBytes(x0: v128, x1: v128, x2: v128, x3: v128, w: usize): v128 {
  return i32x4.add(
    i32x4.add(i32x4.dot_i16x8_s(x0, v128.load8x8_u(w)), i32x4.dot_i16x8_s(x1, v128.load8x8_u(w, 32))),
    i32x4.add(i32x4.dot_i16x8_s(x2, v128.load8x8_u(w, 64)), i32x4.dot_i16x8_s(x3, v128.load8x8_u(w, 96))),
  );
}

// @ts-ignore: decorator
@inline
function zeroTerm(zeros: usize, minusSum: v128): v128 {
  const z = i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(v128.load32_zero(zeros)));
  return i32x4.mul(z, minusSum);
}

/** C: u8 for bytes, i8 for nibbles. S: u16 or f32 scales. */
// @ts-ignore: decorator
@inline
function segments<C, S>(
  weights: usize, tileBytes: usize, codeArea: usize, table: usize, count: i32, tokenBytes: i32, buffer: usize, m: i32,
  bias: usize, y: usize, ldy: i32, out: i32, tileFrom: i32, tileTo: i32, add: i32,
): void {
  for (let tile = tileFrom; tile < tileTo; tile++) {
    const codes = weights + <usize>tile * tileBytes, groups = codes + codeArea;
    for (let token = 0; token < m; token++) {
      const records = buffer + SLOT_AREA + <usize>token * tokenBytes;
      let a0 = f32x4.splat(0), a1 = a0, a2 = a0, a3 = a0;
      for (let i = 0; i < count; i++) {
        const entry = table + (<usize>i << 4);
        const start = load<i32>(entry), end = start + load<i32>(entry, 4);
        const scales = groups + load<u32>(entry, 8) * (16 * sizeof<S>() + 16), zeros = scales + 16 * sizeof<S>();
        const record = records + load<u32>(entry, 12);
        const minusSum = v128.load32_splat(record, 4);
        let i0 = zeroTerm(zeros, minusSum), i1 = zeroTerm(zeros + 4, minusSum);
        let i2 = zeroTerm(zeros + 8, minusSum), i3 = zeroTerm(zeros + 12, minusSum);
        let x = record + 16;
        for (let line = start >> 3; line < (end + 7) >> 3; line++) {
          if (isSigned<C>()) {
            const w = codes + (<usize>line << 6);
            const evens = i16x8.extend_low_i8x16_s(v128.load32_splat(x)), odds = i16x8.extend_low_i8x16_s(v128.load32_splat(x, 4));
            i0 = i32x4.add(i0, dotNibbles(evens, odds, v128.load(w)));
            i1 = i32x4.add(i1, dotNibbles(evens, odds, v128.load(w, 16)));
            i2 = i32x4.add(i2, dotNibbles(evens, odds, v128.load(w, 32)));
            i3 = i32x4.add(i3, dotNibbles(evens, odds, v128.load(w, 48)));
            x += 8;
          } else {
            const w = codes + (<usize>line << 7);
            const x0 = v128.load32_splat(x), x1 = v128.load32_splat(x, 4), x2 = v128.load32_splat(x, 8), x3 = v128.load32_splat(x, 12);
            i0 = i32x4.add(i0, dotBytes(x0, x1, x2, x3, w));
            i1 = i32x4.add(i1, dotBytes(x0, x1, x2, x3, w + 8));
            i2 = i32x4.add(i2, dotBytes(x0, x1, x2, x3, w + 16));
            i3 = i32x4.add(i3, dotBytes(x0, x1, x2, x3, w + 24));
            x += 16;
          }
        }
        const d = v128.load32_splat(record);
        a0 = addBlock(a0, i0, scalesAt<S>(scales, 0), d);
        a1 = addBlock(a1, i1, scalesAt<S>(scales, 1), d);
        a2 = addBlock(a2, i2, scalesAt<S>(scales, 2), d);
        a3 = addBlock(a3, i3, scalesAt<S>(scales, 3), d);
      }
      const first = tile << 4;
      storeTile(y + ((<usize>token * ldy + first) << 2), bias ? bias + (<usize>first << 2) : 0, out - first, add, a0, a1, a2, a3);
    }
  }
}

/**
 * Tiles of a linear in the segmented form: nibbles with f16 scales.
 *
 * @param codeArea bytes of a tile's codes; behind them scales and zeros of every group
 * @param table entries {first input, length, group, offset of the activation record} i32
 * @param tokenBytes bytes of one token's activations
 */
export function linear_segments_nibbles_f16(
  weights: usize, tileBytes: usize, codeArea: usize, table: usize, count: i32, tokenBytes: i32, buffer: usize, m: i32,
  bias: usize, y: usize, ldy: i32, out: i32, tileFrom: i32, tileTo: i32, add: i32,
): void {
  segments<i8, u16>(weights, tileBytes, codeArea, table, count, tokenBytes, buffer, m, bias, y, ldy, out, tileFrom, tileTo, add);
}

/** The same, f32 scales. */
export function linear_segments_nibbles_f32(
  weights: usize, tileBytes: usize, codeArea: usize, table: usize, count: i32, tokenBytes: i32, buffer: usize, m: i32,
  bias: usize, y: usize, ldy: i32, out: i32, tileFrom: i32, tileTo: i32, add: i32,
): void {
  segments<i8, f32>(weights, tileBytes, codeArea, table, count, tokenBytes, buffer, m, bias, y, ldy, out, tileFrom, tileTo, add);
}

/** The same, bytes with f32 scales; a weight is (code − zero) · scale. */
export function linear_segments_bytes(
  weights: usize, tileBytes: usize, codeArea: usize, table: usize, count: i32, tokenBytes: i32, buffer: usize, m: i32,
  bias: usize, y: usize, ldy: i32, out: i32, tileFrom: i32, tileTo: i32, add: i32,
): void {
  segments<u8, f32>(weights, tileBytes, codeArea, table, count, tokenBytes, buffer, m, bias, y, ldy, out, tileFrom, tileTo, add);
}

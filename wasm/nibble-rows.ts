// One token against weights of at most 4 bits. Weights are read once and from memory, so what counts
// is how many lines are on their way at a time: up to sixteen tiles are read side by side, each from a place of
// its own, which memory answers up to twice as fast as one stream, and little is done per line.
// So many sums do not fit into registers; they wait in the slot, which the first-level cache holds.

import { DOT_ADD } from "./dot-add";
import { JOINED } from "./joined";
import { CENTRED, CENTRED_INPUTS, centredZeros, fold, high, low, nibbleMask, zeroTerm } from "./nibbles";
import { addEight, addUpperEight, f16Factor, f16Kept, fillLines, scalesWith, storeTile } from "./quantized-rows";
import { SLOT_AREA, SUMS, UNPACKED, claimSlot, releaseSlot } from "./quantized-slot";

/** Most tiles that are read side by side. */
const TILES: i32 = 16;
/** Bytes of the integers of so many tiles. */
const PART: usize = TILES << 6;

/** Four activation codes, for every row: as bytes, or as i16 where there is no dot product of bytes. */
// @ts-ignore: decorator
@inline
function inputs(splat: v128): v128 {
  return ASC_FEATURE_RELAXED_SIMD ? splat : i16x8.extend_low_i8x16_s(splat);
}

/** sum + four rows × 16 inputs, two words of a row each: i32x4, or, centred, i16x8. */
// @ts-ignore: decorator
@inline
function addDot16(sum: v128, x0: v128, x1: v128, x2: v128, x3: v128, w0: v128, w1: v128, mask: v128): v128 {
  const l0 = low(w0, mask), h0 = high(w0, mask), l1 = low(w1, mask), h1 = high(w1, mask);
  if (DOT_ADD) {
    sum = v128.relaxed_dot_add<i32>(x1, h0, v128.relaxed_dot_add<i32>(x0, l0, sum));
    return v128.relaxed_dot_add<i32>(x3, h1, v128.relaxed_dot_add<i32>(x2, l1, sum));
  }
  if (ASC_FEATURE_RELAXED_SIMD) {
    const a = i16x8.add(v128.relaxed_dot<i16>(x0, l0), v128.relaxed_dot<i16>(x1, h0));
    const b = i16x8.add(v128.relaxed_dot<i16>(x2, l1), v128.relaxed_dot<i16>(x3, h1));
    return i16x8.add(sum, i16x8.add(a, b));
  }
  const a = i32x4.add(
    i32x4.add(i32x4.dot_i16x8_s(x0, i16x8.extend_low_i8x16_s(l0)), i32x4.dot_i16x8_s(x1, i16x8.extend_low_i8x16_s(h0))),
    i32x4.add(i32x4.dot_i16x8_s(x2, i16x8.extend_low_i8x16_s(l1)), i32x4.dot_i16x8_s(x3, i16x8.extend_low_i8x16_s(h1))),
  );
  const b = i32x4.add(
    i32x4.add(i32x4.dot_i16x8_s(x0, i16x8.extend_high_i8x16_s(l0)), i32x4.dot_i16x8_s(x1, i16x8.extend_high_i8x16_s(h0))),
    i32x4.add(i32x4.dot_i16x8_s(x2, i16x8.extend_high_i8x16_s(l1)), i32x4.dot_i16x8_s(x3, i16x8.extend_high_i8x16_s(h1))),
  );
  return i32x4.add(sum, fold(a, b));
}

/** Two lines of a tile, 16 rows × 16 inputs, added to its integers: four bytes a row. */
// @ts-ignore: decorator
@inline
function addLines(integers: usize, w: usize, x0: v128, x1: v128, x2: v128, x3: v128, mask: v128): void {
  if (JOINED) {
    const i0 = addDot16(v128.load(integers), x0, x1, x2, x3, v128.load(w), v128.load(w, 64), mask);
    const i1 = addDot16(v128.load(integers, 16), x0, x1, x2, x3, v128.load(w, 16), v128.load(w, 80), mask);
    const i2 = addDot16(v128.load(integers, 32), x0, x1, x2, x3, v128.load(w, 32), v128.load(w, 96), mask);
    const i3 = addDot16(v128.load(integers, 48), x0, x1, x2, x3, v128.load(w, 48), v128.load(w, 112), mask);
    v128.store(integers, i3, 48);
    v128.store(integers, i2, 32);
    v128.store(integers, i1, 16);
    v128.store(integers, i0);
    return;
  }
  v128.store(integers, addDot16(v128.load(integers), x0, x1, x2, x3, v128.load(w), v128.load(w, 64), mask));
  v128.store(integers, addDot16(v128.load(integers, 16), x0, x1, x2, x3, v128.load(w, 16), v128.load(w, 80), mask), 16);
  v128.store(integers, addDot16(v128.load(integers, 32), x0, x1, x2, x3, v128.load(w, 32), v128.load(w, 96), mask), 32);
  v128.store(integers, addDot16(v128.load(integers, 48), x0, x1, x2, x3, v128.load(w, 48), v128.load(w, 112), mask), 48);
}

/** The same for eight tiles, `tileBytes` apart. */
// @ts-ignore: decorator
@inline
function addLinesOfEight(integers: usize, w: usize, tileBytes: usize, x0: v128, x1: v128, x2: v128, x3: v128, mask: v128): void {
  addLines(integers, w, x0, x1, x2, x3, mask);
  addLines(integers + 64, (w += tileBytes), x0, x1, x2, x3, mask);
  addLines(integers + 128, (w += tileBytes), x0, x1, x2, x3, mask);
  addLines(integers + 192, (w += tileBytes), x0, x1, x2, x3, mask);
  addLines(integers + 256, (w += tileBytes), x0, x1, x2, x3, mask);
  addLines(integers + 320, (w += tileBytes), x0, x1, x2, x3, mask);
  addLines(integers + 384, (w += tileBytes), x0, x1, x2, x3, mask);
  addLines(integers + 448, (w += tileBytes), x0, x1, x2, x3, mask);
}

/** Four rows' integers of a block, i32, of which these are the first part; the second of two `parts`, centred, lies `PART` behind `integers`. */
// @ts-ignore: decorator
@inline
function widened(first: v128, integers: usize, parts: i32): v128 {
  if (!CENTRED) return first;
  const sum = i32x4.extadd_pairwise_i16x8_s(first);
  return parts == 1 ? sum : i32x4.add(sum, i32x4.extadd_pairwise_i16x8_s(v128.load(integers, PART)));
}

/**
 * Adds a block's integers of a tile to its sums. S: u16 or f32 scales, with which the block begins.
 *
 * @param stored whether zeros follow the scales; else they are 8, and the integers know
 * @param kept as scalesWith() wants it, and so is `factor`
 */
// @ts-ignore: decorator
@inline
function addTile<S>(
  stored: bool, sums: usize, integers: usize, parts: i32, block: usize, record: usize, kept: v128, factor: v128,
): void {
  const d = v128.load32_splat(record);
  let i0 = widened(v128.load(integers), integers, parts), i1 = widened(v128.load(integers, 16), integers + 16, parts);
  let i2 = widened(v128.load(integers, 32), integers + 32, parts), i3 = widened(v128.load(integers, 48), integers + 48, parts);
  if (stored) {
    const minusSum = v128.load32_splat(record, 4), zeros = block + 16 * sizeof<S>();
    const z01 = centredZeros(v128.load8x8_u(zeros)), z23 = centredZeros(v128.load8x8_u(zeros, 8));
    i0 = i32x4.add(zeroTerm(i32x4.extend_low_i16x8_u(z01), minusSum), i0);
    i1 = i32x4.add(zeroTerm(i32x4.extend_high_i16x8_u(z01), minusSum), i1);
    i2 = i32x4.add(zeroTerm(i32x4.extend_low_i16x8_u(z23), minusSum), i2);
    i3 = i32x4.add(zeroTerm(i32x4.extend_high_i16x8_u(z23), minusSum), i3);
  }
  addEight(sums, i0, i1, scalesWith<S>(block, 0, kept, factor), scalesWith<S>(block, 1, kept, factor), d);
  addUpperEight(sums, i2, i3, scalesWith<S>(block, 2, kept, factor), scalesWith<S>(block, 3, kept, factor), d);
}

/** What a block's integers begin with. Centred sums count from −8 · Σx, so that zeros of 8 are in them. */
// @ts-ignore: decorator
@inline
function beginning(stored: bool, record: usize, part: i32): v128 {
  if (CENTRED) return v128.load32_splat(record + (<usize>part << 2), 8);
  return stored ? i32x4.splat(0) : i32x4.shl(v128.load32_splat(record, 4), 3);
}

/** Tiles tileFrom … tileTo − 1; `stored`: blocks have zeros; the other parameters are those of `linear_nibbles_f16`. */
// @ts-ignore: decorator
@inline
export function rows<S>(
  stored: bool, weights: usize, tileBytes: usize, blocks: i32, blockSize: i32, buffer: usize, bias: usize, y: usize, out: i32, tileFrom: i32,
  tileTo: i32, add: i32,
): void {
  const slot = claimSlot(buffer), integers = slot + UNPACKED, sums = slot + SUMS;
  const recordBytes: usize = 16 + blockSize, headBytes: usize = 16 * sizeof<S>() + (stored ? 16 : 0);
  const partInputs = CENTRED ? min(blockSize, CENTRED_INPUTS) : blockSize, parts = blockSize / partInputs;
  const partBytes = <usize>partInputs << 3;
  const mask = i8x16.splat(<i8>nibbleMask), kept = i32x4.splat(f16Kept), factor = f32x4.splat(f16Factor);
  for (let tile = tileFrom; tile < tileTo; tile += TILES) {
    const tiles = min(TILES, tileTo - tile);
    fillLines(sums, tiles, f32x4.splat(0));
    let w = weights + <usize>tile * tileBytes, record = buffer + SLOT_AREA;
    for (let block = 0; block < blocks; block++) {
      const head = w;
      w += headBytes;
      let x = record;
      for (let part = 0, i = integers; part < parts; part++, i += PART) {
        fillLines(i, tiles, beginning(stored, record, part));
        const end = w + partBytes;
        do {
          const x0 = inputs(v128.load32_splat(x, 16)), x1 = inputs(v128.load32_splat(x, 20));
          const x2 = inputs(v128.load32_splat(x, 24)), x3 = inputs(v128.load32_splat(x, 28));
          let t = 0;
          if (tiles >= 8) {
            addLinesOfEight(i, w, tileBytes, x0, x1, x2, x3, mask);
            t = 8;
          }
          if (tiles == 16) addLinesOfEight(i + 512, w + (tileBytes << 3), tileBytes, x0, x1, x2, x3, mask);
          else for (; t < tiles; t++) addLines(i + (<usize>t << 6), w + <usize>t * tileBytes, x0, x1, x2, x3, mask);
          w += 128;
          x += 16;
        } while (w < end);
      }
      for (let t: usize = 0; t < <usize>tiles; t++)
        addTile<S>(stored, sums + (t << 6), integers + (t << 6), parts, head + t * tileBytes, record, kept, factor);
      record += recordBytes;
    }
    for (let t = 0; t < tiles; t++) {
      const first = (tile + t) << 4, from = sums + (<usize>t << 6);
      storeTile(
        y + (<usize>first << 2), bias ? bias + (<usize>first << 2) : 0, out - first, add,
        v128.load(from), v128.load(from, 16), v128.load(from, 32), v128.load(from, 48),
      );
    }
  }
  releaseSlot(buffer);
}

// A few tokens, one by one, against 8-bit weights: up to sixteen tiles side by side, as in nibble-rows.ts.

import { JOINED } from "./joined";
import { BYTES_HEAD, addEight, addUpperEight, fillLines, storeTile } from "./quantized-rows";
import { SLOT_AREA, SUMS, UNPACKED, claimSlot, releaseSlot } from "./quantized-slot";

/** Most tiles that are read side by side. */
const TILES: i32 = 16;

/** sum + four rows × 8 inputs: two of each row per `w`. */
// @ts-ignore: decorator
@inline
function addDot8(sum: v128, x0: v128, x1: v128, x2: v128, x3: v128, w0: v128, w1: v128, w2: v128, w3: v128): v128 {
  const a = i32x4.add(i32x4.dot_i16x8_s(x0, w0), i32x4.dot_i16x8_s(x1, w1));
  const b = i32x4.add(i32x4.dot_i16x8_s(x2, w2), i32x4.dot_i16x8_s(x3, w3));
  return i32x4.add(sum, i32x4.add(a, b));
}

/** Two lines of a tile, 16 rows × 8 inputs, added to its integers i32 [16]. */
// @ts-ignore: decorator
@inline
function addLines(integers: usize, w: usize, x0: v128, x1: v128, x2: v128, x3: v128): void {
  if (JOINED) {
    const i0 = addDot8(
      v128.load(integers), x0, x1, x2, x3,
      v128.load8x8_u(w), v128.load8x8_u(w, 32), v128.load8x8_u(w, 64), v128.load8x8_u(w, 96),
    );
    const i1 = addDot8(
      v128.load(integers, 16), x0, x1, x2, x3,
      v128.load8x8_u(w, 8), v128.load8x8_u(w, 40), v128.load8x8_u(w, 72), v128.load8x8_u(w, 104),
    );
    const i2 = addDot8(
      v128.load(integers, 32), x0, x1, x2, x3,
      v128.load8x8_u(w, 16), v128.load8x8_u(w, 48), v128.load8x8_u(w, 80), v128.load8x8_u(w, 112),
    );
    const i3 = addDot8(
      v128.load(integers, 48), x0, x1, x2, x3,
      v128.load8x8_u(w, 24), v128.load8x8_u(w, 56), v128.load8x8_u(w, 88), v128.load8x8_u(w, 120),
    );
    v128.store(integers, i3, 48);
    v128.store(integers, i2, 32);
    v128.store(integers, i1, 16);
    v128.store(integers, i0);
    return;
  }
  v128.store(
    integers,
    addDot8(
      v128.load(integers), x0, x1, x2, x3,
      v128.load8x8_u(w), v128.load8x8_u(w, 32), v128.load8x8_u(w, 64), v128.load8x8_u(w, 96),
    ),
  );
  v128.store(
    integers,
    addDot8(
      v128.load(integers, 16), x0, x1, x2, x3,
      v128.load8x8_u(w, 8), v128.load8x8_u(w, 40), v128.load8x8_u(w, 72), v128.load8x8_u(w, 104),
    ),
    16,
  );
  v128.store(
    integers,
    addDot8(
      v128.load(integers, 32), x0, x1, x2, x3,
      v128.load8x8_u(w, 16), v128.load8x8_u(w, 48), v128.load8x8_u(w, 80), v128.load8x8_u(w, 112),
    ),
    32,
  );
  v128.store(
    integers,
    addDot8(
      v128.load(integers, 48), x0, x1, x2, x3,
      v128.load8x8_u(w, 24), v128.load8x8_u(w, 56), v128.load8x8_u(w, 88), v128.load8x8_u(w, 120),
    ),
    48,
  );
}

/** The same for eight tiles, `tileBytes` apart. */
// @ts-ignore: decorator
@inline
function addLinesOfEight(integers: usize, w: usize, tileBytes: usize, x0: v128, x1: v128, x2: v128, x3: v128): void {
  addLines(integers, w, x0, x1, x2, x3);
  addLines(integers + 64, (w += tileBytes), x0, x1, x2, x3);
  addLines(integers + 128, (w += tileBytes), x0, x1, x2, x3);
  addLines(integers + 192, (w += tileBytes), x0, x1, x2, x3);
  addLines(integers + 256, (w += tileBytes), x0, x1, x2, x3);
  addLines(integers + 320, (w += tileBytes), x0, x1, x2, x3);
  addLines(integers + 384, (w += tileBytes), x0, x1, x2, x3);
  addLines(integers + 448, (w += tileBytes), x0, x1, x2, x3);
}

/** Adds a block's integers of a tile to its sums. */
// @ts-ignore: decorator
@inline
function addTile(sums: usize, integers: usize, block: usize, record: usize): void {
  const d = v128.load32_splat(record), minusSum = v128.load32_splat(record, 4);
  const z01 = v128.load8x8_u(block, 64), z23 = v128.load8x8_u(block, 72);
  // The products exceed i16, so these are true multiplications.
  const i0 = i32x4.add(i32x4.mul(minusSum, i32x4.extend_low_i16x8_u(z01)), v128.load(integers));
  const i1 = i32x4.add(i32x4.mul(minusSum, i32x4.extend_high_i16x8_u(z01)), v128.load(integers, 16));
  const i2 = i32x4.add(i32x4.mul(minusSum, i32x4.extend_low_i16x8_u(z23)), v128.load(integers, 32));
  const i3 = i32x4.add(i32x4.mul(minusSum, i32x4.extend_high_i16x8_u(z23)), v128.load(integers, 48));
  addEight(sums, i0, i1, v128.load(block), v128.load(block, 16), d);
  addUpperEight(sums, i2, i3, v128.load(block, 32), v128.load(block, 48), d);
}

/** Tiles tileFrom … tileTo − 1; the parameters are those of `linear_bytes`. */
// @ts-ignore: decorator
@inline
export function rows(
  weights: usize, tileBytes: usize, blocks: i32, blockSize: i32, buffer: usize, m: i32, bias: usize, y: usize, ldy: i32,
  out: i32, tileFrom: i32, tileTo: i32, add: i32,
): void {
  const slot = claimSlot(buffer), integers = slot + UNPACKED, sums = slot + SUMS;
  const recordBytes: usize = 16 + (<usize>blockSize << 1), codeBytes = <usize>blockSize << 4;
  for (let tile = tileFrom; tile < tileTo; tile += TILES) {
    const tiles = min(TILES, tileTo - tile);
    for (let token = 0; token < m; token++) {
      fillLines(sums, tiles, f32x4.splat(0));
      let w = weights + <usize>tile * tileBytes, record = buffer + SLOT_AREA + <usize>token * recordBytes;
      for (let block = 0; block < blocks; block++) {
        fillLines(integers, tiles, i32x4.splat(0));
        const head = w;
        w += BYTES_HEAD;
        let x = record;
        const end = w + codeBytes;
        do {
          const x0 = v128.load32_splat(x, 16), x1 = v128.load32_splat(x, 20);
          const x2 = v128.load32_splat(x, 24), x3 = v128.load32_splat(x, 28);
          let t = 0;
          if (tiles >= 8) {
            addLinesOfEight(integers, w, tileBytes, x0, x1, x2, x3);
            t = 8;
          }
          if (tiles == 16) addLinesOfEight(integers + 512, w + (tileBytes << 3), tileBytes, x0, x1, x2, x3);
          else for (; t < tiles; t++) addLines(integers + (<usize>t << 6), w + <usize>t * tileBytes, x0, x1, x2, x3);
          w += 128;
          x += 16;
        } while (w < end);
        for (let t: usize = 0; t < <usize>tiles; t++) addTile(sums + (t << 6), integers + (t << 6), head + t * tileBytes, record);
        record += recordBytes * m;
      }
      for (let t = 0; t < tiles; t++) {
        const first = (tile + t) << 4, from = sums + (<usize>t << 6);
        storeTile(
          y + ((<usize>token * ldy + first) << 2), bias ? bias + (<usize>first << 2) : 0, out - first, add,
          v128.load(from), v128.load(from, 16), v128.load(from, 32), v128.load(from, 48),
        );
      }
    }
  }
  releaseSlot(buffer);
}

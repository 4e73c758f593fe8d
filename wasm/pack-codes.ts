// GPTQ codes on their way into the tiles. A slab is some whole rows of `qweight`: input rows
// firstRow … firstRow + rows − 1 (multiples of 32 but for the end), all columns. Without a
// permutation 4-bit words already are what a tile holds, so they are copied; 8-bit words need
// one shuffle; everything else goes through `pack_codes`, input by input. Columns beyond
// `out` in the last tile keep what is there: their scales are 0.

/** Where the line that begins with input `k` (a multiple of 8, or of 4 for bytes) lies in a tile. */
// @ts-ignore: decorator
@inline
function lineAt(codes: usize, blockShift: i32, recordBytes: usize, k: i32, rowShift: i32): usize {
  // blockShift 31: one block holds all (the segmented form).
  const block = <u32>k >>> blockShift, inBlock = <usize>(<u32>k & ((1 << blockShift) - 1));
  return codes + <usize>block * recordBytes + (inBlock << rowShift);
}

/**
 * 4-bit codes without a permutation.
 *
 * @param codes offset of the first tile's codes (behind the scales and zeros of its first record)
 * @param blockShift log2 of the block size; 31 in the segmented form
 */
export function pack_nibble_words(
  slab: usize, firstRow: i32, rows: i32, out: i32, codes: usize, tileBytes: usize, blockShift: i32, recordBytes: usize,
  tileFrom: i32, tileTo: i32,
): void {
  const lineBytes = <usize>out << 2;
  for (let tile = tileFrom; tile < tileTo; tile++) {
    const columns = out - (tile << 4);
    let from = slab + (<usize>tile << 6);
    for (let k = firstRow; k < firstRow + rows; k += 8) {
      const to = lineAt(codes + <usize>tile * tileBytes, blockShift, recordBytes, k, 3);
      if (columns >= 16) {
        v128.store(to, v128.load(from));
        v128.store(to, v128.load(from, 16), 16);
        v128.store(to, v128.load(from, 32), 32);
        v128.store(to, v128.load(from, 48), 48);
      } else for (let r = 0; r < columns; r++) store<u32>(to + (<usize>r << 2), load<u32>(from + (<usize>r << 2)));
      from += lineBytes;
    }
  }
}

/** 8-bit codes without a permutation. */
export function pack_byte_words(
  slab: usize, firstRow: i32, rows: i32, out: i32, codes: usize, tileBytes: usize, blockShift: i32, recordBytes: usize,
  tileFrom: i32, tileTo: i32,
): void {
  const lineBytes = <usize>out << 2;
  for (let tile = tileFrom; tile < tileTo; tile++) {
    const columns = out - (tile << 4);
    let from = slab + (<usize>tile << 6);
    for (let k = firstRow; k < firstRow + rows; k += 4) {
      const to = lineAt(codes + <usize>tile * tileBytes, blockShift, recordBytes, k, 4);
      for (let r = 0; r < columns && r < 16; r += 4) {
        const v = r + 4 <= columns ? v128.load(from + (<usize>r << 2)) : someWords(from + (<usize>r << 2), columns - r);
        const pairs = v128.shuffle<i8>(v, v, 0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
        v128.store64_lane(to + (<usize>r << 1), pairs, 0);
        v128.store64_lane(to + (<usize>r << 1), pairs, 1, 32);
      }
      from += lineBytes;
    }
  }
}

/** One to three words; nothing behind them is touched. */
function someWords(from: usize, count: i32): v128 {
  let v = v128.load32_zero(from);
  if (count > 1) v = i32x4.replace_lane(v, 1, load<i32>(from, 4));
  if (count > 2) v = i32x4.replace_lane(v, 2, load<i32>(from, 8));
  return v;
}

// @ts-ignore: decorator
@inline
function words(from: usize, count: i32): v128 {
  return count >= 4 ? v128.load(from) : someWords(from, count);
}

/**
 * Codes of any width, any order: input row k goes to position inverse[k].
 *
 * @param slab i32 `[rows·bits/32, out]`, values down the rows one stream of bits, lowest first
 * @param inverse i32 [inputs], or 0: k itself
 * @param bytes 1: byte lines (8 bits), 0: nibble lines
 */
export function pack_codes(
  slab: usize, bits: i32, firstRow: i32, rows: i32, out: i32, inverse: usize, bytes: i32, codes: usize, tileBytes: usize,
  blockShift: i32, recordBytes: usize, tileFrom: i32, tileTo: i32,
): void {
  const lineBytes = <usize>out << 2;
  const mask = i32x4.splat((1 << bits) - 1);
  for (let tile = tileFrom; tile < tileTo; tile++) {
    const columns = min(16, out - (tile << 4));
    const tileCodes = codes + <usize>tile * tileBytes;
    for (let row = 0; row < rows; row++) {
      const bit = row * bits, shift = bit & 31;
      const from = slab + <usize>(bit >> 5) * lineBytes + (<usize>tile << 6);
      const k = inverse ? load<i32>(inverse + (<usize>(firstRow + row) << 2)) : firstRow + row;
      const to = bytes ? lineAt(tileCodes, blockShift, recordBytes, k & ~3, 4) : lineAt(tileCodes, blockShift, recordBytes, k & ~7, 3);
      const keep = i32x4.splat(~(15 << ((k & 7) << 2)));
      for (let r = 0; r < columns; r += 4) {
        const at = from + (<usize>r << 2);
        let v = i32x4.shr_u(words(at, columns - r), shift);
        if (shift + bits > 32) v = v128.or(v, i32x4.shl(words(at + lineBytes, columns - r), 32 - shift));
        v = v128.and(v, mask);
        if (bytes) {
          const place = to + (<usize>r << 1) + (<usize>(k & 2) << 4) + (k & 1);
          store<u8>(place, <u8>i32x4.extract_lane(v, 0));
          store<u8>(place, <u8>i32x4.extract_lane(v, 1), 2);
          store<u8>(place, <u8>i32x4.extract_lane(v, 2), 4);
          store<u8>(place, <u8>i32x4.extract_lane(v, 3), 6);
        } else {
          const place = to + (<usize>r << 2);
          v128.store(place, v128.or(v128.and(v128.load(place), keep), i32x4.shl(v, (k & 7) << 2)));
        }
      }
    }
  }
}

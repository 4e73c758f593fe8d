// Pieces that every quantised kernel shares. The f32 work of one output is the same sequence
// everywhere: sum = 0; per block in order sum += f32(I) · (scale · d) with the exact integer
// I = Σ code·x − zero·Σx; then + bias, then (if asked) + what stands in y. So a result does
// not depend on the batch, the thread or the instruction set.

/** f32 [16] and u8 [16] in front of the codes of a block of bytes. */
export const BYTES_HEAD: usize = 80;

const SCALE_112: f32 = 5.192296858534828e33; // 2^112: f16's exponent bias moved to f32's

/** Four finite f16 as f32: v128 of i16 sign-extended to i32. Subnormals come out exact. */
// @ts-ignore: decorator
@inline
export function widenF16(v: v128): v128 {
  return f32x4.mul(v128.and(i32x4.shl(v, 13), i32x4.splat(0x8fffffff)), f32x4.splat(SCALE_112));
}

/**
 * The numbers of widenF16(), but exported and variable, so that nobody knows them: V8 makes a known constant anew at every use, of
 * 256 bits in seven instructions, and those of one token would be a quarter of all that its linears run.
 */
export let f16Kept: i32 = 0x8fffffff;
export let f16Factor: f32 = 5.192296858534828e33;

/** Scales `4·index … 4·index + 3` of the 16 at `from`, S = u16 (f16 bits) or f32. */
// @ts-ignore: decorator
@inline
export function scalesAt<S>(from: usize, index: usize): v128 {
  return scalesWith<S>(from, index, i32x4.splat(f16Kept), f32x4.splat(f16Factor));
}

/** The same where many are read: `kept` and `factor` are splats of f16Kept and f16Factor. */
// @ts-ignore: decorator
@inline
export function scalesWith<S>(from: usize, index: usize, kept: v128, factor: v128): v128 {
  if (isFloat<S>()) return index == 0 ? v128.load(from) : index == 1 ? v128.load(from, 16) : index == 2 ? v128.load(from, 32) : v128.load(from, 48);
  // Neighbours must be loads from constant offsets of one address, or V8 does not join them.
  const half = index == 0 ? v128.load16x4_s(from) : index == 1 ? v128.load16x4_s(from, 8) : index == 2 ? v128.load16x4_s(from, 16) : v128.load16x4_s(from, 24);
  return f32x4.mul(v128.and(i32x4.shl(half, 13), kept), factor);
}

/** Keeps the larger magnitude of each lane, as bits: one instruction where f32x4.max takes many, and NaN stays. */
// @ts-ignore: decorator
@inline
export function largerMagnitude(most: v128, v: v128): v128 {
  return i32x4.max_s(most, v128.and(v, i32x4.splat(0x7fffffff)));
}

/** The largest of four lanes that largerMagnitude made; NaN above infinity above all others. */
// @ts-ignore: decorator
@inline
export function largestMagnitude(most: v128): f32 {
  most = i32x4.max_s(most, v128.shuffle<i32>(most, most, 2, 3, 0, 1));
  return reinterpret<f32>(i32x4.extract_lane(i32x4.max_s(most, v128.shuffle<i32>(most, most, 1, 0, 3, 2)), 0));
}

/** Lines of 64 bytes, all of `v`. (memory.fill calls out of WebAssembly, which costs a kernel for one token 4 %.) */
// @ts-ignore: decorator
@inline
export function fillLines(at: usize, lines: i32, v: v128): void {
  const end = at + (<usize>lines << 6);
  do {
    v128.store(at, v, 48);
    v128.store(at, v, 32);
    v128.store(at, v, 16);
    v128.store(at, v);
    at += 64;
  } while (at < end);
}

/** sum + f32(I) · (scale · d). */
// @ts-ignore: decorator
@inline
export function addBlock(sum: v128, integers: v128, scales: v128, d: v128): v128 {
  return f32x4.add(sum, f32x4.mul(f32x4.convert_i32x4_s(integers), f32x4.mul(scales, d)));
}

/** Adds a block's integers of eight rows to a token's sums f32 [8]. */
// @ts-ignore: decorator
@inline
export function addEight(sums: usize, a: v128, b: v128, scalesA: v128, scalesB: v128, d: v128): void {
  a = addBlock(v128.load(sums), a, scalesA, d);
  b = addBlock(v128.load(sums, 16), b, scalesB, d);
  v128.store(sums, b, 16);
  v128.store(sums, a);
}

/** The same for the other eight rows of a tile whose sums are f32 [16]. */
// @ts-ignore: decorator
@inline
export function addUpperEight(sums: usize, a: v128, b: v128, scalesA: v128, scalesB: v128, d: v128): void {
  a = addBlock(v128.load(sums, 32), a, scalesA, d);
  b = addBlock(v128.load(sums, 48), b, scalesB, d);
  v128.store(sums, b, 48);
  v128.store(sums, a, 32);
}

/**
 * Writes the outputs of a tile for one token: `y` is where the tile's first output goes,
 * `bias` the tile's 16 or 0, `rows` how many of the 16 exist.
 */
// @ts-ignore: decorator
@inline
export function storeTile(y: usize, bias: usize, rows: i32, add: i32, a0: v128, a1: v128, a2: v128, a3: v128): void {
  if (bias) {
    a0 = f32x4.add(a0, v128.load(bias));
    a1 = f32x4.add(a1, v128.load(bias, 16));
    a2 = f32x4.add(a2, v128.load(bias, 32));
    a3 = f32x4.add(a3, v128.load(bias, 48));
  }
  if (rows >= 16) {
    if (add) {
      a0 = f32x4.add(v128.load(y), a0);
      a1 = f32x4.add(v128.load(y, 16), a1);
      a2 = f32x4.add(v128.load(y, 32), a2);
      a3 = f32x4.add(v128.load(y, 48), a3);
    }
    v128.store(y, a3, 48);
    v128.store(y, a2, 32);
    v128.store(y, a1, 16);
    v128.store(y, a0);
    return;
  }
  storeSome(y, a0, rows, add);
  storeSome(y + 16, a1, rows - 4, add);
  storeSome(y + 32, a2, rows - 8, add);
  storeSome(y + 48, a3, rows - 12, add);
}

function storeSome(y: usize, v: v128, rows: i32, add: i32): void {
  if (rows > 0) store<f32>(y, (add ? load<f32>(y) : 0) + f32x4.extract_lane(v, 0));
  if (rows > 1) store<f32>(y, (add ? load<f32>(y, 4) : 0) + f32x4.extract_lane(v, 1), 4);
  if (rows > 2) store<f32>(y, (add ? load<f32>(y, 8) : 0) + f32x4.extract_lane(v, 2), 8);
  if (rows > 3) store<f32>(y, (add ? load<f32>(y, 12) : 0) + f32x4.extract_lane(v, 3), 12);
}

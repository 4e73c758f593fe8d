// Philox 4×32-10, the counter-based random generator of Salmon, Moraes, Dror and Shaw,
// "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). Counter in, random bits out, no
// state: a draw depends on its seed and position alone, so a request repeats whatever runs
// beside it, and any backend can make the same draw.

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
/** Weyl sequence that advances the key: golden ratio and √3 − 1, as 32-bit fractions. */
const KEY_STEP_0 = 0x9e3779b9;
const KEY_STEP_1 = 0xbb67ae85;
const ROUNDS = 10;

/** Four 32-bit words from a counter of four and a key of two 32-bit words. */
export function philox4x32(counter: readonly [number, number, number, number], key: readonly [number, number]): Uint32Array {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = multiplyHigh(MULTIPLIER_0, c0);
    const low0 = Math.imul(MULTIPLIER_0, c0);
    const high1 = multiplyHigh(MULTIPLIER_1, c2);
    const low1 = Math.imul(MULTIPLIER_1, c2);
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 = (k0 + KEY_STEP_0) | 0;
    k1 = (k1 + KEY_STEP_1) | 0;
  }
  return Uint32Array.of(c0, c1, c2, c3);
}

/**
 * The uniform number in [0, 1) with which the token at `position` is drawn: a pure function.
 *
 * @param seed whole number, 0 … 2⁵³ − 1; its two halves are the key
 * @param position 0 … 2³² − 1; the counter's first word, the others are 0
 */
export function uniformAt(seed: number, position: number): number {
  const words = philox4x32([position, 0, 0, 0], [seed >>> 0, Math.floor(seed / 2 ** 32)]);
  return ((words[0]! >>> 5) * 2 ** 26 + (words[1]! >>> 6)) / 2 ** 53;
}

/** Upper 32 bits of the product of two unsigned 32-bit numbers, by halves of 16 bits. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16); // < 2^32
  const carry = aLow * bHigh + (middle & 0xffff); // < 2^32
  return (aHigh * bHigh + (middle >>> 16) + (carry >>> 16)) | 0;
}

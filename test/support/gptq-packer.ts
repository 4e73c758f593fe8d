// Packs small whole numbers into GPTQ's 32-bit words: a stream of bits, lowest bits first,
// so that 32 numbers of b bits fill b words (with 3 bits, numbers straddle words). qweight
// is packed down its rows, qzeros along its columns.

/** Numbers `values[0 … count − 1]` of `bits` bits each as a stream of words. */
function packStream(count: number, bits: number, value: (index: number) => number): Int32Array {
  if ((count * bits) % 32) throw new Error(`${count} values of ${bits} bits do not fill whole words`);
  const words = new Int32Array((count * bits) / 32);
  for (let i = 0; i < count; i++) {
    const at = i * bits;
    const inWord = at & 31;
    words[at >> 5]! |= value(i) << inWord;
    if (inWord + bits > 32) words[(at >> 5) + 1]! |= value(i) >>> (32 - inWord);
  }
  return words;
}

/** @param q `[in, out]` @returns `[in · bits / 32, out]` */
export function packWeights(q: Uint16Array, rows: number, columns: number, bits: number): Int32Array {
  const packed = new Int32Array(((rows * bits) / 32) * columns);
  for (let column = 0; column < columns; column++) {
    packStream(rows, bits, (row) => q[row * columns + column]!).forEach((word, i) => {
      packed[i * columns + column] = word;
    });
  }
  return packed;
}

/** @param zeros `[groups, out]` as stored @returns `[groups, out · bits / 32]` */
export function packZeros(zeros: Uint16Array, groups: number, columns: number, bits: number): Int32Array {
  const packed = new Int32Array(groups * ((columns * bits) / 32));
  for (let group = 0; group < groups; group++) {
    const words = packStream(columns, bits, (column) => zeros[group * columns + column]!);
    packed.set(words, group * words.length);
  }
  return packed;
}

// GPTQ → f32, for the exact path: w[n, k] = (q − zero) · scale, every factor exactly as stored.

import type { GptqFormat } from "../../model/spec.js";

export interface DequantizeSlab {
  readonly format: GptqFormat;
  readonly out: number;
  readonly in: number;
  /** Input rows of this slab; firstRow is a multiple of 32. */
  readonly firstRow: number;
  readonly rows: number;
  /** `[rows · bits / 32, out]` */
  readonly qweight: Int32Array;
  /** `[groups, out]`, widened. */
  readonly scaleAt: (index: number) => number;
  /** `[groups, out · bits / 32]` */
  readonly qzeros: Int32Array;
  /** `[in]`, or null: k / groupSize. */
  readonly gIdx: Int32Array | null;
  /** `[out, in]` */
  readonly to: Float32Array;
}

/** Dequantises output columns from … to − 1 of the slab. */
export function dequantizeColumns(slab: DequantizeSlab, from: number, to: number): void {
  const { format, out, rows, firstRow, qweight } = slab;
  const { bits } = format;
  const zeroWords = (out * bits) >>> 5;
  const offset = format.zeros === "v1" ? 1 : 0;
  const mask = (1 << bits) - 1;
  for (let n = from; n < to; n++) {
    let group = -1;
    let scale = 0;
    let zero = 0;
    const row = n * slab.in;
    for (let k = 0; k < rows; k++) {
      const input = firstRow + k;
      const wanted = slab.gIdx ? slab.gIdx[input]! : Math.floor(input / format.groupSize);
      if (wanted !== group) {
        group = wanted;
        scale = slab.scaleAt(group * out + n);
        // v1 stores zero − 1 in `bits` bits, so that a zero of 0 has wrapped to all ones.
        zero = (unpack(slab.qzeros, group * zeroWords, 1, n, bits, mask) + offset) & mask;
      }
      slab.to[row + input] = (unpack(qweight, n, out, k, bits, mask) - zero) * scale;
    }
  }
}

/** Value `index` of a bit stream whose words lie `stride` apart, lowest bits first. */
function unpack(words: Int32Array, first: number, stride: number, index: number, bits: number, mask: number): number {
  const bit = index * bits;
  const word = bit >>> 5;
  const shift = bit & 31;
  let value = words[first + word * stride]! >>> shift;
  if (shift + bits > 32) value |= words[first + (word + 1) * stride]! << (32 - shift);
  return value & mask;
}

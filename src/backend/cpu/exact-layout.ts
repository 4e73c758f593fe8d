// How the exact path stores a linear: every weight dequantised to f32 when it is loaded,
// `[out, in]` row-major. Nothing is approximated, four bytes a weight.

import type { LinearSpec } from "../../model/spec.js";

/** Bytes of one stored weight value of a plain dtype. */
export const PLAIN_BYTES = { f16: 2, bf16: 2, f32: 4 } as const;

/** Regions of one linear, named inside it. */
export function exactRegions(linear: LinearSpec): { name: string; bytes: number }[] {
  const weights = { name: "weights", bytes: linear.out * linear.in * 4 };
  return linear.bias ? [weights, { name: "bias", bytes: linear.out * 4 }] : [weights];
}

/** Input rows of a GPTQ `qweight` that fill whole 32-bit words: read and dequantised together. */
export const GPTQ_BLOCK = 32;

/** Where the pieces of a linear lie while it is being dequantised, bytes from the beginning of the staging area. */
export interface ExactStaging {
  readonly scales: number;
  readonly zeros: number;
  readonly gIdx: number;
  /** Slabs of the weights themselves, from here to the end of the area. */
  readonly slab: number;
  /** Smallest slab that makes progress. */
  readonly slabUnit: number;
  /** Input rows (GPTQ) or output rows (plain) of a `slabUnit`. */
  readonly unitRows: number;
}

/** Scales, zeros and g_idx stay for the whole linear; the weights pass through behind them. */
export function exactStaging(linear: LinearSpec): ExactStaging {
  const { format } = linear;
  if (format.kind === "plain") {
    const row = linear.in * PLAIN_BYTES[format.dtype];
    return { scales: 0, zeros: 0, gIdx: 0, slab: 0, slabUnit: row, unitRows: 1 };
  }
  const groups = Math.ceil(linear.in / format.groupSize);
  const zeros = align(groups * linear.out * PLAIN_BYTES[format.scaleDtype]);
  const gIdx = zeros + align(groups * Math.ceil((linear.out * format.bits) / 32) * 4);
  const slab = gIdx + (format.gIdx ? align(linear.in * 4) : 0);
  return { scales: 0, zeros, gIdx, slab, slabUnit: format.bits * linear.out * 4, unitRows: GPTQ_BLOCK };
}

/** Least staging space with which a linear can be loaded; its bias and norms pass through it too. */
export function exactStagingBytes(linear: LinearSpec): number {
  const { slab, slabUnit } = exactStaging(linear);
  return Math.max(slab + slabUnit, linear.bias ? linear.out * 4 : 0);
}

function align(bytes: number): number {
  return Math.ceil(bytes / 64) * 64;
}

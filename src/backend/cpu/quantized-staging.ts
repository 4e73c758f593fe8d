// The staging area through which a linear is packed: tables first, then a slab of the tensor
// that is being read. Pure: the plan makes sure that the least size is there.

import type { LinearSpec } from "../../model/spec.js";
import { quantizedLayout, TILE_ROWS } from "./quantized-layout.js";

const align = (bytes: number) => Math.ceil(bytes / 64) * 64;
const ELEMENT_BYTES = { f16: 2, bf16: 2, f32: 4 } as const;

/** Places of the tables, bytes from the beginning of the staging area. */
export interface StagingTables {
  /** i32 [in]: input → position; unused without g_idx. */
  readonly inverse: number;
  /** i32 [groups + 1]: see wasm/pack-scales.ts. */
  readonly places: number;
  /** The slab begins here. */
  readonly slab: number;
}

export function stagingTables(linear: LinearSpec): StagingTables {
  if (linear.format.kind === "plain") return { inverse: 0, places: 0, slab: 0 };
  const places = linear.format.gIdx ? align(linear.in * 4) : 0;
  return { inverse: 0, places, slab: places + align((quantizedLayout(linear).groups + 1) * 4) };
}

/** The smallest piece of a tensor that can be packed: `rows` of the model's rows in `bytes` bytes. */
export interface SlabUnit {
  readonly rows: number;
  readonly bytes: number;
}

/** Units of the tensors of a linear. Slabs are as many units as fit. */
export function slabUnits(linear: LinearSpec): { weight: SlabUnit; scales: SlabUnit; zeros: SlabUnit } {
  const { format, out } = linear;
  const none = { rows: 1, bytes: 0 };
  if (format.kind === "plain")
    return { weight: { rows: TILE_ROWS, bytes: TILE_ROWS * linear.in * ELEMENT_BYTES[format.dtype] }, scales: none, zeros: none };
  // Words that hold whole codes only: one, or three where codes are 3 bits.
  const words = format.bits === 3 ? 3 : 1;
  return {
    weight: { rows: (words * 32) / format.bits, bytes: words * out * 4 },
    scales: { rows: 1, bytes: out * ELEMENT_BYTES[format.scaleDtype] },
    zeros: { rows: 1, bytes: Math.ceil((out * format.bits) / 32) * 4 },
  };
}

/** Least bytes of staging through which this linear can be packed; more makes fewer, larger reads. */
export function packingStagingBytes(linear: LinearSpec): number {
  const { weight, scales, zeros } = slabUnits(linear);
  const whole = [linear.bias ? linear.out * 4 : 0, linear.format.kind === "gptq" && linear.format.gIdx ? linear.in * 4 : 0];
  return stagingTables(linear).slab + align(Math.max(weight.bytes, scales.bytes, zeros.bytes, ...whole));
}

// How one linear is kept on the device: in the quantised kernels' order where they have its
// group size, else expanded to fp16. Only headers decide, so that a plan needs no weights.

import { MiB, roundUp } from "../../../memory/size.js";
import type { GptqFormat, LinearSpec } from "../../../model/spec.js";
import { CHUNK, type KernelGroup, kernelGroup, TILE_ROWS, tileBytes } from "./quantized-layout.js";

/** Row tiles of quantized-layout.ts. */
export interface QuantizedStorage {
  readonly kind: "quantized";
  readonly format: GptqFormat;
  readonly group: KernelGroup;
}

/** fp16 `[out, in]`. */
export interface HalfStorage {
  readonly kind: "half";
}

export type LinearStorage = QuantizedStorage | HalfStorage;

export function storageOf({ format, in: inputs }: LinearSpec): LinearStorage {
  if (format.kind === "plain") return { kind: "half" };
  const group = kernelGroup(format.groupSize, inputs);
  return group === null ? { kind: "half" } : { kind: "quantized", format, group };
}

/** Whether room for a permutation is planned: whether it permutes anything only the contents show. */
export function mayPermute(linear: LinearSpec): boolean {
  return linear.format.kind === "gptq" && linear.format.gIdx && storageOf(linear).kind === "quantized";
}

/** Bytes of the weights as stored. */
export function weightBytes(linear: LinearSpec): number {
  const storage = storageOf(linear);
  if (storage.kind === "half") return linear.in * linear.out * 2;
  return Math.ceil(linear.out / TILE_ROWS) * tileBytes(storage.format.bits, storage.group, linear.in);
}

/** Groups of a GPTQ linear in its checkpoint. */
export function checkpointGroups({ in: inputs }: LinearSpec, { groupSize }: GptqFormat): number {
  return Math.ceil(inputs / groupSize);
}

const SCALE_BYTES = { f16: 2, bf16: 2, f32: 4 } as const;

/** Bytes of one group's scales, as the checkpoint has them. */
export function scaleRowBytes({ out }: LinearSpec, { scaleDtype }: GptqFormat): number {
  return out * SCALE_BYTES[scaleDtype];
}

/** Bytes of one group's zeros. */
export function zeroRowBytes({ out }: LinearSpec, { bits }: GptqFormat): number {
  return (out * bits) / 8;
}

/** Bytes of 32 input rows of codes: the unit in which they are repacked. */
export function codeUnitBytes({ out }: LinearSpec, { bits }: GptqFormat): number {
  return out * bits * 4;
}

/** Inputs in whole units of 32. */
export function codeRows({ in: inputs }: LinearSpec): number {
  return roundUp(inputs, 32);
}

/**
 * Largest piece of a linear that is expanded at once, for steps of up to `tokens` tokens. The larger it is, the fewer
 * multiprocessors idle at its end (prompts of a 7B model are 10 % faster with 44 MiB than with 24, 12 % with 64); so
 * it grows with what a step takes anyway. Figures: bench/NOTES.md.
 */
function slabBytes(tokens: number): number {
  return Math.min(Math.max(LEAST_SLAB, tokens * SLAB_OF_TOKEN), MOST_SLAB);
}

const LEAST_SLAB = 32 * MiB;
const SLAB_OF_TOKEN = 48 * 1024;
/** Beyond, nothing is faster: the largest linear of a 7B model in one piece. */
const MOST_SLAB = 96 * MiB;

/** Bytes of the slab through which a quantised linear is multiplied with many tokens: whole row tiles. */
export function expandedBytes(linear: LinearSpec, tokens: number): number {
  if (storageOf(linear).kind === "half") return 0;
  const tile = TILE_ROWS * linear.in * 2;
  return Math.min(Math.max(tile, Math.floor(slabBytes(tokens) / tile) * tile), Math.ceil(linear.out / TILE_ROWS) * tile);
}

/** Least bytes of device memory through which a linear can be brought into its order, see load-linear.ts. */
export function stagingBytes(linear: LinearSpec): number {
  const { format } = linear;
  const vector = linear.out * 4;
  if (format.kind === "plain") return Math.max(vector, STAGING_ALIGNMENT);
  const scales = scaleRowBytes(linear, format);
  const zeros = zeroRowBytes(linear, format);
  const codes = codeUnitBytes(linear, format);
  const order = codeRows(linear) * 4;
  const groups = storageOf(linear).kind === "half" ? checkpointGroups(linear, format) : 1;
  return Math.max(vector, groups * (scales + zeros) + codes + order) + 5 * STAGING_ALIGNMENT;
}

/** Every staged piece begins at a multiple of this. */
export const STAGING_ALIGNMENT = 256;

/** The kernels load 16 bytes at a time: 8 fp16 numbers. */
export const INPUT_MULTIPLE = 8;

/** Inputs of x that a chunk of the kernels covers. */
export const INPUT_CHUNK = CHUNK;

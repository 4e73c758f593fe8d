// The order in which quantised weights lie on the device, in bytes: the same numbers as
// kernels/quantized.cuh, which says what the order is and why.

import type { GptqFormat } from "../../../model/spec.js";

export const TILE_ROWS = 16;
export const CHUNK = 64;
export const SUPERBLOCK = 1024;

/** Scale groups that the kernels have: k per scale. */
export type KernelGroup = 32 | 64 | 128;

/**
 * The kernels' group for a checkpoint's: 128 where that divides it (a larger group's scale is
 * repeated), else 64 or 32; `null` where none does, and the linear is stored as fp16.
 *
 * @param inputs the linear's input size: one group for all of it needs no divisor
 */
export function kernelGroup(groupSize: number, inputs: number): KernelGroup | null {
  if (groupSize >= inputs) return 128;
  for (const group of [128, 64, 32] as const) if (groupSize % group === 0) return group;
  return null;
}

/** Input size as stored: whole chunks. */
export function paddedInputs(inputs: number): number {
  return Math.ceil(inputs / CHUNK) * CHUNK;
}

/** Bytes of one superblock of `k` inputs. */
export function superblockBytes(bits: GptqFormat["bits"], group: KernelGroup, k: number): number {
  const groups = Math.ceil(k / group);
  const zeroBytes = (TILE_ROWS * (bits === 8 ? 8 : 4)) / 8;
  return Math.ceil(((k * TILE_ROWS * bits) / 8 + groups * (TILE_ROWS * 2 + zeroBytes)) / 16) * 16;
}

/** Bytes of 16 rows: their superblocks, the last one shorter. */
export function tileBytes(bits: GptqFormat["bits"], group: KernelGroup, inputs: number): number {
  const k = paddedInputs(inputs);
  const rest = k % SUPERBLOCK;
  return (
    Math.floor(k / SUPERBLOCK) * superblockBytes(bits, group, SUPERBLOCK) + (rest > 0 ? superblockBytes(bits, group, rest) : 0)
  );
}

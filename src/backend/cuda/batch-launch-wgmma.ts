// How linear_batch_wgmma.cu is launched on Hopper: what it can do, how many blocks there are, how large the pieces are that meet in
// device memory. Pure arithmetic, so that the plan, the launch and the tests mean the same.

import type { BatchShape } from "./batch-launch.js";
import { type GemmCard, hasWgmma } from "./gemm-launch.js";
import { CHUNK, type KernelGroup, TILE_ROWS } from "./quantized-layout.js";

const WARPS = 8;
/** Outputs of a unit; half of them gate's and half of them up's where they are paired. */
const UNIT_OUTPUTS = WARPS * TILE_ROWS;
/** Inputs of a slice. */
const SLICE_INPUTS = 4 * CHUNK;
/** A row of results begins at a multiple of 16 bytes. */
const OUTPUT_MULTIPLE = 8;

/** BatchTile of linear_batch_wgmma.cu. */
const TILES = [
  { tokens: 16, stages: 6, slots: 4, blocks: 2 },
  { tokens: 32, stages: 4, slots: 4, blocks: 2 },
  { tokens: 64, stages: 3, slots: 3, blocks: 2 },
  { tokens: 128, stages: 4, slots: 4, blocks: 1 },
] as const;
/** Multiprocessors of the largest card that has these instructions. */
const MOST_MULTIPROCESSORS = 132;

export interface WgmmaBatchLaunch {
  readonly name: string;
  readonly grid: number;
  readonly block: number;
  /** Dynamic shared memory, bytes. */
  readonly shared: number;
  /** That a unit has room for: rows of x in a box of its tensor map. */
  readonly tokens: number;
  readonly units: number;
  /** Bytes. */
  readonly pieceBytes: number;
}

/** @returns `null` where the kernel cannot do it */
export function wgmmaBatchLaunch(shape: BatchShape, card: GemmCard): WgmmaBatchLaunch | null {
  const { bits, group, rows, inputs, outputs, paired = false } = shape;
  const tile = TILES.find(({ tokens }) => tokens >= rows);
  const fits = bits === 4 && inputs % SLICE_INPUTS === 0 && outputs.every((n) => n % OUTPUT_MULTIPLE === 0);
  if (!hasWgmma(card) || !tile || !fits) return null;
  const units = unitsOf(outputs, paired);
  const slices = units * (inputs / SLICE_INPUTS);
  if (slices * 2 * MOST_MULTIPROCESSORS > 2 ** 31) return null; // the kernel counts in 32 bits
  const grid = Math.min(tile.blocks * Math.min(card.multiprocessors, MOST_MULTIPROCESSORS), slices);
  return {
    name: `linear_batch_wgmma_q4_g${group}_t${tile.tokens}`,
    grid,
    block: WARPS * 32,
    shared: 1024 + tile.stages * (2 * tile.tokens * CHUNK * 2 + 16) + WARPS * tile.slots * (sliceBytes(group) + 8),
    tokens: tile.tokens,
    units,
    pieceBytes: pieceBytes(grid, units, tile.tokens),
  };
}

/** What any launch of these outputs for up to `rows` tokens takes at most; bytes. */
export function mostWgmmaPieceBytes(outputs: readonly number[], rows: number): number {
  const sizes = TILES.filter((_, i) => i === 0 || TILES[i - 1]!.tokens < rows);
  return Math.max(
    ...sizes.map(({ tokens, blocks }) => pieceBytes(blocks * MOST_MULTIPROCESSORS, unitsOf(outputs, false), tokens)),
  );
}

/** Of the counters behind which the pieces of these outputs meet. */
export function arrivalBytes(outputs: readonly number[]): number {
  return unitsOf(outputs, false) * WARPS * 4;
}

/** Codes, scales and zeros of a warp's row tile in a slice. */
function sliceBytes(group: KernelGroup): number {
  return (SLICE_INPUTS * TILE_ROWS) / 2 + (SLICE_INPUTS / group) * ((TILE_ROWS * 5) / 2);
}

function pieceBytes(blocks: number, units: number, tokens: number): number {
  return (blocks + units) * UNIT_OUTPUTS * tokens * 4;
}

function unitsOf(outputs: readonly number[], paired: boolean): number {
  if (paired) return Math.ceil(outputs[0]! / (UNIT_OUTPUTS / 2));
  return outputs.reduce((sum, n) => sum + Math.ceil(n / UNIT_OUTPUTS), 0);
}

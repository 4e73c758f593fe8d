// How linear_batch_wgmma.cu and linear_batch_cluster.cu are launched on Hopper: what they can do, how many blocks there are, how large the
// pieces are that meet in device memory. Pure arithmetic, so that the plan, the launch and the tests mean the same.

import { CHUNK, type KernelGroup, TILE_ROWS } from "../weights/quantized-layout.js";
import type { BatchShape } from "./batch-launch.js";
import { type GemmCard, hasWgmma } from "./gemm-launch.js";

const WARPS = 8;
/** Outputs of a unit; half of them gate's and half of them up's where they are paired. */
const UNIT_OUTPUTS = WARPS * TILE_ROWS;
/** Inputs of a slice. */
const SLICE_INPUTS = 4 * CHUNK;
/** A row of results begins at a multiple of 16 bytes. */
const OUTPUT_MULTIPLE = 8;

/** BatchTile of linear_batch_wgmma.cu. */
const TILES = [
  { tokens: 8, stages: 4, blocks: 3, part: 8 },
  { tokens: 16, stages: 4, blocks: 2, part: 16 },
  { tokens: 32, stages: 4, blocks: 2, part: 32 },
  { tokens: 64, stages: 3, blocks: 2, part: 16 },
  { tokens: 128, stages: 4, blocks: 1, part: 32 },
] as const;
/** Bytes of a warp's place in its run, while it finishes a piece. */
const PARKED = 48;
/** Fewer tokens are multiplied by products that take x as it comes. */
const LEAST_ORDERED = 32;
/** Widest residual stream whose norms may be put off: rms_norm_deferred of pointwise.cu has a row in registers. */
export const MOST_DEFERRED_HIDDEN = 8192;
/** Tokens from which on these kernels are the fastest way; figures in bench/NOTES.md. */
export const LEAST_WGMMA_BATCHED = 5;
/** Multiprocessors of the largest card that has these instructions. */
const MOST_MULTIPROCESSORS = 132;

/** How slices are dealt out: in equal runs to so many blocks, or those of a unit to a cluster of so many. */
export type BatchCut = { readonly runs: number } | { readonly cluster: number };

export interface WgmmaBatchLaunch {
  readonly family: "linear_batch_wgmma" | "linear_batch_cluster";
  readonly name: string;
  readonly grid: number;
  /** Blocks of a cluster, where there are clusters. */
  readonly cluster?: number;
  readonly block: number;
  /** Dynamic shared memory, bytes. */
  readonly shared: number;
  /** That a unit has room for: rows of x in a box of its tensor map. */
  readonly tokens: number;
  readonly units: number;
  /** Bytes. */
  readonly pieceBytes: number;
}

/**
 * @param ordered x is in the order of codes (kernels/code_order.cuh)
 * @param cut for measurements and tests; default: what takes least time
 * @returns `null` where there is no kernel for it
 */
export function wgmmaBatchLaunch(shape: BatchShape, card: GemmCard, ordered = false, cut?: BatchCut): WgmmaBatchLaunch | null {
  const { bits, group, rows, inputs, outputs, paired = false } = shape;
  const tile = TILES.find(({ tokens }) => tokens >= rows);
  const fits = bits === 4 && inputs % SLICE_INPUTS === 0 && outputs.every((n) => n % OUTPUT_MULTIPLE === 0);
  if (!hasWgmma(card) || !tile || !fits || (ordered && tile.tokens < LEAST_ORDERED)) return null;
  const units = unitsOf(outputs, paired);
  const slices = units * (inputs / SLICE_INPUTS);
  if (slices * 3 * MOST_MULTIPROCESSORS > 2 ** 31) return null; // the kernel counts in 32 bits
  const of = `q4_g${group}_t${tile.tokens}${ordered ? "_ordered" : ""}`;
  const same = { block: WARPS * 32, shared: sharedBytes(tile, group), tokens: tile.tokens, units };
  const chosen = cut ?? { runs: gridOf(tile.blocks, Math.min(card.multiprocessors, MOST_MULTIPROCESSORS), units, slices) };
  if ("cluster" in chosen) {
    const { cluster } = chosen;
    return {
      ...same,
      family: "linear_batch_cluster",
      name: `linear_batch_cluster_${of}`,
      grid: units * cluster,
      cluster,
      pieceBytes: 0,
    };
  }
  const grid = chosen.runs;
  return {
    ...same,
    family: "linear_batch_wgmma",
    name: `linear_batch_wgmma_${of}`,
    grid,
    pieceBytes: pieceBytes(grid, tile.tokens),
  };
}

/**
 * Tokens that kernels have room for which put RMSNorms off (kernels/deferred_norm.cuh): those by products of warps.
 *
 * @returns `null` where none does
 */
export function deferredPlaces(rows: number): number | null {
  if (rows < LEAST_WGMMA_BATCHED) return null;
  return TILES.find(({ tokens }) => tokens >= rows && tokens < LEAST_ORDERED)?.tokens ?? null;
}

/** What any launch for up to `rows` tokens takes at most; bytes. */
export function mostWgmmaPieceBytes(rows: number): number {
  const sizes = TILES.filter((_, i) => i === 0 || TILES[i - 1]!.tokens < rows);
  return Math.max(...sizes.map(({ tokens, blocks }) => pieceBytes(blocks * MOST_MULTIPROCESSORS, tokens)));
}

/**
 * As many blocks as run at once. Fewer, a multiple of the units, so that those are cut alike and into fewer pieces, where neither a block
 * nor a multiprocessor gets more slices than with the most blocks of that kind.
 */
function gridOf(perMultiprocessor: number, multiprocessors: number, units: number, slices: number): number {
  const most = perMultiprocessor * multiprocessors;
  if (slices <= most) return slices;
  const even = Math.floor(most / units) * units;
  const longest = Math.ceil(slices / most);
  const share = (blocks: number) => Math.ceil(blocks / multiprocessors) / blocks;
  let grid = most;
  for (let blocks = even; blocks > 0 && Math.ceil(slices / blocks) === longest; blocks -= units)
    if (share(blocks) <= share(even)) grid = blocks;
  return grid;
}

function sharedBytes({ tokens, stages, part }: (typeof TILES)[number], group: KernelGroup): number {
  const slots = tokens === 8 || tokens === 64 || (tokens === 32 && group === 32) ? 3 : 4;
  const x = stages * (2 * tokens * CHUNK * 2 + 16);
  const weights = WARPS * slots * (sliceBytes(group) + 8);
  const deferred = tokens < LEAST_ORDERED ? (WARPS + 1) * tokens * 4 + 16 : 0;
  return 1024 + x + weights + (WARPS / 2) * TILE_ROWS * part * 4 + WARPS * PARKED + 16 + deferred;
}

/** Codes, scales and zeros of a warp's row tile in a slice. */
function sliceBytes(group: KernelGroup): number {
  return (SLICE_INPUTS * TILE_ROWS) / 2 + (SLICE_INPUTS / group) * ((TILE_ROWS * 5) / 2);
}

/** Of what each block leaves of the unit that it begins in. */
function pieceBytes(blocks: number, tokens: number): number {
  return blocks * UNIT_OUTPUTS * tokens * 4;
}

function unitsOf(outputs: readonly number[], paired: boolean): number {
  if (paired) return Math.ceil(outputs[0]! / (UNIT_OUTPUTS / 2));
  return outputs.reduce((sum, n) => sum + Math.ceil(n / UNIT_OUTPUTS), 0);
}

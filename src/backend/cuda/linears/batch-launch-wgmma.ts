// How linear_batch_wgmma.cu and linear_batch_cluster.cu are launched on Hopper: what they can do, how many blocks there are, how large the
// pieces are that meet in device memory. Pure arithmetic, so that the plan, the launch and the tests mean the same.

import { CHUNK, type KernelGroup, TILE_ROWS } from "../weights/quantized-layout.js";
import { type BatchCut, bestCut, type CutTokens, MOST_CLUSTER } from "./batch-cut.js";
import type { BatchShape } from "./batch-launch.js";
import { type GemmCard, hasWgmma } from "./gemm-launch.js";

const WARPS = 8;
/** Threads. */
const BLOCK = WARPS * 32;
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

/**
 * How many clusters of 1, 2, … MOST_CLUSTER blocks an H200 has room for, by blocks of a multiprocessor. Chips of one kind may differ in
 * that by a few; the choice goes by this one for all of them, so that it and the bits are the same: more clusters than there is room for wait their turn.
 */
const H200_CLUSTERS: Readonly<Record<number, readonly number[]>> = {
  1: [132, 66, 39, 30, 22, 17, 15, 15],
  2: [264, 132, 79, 62, 47, 39, 32, 30],
};

interface ClusterKernel {
  readonly family: "linear_batch_cluster";
  readonly name: string;
  readonly block: number;
  /** Dynamic shared memory, bytes. */
  readonly shared: number;
}

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
 * What a linear takes depends on its shape, the card and `ordered` alone, whatever was launched before.
 *
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
  const slices = inputs / SLICE_INPUTS;
  if (units * slices * 3 * MOST_MULTIPROCESSORS > 2 ** 31) return null; // the kernel counts in 32 bits
  const product = { tile, group, ordered, units, slices };
  return cut ? launchOf(product, cut) : chosenLaunch(product, card);
}

/** What is multiplied, as kernels see it. */
interface Product {
  readonly tile: (typeof TILES)[number];
  readonly group: KernelGroup;
  readonly ordered: boolean;
  readonly units: number;
  /** Of a unit. */
  readonly slices: number;
}

/** What was chosen for a card: every step asks several times a layer. */
const chosen = new WeakMap<GemmCard, Map<number, WgmmaBatchLaunch | null>>();

function chosenLaunch(product: Product, card: GemmCard): WgmmaBatchLaunch | null {
  const { tile, group, ordered, units, slices } = product;
  const known = chosen.get(card) ?? new Map<number, WgmmaBatchLaunch | null>();
  if (known.size === 0) chosen.set(card, known);
  const kernel = (tile.tokens * 128 + group) * 2 + (ordered ? 1 : 0);
  const key = (kernel * 2 ** 18 + units) * 2 ** 18 + slices; // outputs are fewer than 2^25, inputs than 2^26
  let launch = known.get(key);
  if (launch === undefined) {
    launch = launchOf(product, cutOf(product, card));
    known.set(key, launch);
  }
  return launch;
}

function cutOf(product: Product, card: GemmCard): BatchCut {
  const { tile, units, slices } = product;
  const { tokens } = tile;
  const multiprocessors = Math.min(card.multiprocessors, MOST_MULTIPROCESSORS);
  const blocks = tile.blocks * multiprocessors;
  if (!isCut(tokens)) return { runs: gridOf(blocks, multiprocessors, units, units * slices) };
  const clustersAtOnce = clusterKernel(product) && clustersOf(card, tile.blocks);
  return bestCut({ tokens, units, slices, multiprocessors, blocks, clustersAtOnce });
}

function launchOf(product: Product, cut: BatchCut): WgmmaBatchLaunch | null {
  const { tile, group, units, slices } = product;
  const same = { block: BLOCK, shared: sharedBytes(tile, group), tokens: tile.tokens, units };
  if ("cluster" in cut) {
    const { cluster } = cut;
    const kernel = clusterKernel(product);
    const isRight = cluster <= Math.min(MOST_CLUSTER, slices); // a block without slices would wait for the first
    return kernel && isRight ? { ...same, ...kernel, grid: units * cluster, cluster, pieceBytes: 0 } : null;
  }
  const grid = cut.runs;
  const name = `linear_batch_wgmma_${kernelOf(product)}`;
  return { ...same, family: "linear_batch_wgmma", name, grid, pieceBytes: pieceBytes(grid, tile.tokens) };
}

/** The one of linear_batch_cluster.cu, all of which take x in the order of codes; `null`: there is none. */
function clusterKernel(product: Product): ClusterKernel | null {
  const { tile, group, ordered } = product;
  if (!ordered || tile.tokens < 32 || (tile.tokens === 32 && group < 128)) return null;
  const name = `linear_batch_cluster_${kernelOf(product)}`;
  return { family: "linear_batch_cluster", name, block: BLOCK, shared: sharedBytes(tile, group) };
}

function kernelOf({ tile, group, ordered }: Product): string {
  return `q4_g${group}_t${tile.tokens}${ordered ? "_ordered" : ""}`;
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

/** Times of what there is to choose from are known. */
function isCut(tokens: number): tokens is CutTokens {
  return tokens >= 32;
}

function clustersOf({ multiprocessors }: GemmCard, perMultiprocessor: number): number[] {
  return H200_CLUSTERS[perMultiprocessor]!.map((count) => Math.floor((count * multiprocessors) / MOST_MULTIPROCESSORS));
}

/**
 * Of up to 16 tokens: as many blocks as run at once. Fewer, a multiple of the units, so that those are cut alike and into fewer pieces, where neither a block
 * nor a multiprocessor gets more slices than with the most blocks of that kind.
 */
function gridOf(most: number, multiprocessors: number, units: number, slices: number): number {
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

// How quantised linears of some dozens of tokens (kernels/linear_batch.cu) are launched: how a product is cut into slices and
// dealt out to the blocks, how much shared memory a block takes, how large the sums of pieces are that lie between
// its two launches. Pure arithmetic, so that the plan, the launch and the tests mean the same.

import type { GptqFormat } from "../../../model/spec.js";
import { CHUNK, type KernelGroup, paddedInputs, SUPERBLOCK, TILE_ROWS } from "../weights/quantized-layout.js";

/** Outputs of a unit, the half of it that lies in one segment. */
const UNIT_OUTPUTS = 128;
const HALF_OUTPUTS = 64;
const UNIT_TILES = UNIT_OUTPUTS / TILE_ROWS;
/** Tokens that pieces may have room for: one kernel each. */
const PIECE_TOKENS = [16, 32, 64, 128] as const;
/** Tokens for which these kernels are the fastest way; figures in bench/NOTES.md. */
export const LEAST_BATCHED = 9;
export const MOST_BATCHED = 128;
const WARPS = 16;
const OUTPUT_WAYS = 4;
/** Most tokens of a warp; the warps of a block divide its tokens, then its k. */
const WARP_TOKENS = 32;
/** Blocks at most, on any card: what the sums of pieces are planned for. */
const MOST_BLOCKS = 192;
const MOST_STAGES = 6;
const LEAST_STAGES = 2;

/** Of a card: CU_DEVICE_ATTRIBUTE_… */
export interface BatchCard {
  readonly multiprocessors: number;
  /** Most dynamic shared memory of a block (…_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN), bytes. */
  readonly sharedPerBlock: number;
}

export interface BatchShape {
  readonly bits: GptqFormat["bits"];
  readonly group: KernelGroup;
  /** Tokens, at most MOST_BATCHED. */
  readonly rows: number;
  readonly inputs: number;
  /** Outputs of each segment, three at most. */
  readonly outputs: readonly number[];
  /** Two segments, gate and up, go together: a unit has 64 outputs of each. */
  readonly paired?: boolean;
}

export interface BatchLaunch {
  readonly name: string;
  readonly grid: number;
  readonly block: number;
  /** Dynamic shared memory, bytes. */
  readonly shared: number;
  readonly stages: number;
  /** That a piece has room for. */
  readonly pieceTokens: number;
  /** Slices of k in a unit. */
  readonly slices: number;
  /** Blocks of outputs. */
  readonly units: number;
  /** Of the sums of pieces, bytes. */
  readonly pieceBytes: number;
}

/** Bits that linear_batch.cu is compiled for. */
export function hasBatchKernel(bits: GptqFormat["bits"]): boolean {
  return bits === 4;
}

/** @returns `null` where there is no kernel for it, or a block of this card has too little shared memory */
export function batchLaunch(shape: BatchShape, card: BatchCard): BatchLaunch | null {
  const { bits, group, rows, inputs, outputs, paired = false } = shape;
  const pieceTokens = PIECE_TOKENS.find((tokens) => tokens >= rows);
  if (pieceTokens === undefined || !hasBatchKernel(bits)) return null;
  const slice = sliceOf(pieceTokens);
  const groups = Math.max(1, slice / group);
  const stage =
    UNIT_TILES * ((slice * TILE_ROWS * bits) / 8 + groups * (TILE_ROWS * 2 + TILE_ROWS / 2)) + pieceTokens * slice * 2;
  const sums = Math.floor(inputWays(pieceTokens) / 2) * pieceTokens * UNIT_OUTPUTS * 4;
  const stages = Math.min(MOST_STAGES, Math.floor((card.sharedPerBlock - sums) / stage));
  if (stages < LEAST_STAGES) return null;
  const units = unitsOf(outputs, paired);
  const slices = Math.ceil(paddedInputs(inputs) / slice);
  const grid = Math.min(card.multiprocessors, MOST_BLOCKS, units * slices);
  if (units * slices * MOST_BLOCKS > 2 ** 31) return null; // the kernels count in 32 bits
  return {
    name: `linear_batch_q${bits}_g${group}_m${pieceTokens}`,
    grid,
    block: WARPS * 32,
    shared: sums + stages * stage,
    ...{ stages, pieceTokens, slices, units },
    pieceBytes: pieceBytes(grid, units, pieceTokens),
  };
}

/** What any launch of these outputs for up to `rows` tokens takes at most, on any card; bytes. */
export function mostPieceBytes(outputs: readonly number[], rows: number): number {
  const pieceTokens = PIECE_TOKENS.find((tokens) => tokens >= rows) ?? MOST_BATCHED;
  return outputs.length === 0 ? 0 : pieceBytes(MOST_BLOCKS, unitsOf(outputs, false), pieceTokens);
}

/** Every block begins a piece, and so does every unit. */
function pieceBytes(blocks: number, units: number, pieceTokens: number): number {
  return (blocks + units) * pieceTokens * UNIT_OUTPUTS * 4;
}

function unitsOf(outputs: readonly number[], paired: boolean): number {
  if (paired) return Math.ceil(outputs[0]! / HALF_OUTPUTS);
  return Math.ceil(outputs.reduce((sum, n) => sum + Math.ceil(n / HALF_OUTPUTS), 0) / 2);
}

/** Warps of a block that take different k of the same outputs and tokens. */
function inputWays(pieceTokens: number): number {
  return WARPS / OUTPUT_WAYS / Math.max(1, pieceTokens / WARP_TOKENS);
}

/** k of a slice. */
function sliceOf(pieceTokens: number): number {
  return CHUNK * inputWays(pieceTokens);
}

if (SUPERBLOCK % sliceOf(PIECE_TOKENS[0]) !== 0) throw new Error("a slice must not straddle superblocks");

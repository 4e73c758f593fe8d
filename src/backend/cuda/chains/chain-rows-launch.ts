// How kernels/linear_chain_rows.cu is launched: one block per multiprocessor, all of which must run at once, and what their shared memory is
// cut into. Pure arithmetic, so that the plan, the launch and the tests mean the same; kernels/chain_rows.cuh has the same numbers.

import type { StreamingCard } from "../linears/linear-launch.js";
import { SUPERBLOCK, superblockBytes, TILE_ROWS } from "../weights/quantized-layout.js";
import {
  CHAIN_BLOCK,
  type ChainShape,
  type ChainShare,
  copiesUnderWay,
  hasChainKernel,
  LEAST_CHAIN_STAGES,
  MOST_CHAIN_BLOCKS,
  MOST_CHAIN_STAGES,
} from "./chain-launch.js";

/** Tokens of a launch: one alone goes through linear_chain.cu. */
export const LEAST_CHAIN_ROWS = 2;
/** What every buffer has room for. */
export const MOST_CHAIN_ROWS = 8;

/** Of one row tile: f32 for each output of each token. */
const SUM_BYTES = TILE_ROWS * MOST_CHAIN_ROWS * 4;
/** Row tiles of the residual stream that a block keeps at most. */
const MOST_KEPT_TILES = 8;
/** Barriers and what blocks and warps keep; and the block's row tiles of the residual stream. */
const HEAD_BYTES = 1408 + MOST_KEPT_TILES * SUM_BYTES;
/** x is staged by four superblocks at a time: high and low digits, and of every span its factor and sum. */
const PART_SUPERBLOCKS = 4;
const SPAN = 128;
const X_BYTES = PART_SUPERBLOCKS * MOST_CHAIN_ROWS * (2 * SUPERBLOCK + (SUPERBLOCK / SPAN) * 8);
/** Sums of a tile, each of a quarter of every superblock; and of every second superblock, where a block has so few tiles. */
const WAYS = 4;
const WAYS_APART = 8;
const MOST_TILES_APART = 6;

/** A lane of the warp that copies for each. */
const MOST_TILES = 32;

export interface ChainRowsLaunch {
  readonly name: string;
  readonly grid: number;
  readonly block: number;
  /** Dynamic shared memory, bytes. */
  readonly shared: number;
  readonly stages: number;
  /** Copies under way at a time. */
  readonly flying: number;
  /** Places in shared memory: a part of x, sums. */
  readonly xAt: number;
  readonly sumsAt: number;
  /** 2 ** splitBits blocks next to each other have the same row tiles of o and down, each another part of their inputs. */
  readonly splitBits: number;
  /** Of o, gate and up, down, and q, k, v, all whole: of o and down for each group of such blocks. */
  readonly shares: readonly [ChainShare, ChainShare, ChainShare, ChainShare];
}

/** Bytes of each buffer. */
export interface ChainRowsScratch {
  readonly normed: number;
  readonly squares: number;
  readonly gated: number;
  readonly pieces: number;
  readonly epochs: number;
}

/** Whether there is a kernel for it, on cards whose shared memory holds what it needs. */
export function hasChainRowsKernel(shape: ChainShape): boolean {
  const { hidden, attention, intermediate, next } = shape;
  // A block that keeps some of the residual stream has to have some of what follows as well, or it would not hear of its norm, or not begin.
  const outputs = [attention > 0 ? intermediate : hidden, next.length > 0 ? outputsOf(next) : hidden];
  return hasChainKernel(shape) && outputs.every((count) => count >= hidden);
}

/**
 * @param flying copies of weights under way at a time
 * @returns null where this card or these linears have no such kernel
 */
export function chainRowsLaunch(
  shape: ChainShape,
  card: StreamingCard,
  flying: number = copiesUnderWay(shape),
): ChainRowsLaunch | null {
  const { bits, group, hidden, intermediate, next } = shape;
  if (card.major !== 9 || !hasChainRowsKernel(shape)) return null;
  const grid = card.multiprocessors;
  const splitBits = splitBitsOf(shape);
  // Also where there is no o: then those of the residual stream.
  const stream = shareOf(hidden, grid >> splitBits);
  const shares = [stream, shareOf(intermediate, grid), stream, shareOf(outputsOf(next), grid)] as const;
  if (Math.ceil(mostParts(stream) / 2 ** splitBits) > MOST_KEPT_TILES) return null;
  if (shares.some((share, i) => mostParts(share) * (i === 1 ? 2 : 1) > MOST_TILES)) return null;
  const sums = Math.max(...shares.map((share, i) => sumsOf(mostParts(share) * (i === 1 ? 2 : 1)))) * SUM_BYTES;
  const stageBytes = Math.ceil(superblockBytes(bits, group, SUPERBLOCK) / 128) * 128;
  const stages = Math.min(MOST_CHAIN_STAGES, Math.floor((card.sharedPerBlock - HEAD_BYTES - X_BYTES - sums) / stageBytes));
  if (stages < Math.max(LEAST_CHAIN_STAGES, flying + 1)) return null;
  const xAt = HEAD_BYTES + stages * stageBytes;
  const sumsAt = xAt + X_BYTES;
  const name = `linear_chain_rows_q${bits}_g${group}`;
  return { name, grid, block: CHAIN_BLOCK, shared: sumsAt + sums, stages, flying, xAt, sumsAt, splitBits, shares };
}

/**
 * Of o and down a block would have one row tile or two, and make digits of all of x for them: four blocks have eight tiles, and a quarter of x
 * each (H200, µs of a 7B's link by 1, 2 and 4 blocks, when that was measured: 53.9, 50.4, 47.1). Decided without what follows, and without
 * the card: sums of parts are other bits.
 */
function splitBitsOf({ hidden, attention, intermediate }: ChainShape): number {
  const superblocks = Math.ceil(Math.min(attention, intermediate) / SUPERBLOCK); // something for each
  if (superblocks < 2 || intermediate < 2 * hidden) return 0;
  return superblocks < 4 || hidden < LEAST_HIDDEN_IN_QUARTERS ? 1 : 2;
}

/** Below, groups of four would leave blocks with part of o's inputs and nothing of gate and up. */
const LEAST_HIDDEN_IN_QUARTERS = 2048;

const outputsOf = (next: readonly number[]): number => next.reduce((sum, n) => sum + n, 0);

/** Row tiles of so many outputs (of gate and up: pairs), dealt out whole to blocks or groups of them. */
function shareOf(outputs: number, takers: number): ChainShare {
  const parts = outputs / TILE_ROWS;
  return { each: Math.floor(parts / takers), more: parts % takers, piecesEach: 0, piecesMore: 0 };
}

/** Of the block that has most. */
function mostParts({ each, more }: ChainShare): number {
  return each + (more > 0 ? 1 : 0);
}

/** Sums that a block with up to so many tiles has at most: one with fewer may have them apart. */
function sumsOf(tiles: number): number {
  return Math.max(tiles * WAYS, Math.min(tiles, MOST_TILES_APART) * WAYS_APART);
}

/**
 * Bytes of packets and counters that chains of this shape need, on any card, zero before the first launch: packets of sixteen bytes
 * for eight numbers of a token that go into linears behind a norm or into down; for the squares of four tokens of each row tile, and behind
 * them what x carries; for four sums of a part of o's or down's inputs; and of each block how often all were used.
 */
export function chainRowsScratch(shape: ChainShape): ChainRowsScratch {
  const { hidden, intermediate } = shape;
  return {
    normed: (hidden / 8) * MOST_CHAIN_ROWS * 16,
    squares: (hidden / TILE_ROWS + 1) * (MOST_CHAIN_ROWS / 4) * 16,
    gated: (intermediate / 8) * MOST_CHAIN_ROWS * 16,
    pieces: (hidden / TILE_ROWS) * 2 ** splitBitsOf(shape) * SUM_BYTES,
    epochs: MOST_CHAIN_BLOCKS * 16,
  };
}

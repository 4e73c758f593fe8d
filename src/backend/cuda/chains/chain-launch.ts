// How kernels/linear_chain.cu and chain_layers.cu are launched: one block per multiprocessor, all of which must run at once, and what their
// shared memory is cut into. Pure arithmetic, so that the plan, the launch and the tests mean the same.

import type { GptqFormat } from "../../../model/spec.js";
import type { StreamingCard } from "../linears/linear-launch.js";
import { type KernelGroup, SUPERBLOCK, superblockBytes, TILE_ROWS } from "../weights/quantized-layout.js";

const WARPS = 16;
/** Threads: warps that compute, and those one of which copies. */
export const CHAIN_BLOCK = WARPS * 32 + 128;
const UNIT = 512;
const SPAN = 128;
/** Barriers, sums of squares and the cut of attention, and the block's rows of the residual stream. */
const HEAD_BYTES = 768 + WARPS * 32 * 4;
const MOST_ROWS = WARPS * 32;
export const MOST_CHAIN_STAGES = 24;
/** As many as lie between two superblocks of a warp: what the kernel says of rounds of the ring needs them. */
export const LEAST_CHAIN_STAGES = 8;
/** The widest that has been run (70B). */
const MOST_HIDDEN = 8192;

/** Inputs and outputs of the linears of a chain. */
export interface ChainShape {
  readonly bits: GptqFormat["bits"];
  readonly group: KernelGroup;
  readonly hidden: number;
  /** Inputs of o; 0: only the residual stream goes on to q, k and v. */
  readonly attention: number;
  /** Outputs of gate, and of up; 0 where there is no o. */
  readonly intermediate: number;
  /** Outputs of q, k and v, or none where no layer follows. */
  readonly next: readonly number[];
}

/** Attention of a chain that has whole layers. */
export interface ChainHeads {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: 64 | 128;
}

/** What every block does of a linear, in parts: row tiles, or pairs of gate's and up's. */
export interface ChainShare {
  /** Parts that each block has. */
  readonly each: number;
  /** Parts left over: one more for each of the first blocks, whole or, where pieces are not zero, as the sum of pieces. */
  readonly more: number;
  /** Superblocks of parts left over that each block takes, and blocks that take one more; zero: they are not divided. */
  readonly piecesEach: number;
  readonly piecesMore: number;
}

export interface ChainLaunch {
  readonly name: string;
  readonly grid: number;
  readonly block: number;
  /** Dynamic shared memory, bytes. */
  readonly shared: number;
  readonly stages: number;
  /** Copies under way at a time, of weights and of keys and values. */
  readonly flying: number;
  readonly flyingTiles: number;
  /** Of a KV head's keys at most, where there is attention. */
  readonly parts: number;
  /** Places in shared memory. */
  readonly xAt: number;
  readonly spansAt: number;
  /** Bytes from the high digits of x to the low ones: rows half of the banks apart. */
  readonly xPitch: number;
  readonly partialAt: number;
  /** Of o, gate and up, down, and q, k, v. */
  readonly shares: readonly [ChainShare, ChainShare, ChainShare, ChainShare];
}

/** Bytes of each buffer; of the last three: where chains have attention. */
export interface ChainScratch {
  readonly sums: number;
  readonly gated: number;
  readonly pieces: number;
  readonly epochs: number;
  readonly heads: number;
  readonly gathered: number;
  readonly parts: number;
}

/** Whether there is a kernel for it, on cards whose shared memory holds what it needs. */
export function hasChainKernel({ bits, group, hidden, attention, intermediate, next }: ChainShape): boolean {
  return (
    bits === 4 &&
    group === 128 &&
    hidden <= MOST_HIDDEN &&
    [hidden, attention, intermediate].every((k) => k % SPAN === 0) &&
    next.every((n) => n % TILE_ROWS === 0)
  );
}

/** Attention of which there is a kernel, or null. */
export function chainHeads({ heads, kvHeads, headDim }: { heads: number; kvHeads: number; headDim: number }): ChainHeads | null {
  if ((headDim !== 64 && headDim !== 128) || kvHeads > MOST_ATTENDING || heads / kvHeads > MOST_GROUP) return null;
  return { heads, kvHeads, headDim };
}

/** Parts that a KV head's keys are cut into at most, each by a block of its own; 0: there are not enough blocks. */
export function mostParts({ kvHeads }: ChainHeads, blocks = MOST_ATTENDING): number {
  return Math.min(MOST_PARTS, Math.floor(Math.min(blocks, MOST_ATTENDING) / kvHeads));
}

/** AttentionMemory of linear_chain_attention.cuh: queries, the newest key and value; and behind them sums of each warp. */
function attentionBytes({ heads, kvHeads, headDim }: ChainHeads): { readonly own: number; readonly sums: number } {
  const group = heads / kvHeads;
  const queries = Math.ceil(group / HEADS_TOGETHER) * HEADS_TOGETHER * (headDim + 8) * 2;
  return { own: queries + 2 * headDim * 2, sums: WARPS * Math.min(group, HEADS_TOGETHER) * (headDim + 4) * 4 };
}

export interface ChainOptions {
  /** Of whole layers: their attention. */
  readonly heads?: ChainHeads;
  /** Copies of weights under way at a time. */
  readonly flying?: number;
}

/** @returns null where this card or these linears have no such kernel */
export function chainLaunch(
  shape: ChainShape,
  card: StreamingCard,
  { heads, flying = copiesUnderWay(shape) }: ChainOptions = {},
): ChainLaunch | null {
  const { bits, group, hidden, attention, intermediate, next } = shape;
  if (card.major !== 9 || !hasChainKernel(shape)) return null;
  const grid = card.multiprocessors;
  const parts = heads ? mostParts(heads, grid) : 0;
  if (heads && parts === 0) return null;
  const outputs = next.reduce((sum, n) => sum + n / TILE_ROWS, 0);
  const shares = [
    chainShare(hidden / TILE_ROWS, attention, grid),
    chainShare(intermediate / TILE_ROWS, hidden, grid),
    chainShare(hidden / TILE_ROWS, intermediate, grid),
    chainShare(outputs, hidden, grid),
  ] as const;
  if ((shares[0].each + 1) * TILE_ROWS > MOST_ROWS) return null;
  const inputs = [attention, hidden, intermediate, hidden];
  const superblocks = shares.map((share, i) => mostSuperblocks(share, inputs[i]!) * (i === 1 ? 2 : 1));
  // Two sums of each superblock, also of a part whose pieces others send.
  const pieces = shares.map((share, i) =>
    share.piecesEach + share.piecesMore > 0 ? Math.ceil(inputs[i]! / SUPERBLOCK) * (i === 1 ? 2 : 1) : 0,
  );
  const partial = (Math.max(...superblocks) + Math.max(...pieces)) * (SUPERBLOCK / UNIT) * TILE_ROWS * 4;
  const mostK = Math.max(hidden, attention, intermediate);
  // Units that end behind k read on: there is something to read.
  const xPitch = Math.ceil(mostK / SUPERBLOCK) * SUPERBLOCK + 64;
  const x = 2 * xPitch;
  const spans = Math.ceil(mostK / SUPERBLOCK) * (SUPERBLOCK / SPAN) * 8;
  // Heads come while results of q, k and v are still being made of partial sums.
  const attending = heads ? attentionBytes(heads) : { own: 0, sums: 0 };
  const partialBehind = Math.max(x + spans, attending.own);
  const behindRing = Math.max(partialBehind + partial, attending.own + attending.sums);
  const stageBytes = Math.ceil(superblockBytes(bits, group, SUPERBLOCK) / 128) * 128;
  const stages = Math.min(MOST_CHAIN_STAGES, Math.floor((card.sharedPerBlock - HEAD_BYTES - behindRing) / stageBytes));
  if (stages < leastStages(flying, heads !== undefined)) return null;
  const xAt = HEAD_BYTES + stages * stageBytes;
  return {
    name: heads
      ? `chain_layers_q${bits}_g${group}_d${heads.headDim}${heads.heads > heads.kvHeads ? "_grouped" : ""}`
      : `linear_chain_q${bits}_g${group}`,
    grid,
    block: CHAIN_BLOCK,
    shared: xAt + behindRing,
    stages,
    flying,
    flyingTiles: flying + MORE_TILES,
    parts,
    xAt,
    spansAt: xAt + x,
    partialAt: xAt + partialBehind,
    xPitch,
    shares,
  };
}

/**
 * Copies that a multiprocessor has under way. With more of them x takes longer to arrive, with fewer memory does not keep up; wide
 * models have more to copy between two meetings (H200, µs per layer at 4 and 5: 7B 28.0 and 28.8; before first units waited in registers
 * Llama-3-8B 33.4 and 34.1, 13B 45.1 both, 70B 116.4 and 114.3).
 */
export function copiesUnderWay({ hidden }: ChainShape): number {
  return hidden > 6144 ? 5 : 4;
}

/**
 * Stages below which a warp could take a round of the ring for another: of whole layers half of the sixteen tiles of keys from one of a
 * warp's to its next and of the copies under way beside it, for rounds are told apart by twos.
 */
function leastStages(flying: number, wholeLayers: boolean): number {
  return Math.max(LEAST_CHAIN_STAGES, flying + 1, wholeLayers ? Math.ceil((WARPS + flying + MORE_TILES) / 2) : 0);
}

/**
 * Deals out `parts` row tiles (or pairs) of `k` inputs. Dividing what is left over costs a meeting more: it is done
 * where the block with the most has a twentieth less to do.
 */
function chainShare(parts: number, k: number, blocks: number): ChainShare {
  const each = Math.floor(parts / blocks);
  const more = parts % blocks;
  const pieces = more * Math.ceil(k / SUPERBLOCK);
  const whole = { each, more, piecesEach: 0, piecesMore: 0 };
  const divided = { each, more, piecesEach: Math.floor(pieces / blocks), piecesMore: pieces % blocks };
  return mostSuperblocks(divided, k) < 0.95 * mostSuperblocks(whole, k) ? divided : whole;
}

/** Superblocks of the block that has the most, of one row tile of each part. */
function mostSuperblocks({ each, more, piecesEach, piecesMore }: ChainShare, k: number): number {
  const ofPart = Math.ceil(k / SUPERBLOCK);
  const pieces = piecesEach + (piecesMore > 0 ? 1 : 0);
  return each * ofPart + (pieces > 0 ? pieces : more > 0 ? ofPart : 0);
}

/** While keys and values are read nobody waits for x (H200, µs per layer of a 7B with 8,192 keys, by 0 and 2 copies more: 68.2 and 65.8). */
const MORE_TILES = 2;

/** Most blocks of a launch: no card that is known has more multiprocessors. */
export const MOST_CHAIN_BLOCKS = 256;
/** Blocks that take part in attention at most: the multiprocessors of an H100 or H200. */
const MOST_ATTENDING = 132;
/** A lane of a warp for each. */
const MOST_PARTS = 32;
/** Query heads of a KV head. */
const MOST_GROUP = 16;
/** Of them those that a warp takes. */
const HEADS_TOGETHER = 8;

/**
 * Bytes of packets and counters that chains of this shape need, on any card, zero before the first launch: packets of sixteen
 * bytes for four numbers of the residual stream or eight that go into down; of eight bytes for pieces; with attention those of
 * two numbers of q, k, v, of eight that heads gather, and of parts of keys.
 */
export function chainScratch({ hidden, attention, intermediate, next }: ChainShape, heads?: ChainHeads | null): ChainScratch {
  const superblocks = (k: number) => Math.ceil(k / SUPERBLOCK);
  const pieces = (tiles: number, inputs: number, each: number) =>
    Math.min(tiles, MOST_CHAIN_BLOCKS) * superblocks(inputs) * (SUPERBLOCK / UNIT) * each * TILE_ROWS * 8;
  return {
    sums: hidden * 4,
    gated: intermediate * 2,
    pieces: Math.max(
      pieces(hidden / TILE_ROWS, attention, 1),
      pieces(intermediate / TILE_ROWS, hidden, 2),
      pieces(hidden / TILE_ROWS, intermediate, 1),
      pieces(
        next.reduce((sum, n) => sum + n / TILE_ROWS, 0),
        hidden,
        1,
      ),
    ),
    epochs: MOST_CHAIN_BLOCKS * 16,
    heads: heads ? (heads.heads + 2 * heads.kvHeads) * heads.headDim * 4 : 0,
    gathered: heads ? heads.heads * heads.headDim * 2 : 0,
    parts: heads ? heads.heads * mostParts(heads) * (heads.headDim + 2) * 8 : 0,
  };
}

// How kernels/linear_chain.cu is launched: one block per multiprocessor, all of which must run at once, and what their
// shared memory is cut into. Pure arithmetic, so that the plan, the launch and the tests mean the same.

import type { GptqFormat } from "../../model/spec.js";
import type { StreamingCard } from "./linear-launch.js";
import { type KernelGroup, SUPERBLOCK, superblockBytes, TILE_ROWS } from "./quantized-layout.js";

const WARPS = 16;
const UNIT = 512;
const SPAN = 128;
/** Barriers and sums of squares, and the block's rows of the residual stream. */
const HEAD_BYTES = 768 + WARPS * 32 * 4;
const MOST_ROWS = WARPS * 32;
const MOST_STAGES = 24;
const FLYING = 5;
/** Fewer superblocks under way than warps ask for at once would make them wait for each other. */
const LEAST_STAGES = 8;
/** Of the residual stream that a warp can hold while it waits for the others' sums of squares. */
const MOST_HIDDEN = WARPS * SPAN * 4;

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

/** Row tiles of a block: every block has `each`, the first `more` blocks one more. Gate and up are counted in pairs. */
export interface ChainShare {
  readonly each: number;
  readonly more: number;
}

export interface ChainLaunch {
  readonly name: string;
  readonly grid: number;
  readonly block: number;
  /** Dynamic shared memory, bytes. */
  readonly shared: number;
  readonly stages: number;
  /** Copies under way at a time. */
  readonly flying: number;
  /** Places in shared memory. */
  readonly xAt: number;
  readonly spansAt: number;
  /** Bytes from the high digits of x to the low ones: rows half of the banks apart. */
  readonly xPitch: number;
  readonly partialAt: number;
  /** Of o, gate and up, down, and q, k, v. */
  readonly shares: readonly [ChainShare, ChainShare, ChainShare, ChainShare];
}

/** Bytes of each buffer. */
export interface ChainScratch {
  readonly sums: number;
  readonly gated: number;
  readonly pieces: number;
  readonly epochs: number;
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

/** @returns null where this card or these linears have no such kernel */
export function chainLaunch(shape: ChainShape, card: StreamingCard, mostStages = MOST_STAGES, flying = FLYING): ChainLaunch | null {
  const { bits, group, hidden, attention, intermediate, next } = shape;
  if (card.major !== 9 || !hasChainKernel(shape)) return null;
  const grid = card.multiprocessors;
  const share = (tiles: number): ChainShare => ({ each: Math.floor(tiles / grid), more: tiles % grid });
  const rows = hidden / TILE_ROWS;
  const shares = [
    share(rows),
    share(intermediate / TILE_ROWS),
    share(rows),
    share(next.reduce((sum, n) => sum + n / TILE_ROWS, 0)),
  ] as const;
  const most = ({ each, more }: ChainShare) => each + (more > 0 ? 1 : 0);
  if (most(shares[0]) * TILE_ROWS > MOST_ROWS) return null;
  const units = (tiles: number, k: number) => tiles * Math.ceil(k / UNIT);
  const partial =
    Math.max(
      units(most(shares[0]), attention),
      units(2 * most(shares[1]), hidden),
      units(most(shares[2]), intermediate),
      units(most(shares[3]), hidden),
    ) *
    TILE_ROWS *
    4;
  const mostK = Math.max(hidden, attention, intermediate);
  const xPitch = Math.ceil(mostK / SPAN) * SPAN + 64;
  const x = 2 * xPitch;
  const spans = Math.ceil(mostK / SPAN / 2) * 16;
  const stageBytes = Math.ceil(superblockBytes(bits, group, SUPERBLOCK) / 128) * 128;
  const stages = Math.min(mostStages, Math.floor((card.sharedPerBlock - HEAD_BYTES - x - spans - partial) / stageBytes));
  if (stages < LEAST_STAGES) return null;
  const xAt = HEAD_BYTES + stages * stageBytes;
  return {
    name: `linear_chain_q${bits}_g${group}`,
    grid,
    block: (WARPS + 1) * 32,
    shared: xAt + x + spans + partial,
    stages,
    flying,
    xAt,
    spansAt: xAt + x,
    partialAt: xAt + x + spans,
    xPitch,
    shares,
  };
}

/** Most blocks of a launch: no card that is known has more multiprocessors. */
const MOST_BLOCKS = 256;

/**
 * Bytes of packets and counters that chains of this shape need, on any card, zero before the first launch: packets of eight
 * bytes, one for each number of the residual stream, one for two numbers that go into down, and those of pieces.
 */
export function chainScratch({ hidden, attention, intermediate, next }: ChainShape): ChainScratch {
  const superblocks = (k: number) => Math.ceil(k / SUPERBLOCK);
  const pieces = (tiles: number, inputs: number, each: number) => Math.min(tiles, MOST_BLOCKS) * superblocks(inputs) * each * TILE_ROWS * 8;
  return {
    sums: hidden * 8,
    gated: intermediate * 4,
    pieces: Math.max(
      pieces(hidden / TILE_ROWS, attention, 1),
      pieces(intermediate / TILE_ROWS, hidden, 2),
      pieces(hidden / TILE_ROWS, intermediate, 1),
      pieces(next.reduce((sum, n) => sum + n / TILE_ROWS, 0), hidden, 1),
    ),
    epochs: MOST_BLOCKS * 4,
  };
}

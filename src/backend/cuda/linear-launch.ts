// How the streamed linears (kernels/linear_stream.cu) are launched: which kernel, how many blocks,
// how much shared memory and what it is cut into. Pure arithmetic, so that the plan, the launch
// and the tests mean the same.
//
// A block holds all of x if it can, else a slab of k at a time; what is left becomes the ring of
// superblocks under way. Up to half of a multiprocessor's shared memory is taken where that is
// enough for a good ring, so that the next kernel's blocks fit beside this one's and begin to read
// their weights before it has ended.

import type { GptqFormat } from "../../model/spec.js";
import { type KernelGroup, paddedInputs, SUPERBLOCK, superblockBytes, TILE_ROWS } from "./quantized-layout.js";

/** Most tokens of one launch, on cards with enough shared memory. */
export const MOST_STREAMED_ROWS = 32;
/** Weights that share x: q, k and v. */
export const MOST_SEGMENTS = 3;

const WARPS = 8;
const THREADS = WARPS * 32;
const SPAN = SUPERBLOCK / WARPS;
const BARRIER_BYTES = 256;
const PARTIAL_PITCH = TILE_ROWS + 4;
const MOST_STAGES = 16;
/** Fewer than these cannot keep memory busy while a block waits for x. */
const GOOD_STAGES = 4;
const LEAST_STAGES = 2;
/** What the driver keeps of a multiprocessor's shared memory per block. */
const RESERVED_SHARED = 1024;

/** Of a card: CU_DEVICE_ATTRIBUTE_… */
export interface StreamingCard {
  readonly multiprocessors: number;
  /** Compute capability, major number: from 9 on a warp of its own fills the ring. */
  readonly major: number;
  /** Most dynamic shared memory of a block (…_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN), bytes. */
  readonly sharedPerBlock: number;
}

export interface StreamShape {
  readonly bits: GptqFormat["bits"];
  readonly group: KernelGroup;
  /** Tokens, 1 … MOST_STREAMED_ROWS. */
  readonly rows: number;
  readonly inputs: number;
  /** Outputs of each segment, at most MOST_SEGMENTS; with `silu` gate's and up's, equal. */
  readonly outputs: readonly number[];
  /** The result is silu(first) · second. */
  readonly silu?: boolean;
}

export interface StreamLaunch {
  readonly name: string;
  readonly grid: number;
  readonly block: number;
  /** Dynamic shared memory, bytes. */
  readonly shared: number;
  /** Fields of StreamParams. */
  readonly slab: number;
  readonly stages: number;
}

/** What an experiment may set otherwise. */
export interface StreamChoices {
  readonly blocksPerMultiprocessor?: number;
  readonly stages?: number;
  readonly slab?: number;
  readonly teams?: 1 | 2;
}

/** Most rows, up to `rows`, that one launch of this shape takes on this card: more go in several launches. */
export function streamedRows(shape: StreamShape, card: StreamingCard): number {
  for (const rows of [shape.rows, 24, 16, 8, 4, 2])
    if (rows <= Math.min(shape.rows, MOST_STREAMED_ROWS) && fit({ ...shape, rows }, card, {})) return rows;
  return 1;
}

/**
 * The launch of one streamed linear, or of several that share x.
 *
 * @throws {RangeError} where the card's shared memory cannot hold so many rows, see streamedRows()
 */
export function streamLaunch(shape: StreamShape, card: StreamingCard, choices: StreamChoices = {}): StreamLaunch {
  const launch = fit(shape, card, choices);
  if (!launch)
    throw new RangeError(`${shape.rows} x ${shape.inputs} does not fit in ${card.sharedPerBlock} bytes of shared memory`);
  return launch;
}

function fit(shape: StreamShape, card: StreamingCard, choices: StreamChoices): StreamLaunch | null {
  const { bits, group, rows, inputs, outputs, silu = false } = shape;
  const { teams = 1, blocksPerMultiprocessor = 1 } = choices;
  const ring = card.major >= 9;
  const columns = rows <= 8 ? 8 : rows <= 16 ? 16 : 32;
  const tiles = (silu ? outputs.slice(0, 1) : outputs).reduce((sum, n) => sum + Math.ceil(n / TILE_ROWS), 0);
  const k = paddedInputs(inputs);
  const whole = Math.ceil(k / SUPERBLOCK) * SUPERBLOCK;
  const stageBytes = Math.ceil(superblockBytes(bits, group, SUPERBLOCK) / 128) * 128;

  const budget = Math.floor(card.sharedPerBlock / blocksPerMultiprocessor);
  const half = Math.floor(((card.sharedPerBlock + RESERVED_SHARED) / 2 - RESERVED_SHARED) / blocksPerMultiprocessor);
  const fewest = Math.min(tiles, card.multiprocessors * blocksPerMultiprocessor);
  // A ring worth having first; then, where partial results of too many tiles would have to be kept,
  // more blocks than run at once.
  for (const leastStages of ring ? [choices.stages ?? GOOD_STAGES, LEAST_STAGES] : [0])
    for (let grid = fewest; ; grid = Math.min(tiles, grid * 2)) {
      const blockTiles = Math.ceil(tiles / grid) * (silu ? 2 : 1);
      for (let slab = choices.slab ?? whole; slab > 0; slab -= SUPERBLOCK) {
        const width = Math.min(slab, Math.ceil(k / SPAN) * SPAN);
        const x = rows * (width * 2 + 64) + (width / group) * columns * 4;
        const partial = 2 * teams * WARPS * rows * PARTIAL_PITCH * 4;
        const kept = (slab < whole ? blockTiles : silu ? 1 : 0) * rows * TILE_ROWS * 4;
        const fixed = BARRIER_BYTES + x + partial + kept;
        const free = [half, budget].find((bytes) => bytes >= fixed + leastStages * stageBytes);
        if (free === undefined) continue;
        const stages = ring ? (choices.stages ?? Math.min(MOST_STAGES, Math.floor((free - fixed) / stageBytes))) : 0;
        return {
          name: `linear_stream_q${bits}_g${group}_m${columns}${teams === 2 ? "_t2" : ""}`,
          grid,
          block: teams * THREADS + (ring ? 32 : 0),
          shared: fixed + stages * stageBytes,
          slab,
          stages,
        };
      }
      if (grid === tiles) break;
    }
  return null;
}

// How the streamed linears (kernels/linear_stream.cu) are launched: which kernel, how many blocks,
// how much shared memory and what it is cut into. Pure arithmetic, so that the plan, the launch
// and the tests mean the same.
//
// A block holds all of x if it can, else a slab of k at a time; beside it lies the ring of
// superblocks under way. Up to four tokens run as two blocks per multiprocessor, whose registers
// they fill. More tokens run as one block, which takes more than half of the shared memory even
// where it needs less: with room for two, a kernel that begins before the one ahead has ended may
// get both its blocks onto the multiprocessor that is free first while others stay idle. The
// figures are in bench/NOTES.md, "CUDA decode linears".

import type { GptqFormat } from "../../../model/spec.js";
import { type KernelGroup, paddedInputs, SUPERBLOCK, superblockBytes, TILE_ROWS } from "../weights/quantized-layout.js";

/** Most tokens of the kernels that read weights as they are stored: beyond, tiles of many tokens are faster. */
export const MOST_STREAMED = 32;
/** Most tokens of one launch; more go in several, see streamedRows(). */
export const MOST_STREAMED_ROWS = 16;
/** Weights that share x: q, k and v. */
export const MOST_SEGMENTS = 3;

const WARPS = 8;
const SPAN = SUPERBLOCK / WARPS;
const BARRIER_BYTES = 256;
const PARTIAL_PITCH = TILE_ROWS + 4;
/** Superblocks under way per block. More have not been faster. */
const STAGES = 4;
/** Where shared memory is scarce. */
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
  readonly blocksPerMultiprocessor?: 1 | 2;
  readonly stages?: number;
  readonly slab?: number;
}

/** Most rows, up to `rows`, that one launch of this shape takes on this card. */
export function streamedRows(shape: StreamShape, card: StreamingCard): number {
  for (const rows of [Math.min(shape.rows, MOST_STREAMED_ROWS), 8, 4, 2])
    if (rows <= shape.rows && arrange({ ...shape, rows }, card, {})) return rows;
  return 1;
}

/**
 * The launch of one streamed linear, or of several that share x.
 *
 * @throws {RangeError} where the card's shared memory cannot hold so many rows, see streamedRows()
 */
export function streamLaunch(shape: StreamShape, card: StreamingCard, choices: StreamChoices = {}): StreamLaunch {
  const launch = shape.rows <= MOST_STREAMED_ROWS ? arrange(shape, card, choices) : null;
  if (!launch)
    throw new RangeError(
      `${shape.rows} rows of ${shape.inputs} do not fit one launch with ${card.sharedPerBlock} bytes of shared memory`,
    );
  return launch;
}

function arrange(shape: StreamShape, card: StreamingCard, choices: StreamChoices): StreamLaunch | null {
  const { bits, group, rows, inputs, outputs, silu = false } = shape;
  const ring = card.major >= 9;
  const columns = rows <= 8 ? 8 : 16;
  const teams = columns / 8;
  const k = paddedInputs(inputs);
  const whole = Math.ceil(k / SUPERBLOCK) * SUPERBLOCK;
  const tiles = (silu ? outputs.slice(0, 1) : outputs).reduce((sum, n) => sum + Math.ceil(n / TILE_ROWS), 0);
  const stageBytes = Math.ceil(superblockBytes(bits, group, SUPERBLOCK) / 128) * 128;
  // Two blocks of a multiprocessor hide each other's waiting.
  const { blocksPerMultiprocessor = rows <= 4 ? 2 : 1 } = choices;

  const attempt = (grid: number, slab: number, stages: number): StreamLaunch => {
    const width = Math.min(slab, Math.ceil(k / SPAN) * SPAN);
    const x = rows * (width * 2 + 64) + (width / group) * columns * 4;
    const partial = 2 * teams * WARPS * rows * PARTIAL_PITCH * 4;
    const blockTiles = Math.ceil(tiles / grid) * (silu ? 2 : 1);
    const kept = (slab < whole ? blockTiles : silu ? 1 : 0) * rows * TILE_ROWS * 4;
    return {
      name: `linear_stream_q${bits}_g${group}_m${columns}`,
      grid,
      block: (teams * WARPS + (ring ? 1 : 0)) * 32,
      shared: BARRIER_BYTES + x + partial + kept + stages * stageBytes,
      slab,
      stages,
    };
  };
  const half = Math.floor((card.sharedPerBlock + RESERVED_SHARED) / 2 - RESERVED_SHARED);
  const blocks = Math.min(tiles, card.multiprocessors);
  const stages = ring ? (choices.stages ?? STAGES) : 0;
  const least = ring ? Math.min(stages, LEAST_STAGES) : 0;
  const first = choices.slab ?? whole;
  if (blocksPerMultiprocessor === 2) {
    const launch = attempt(Math.min(tiles, 2 * card.multiprocessors), first, stages);
    if (launch.shared <= half) return launch;
  }
  const options = [
    [blocks, stages],
    [blocks, least],
    // Partial results of too many tiles to be kept: more blocks than run at once.
    [tiles, least],
  ] as const;
  for (const [grid, depth] of options)
    for (let slab = first; slab > 0; slab -= SUPERBLOCK) {
      const launch = attempt(grid, slab, depth);
      if (launch.shared <= card.sharedPerBlock) return { ...launch, shared: Math.max(launch.shared, half + 1) };
    }
  return null;
}

// How kernels/linear_half_ring.cu is launched: a large fp16 head of 2 to 8 tokens on Hopper, with the facts of its logits. Pure
// arithmetic, so that the plan, the launch and the tests mean the same.

import type { CardShape } from "../cards/device-context.js";

/** Threads: eight warps multiply, two threads copy, one warp finishes. */
const BLOCK = 352;
/** Barriers; sums of 16 rows, twice; six stages of 16 rows × 1024 inputs, whose rows lie 16 bytes further apart than they are long. */
const SHARED = 128 + 2 * 8 * 32 * 16 + 6 * 16 * (2048 + 16);
/** Inputs that there is a kernel for. */
const INPUTS: readonly number[] = [2048, 3072, 4096, 5120, 8192];
const LEAST_ROWS = 2;
export const MOST_RING_ROWS = 8;
/** Ids of a slice whose facts are found together. */
const SLICE = 16;
/** Smaller weights are read before a ring would be worth its beginning. */
const LEAST_BYTES = 32 * 1024 * 1024;

export interface HalfRingShape {
  /** Tokens. */
  readonly rows: number;
  readonly inputs: number;
  readonly outputs: number;
}

export interface HalfRingLaunch {
  readonly name: string;
  readonly grid: number;
  readonly block: number;
  /** Dynamic shared memory, bytes. */
  readonly shared: number;
}

/** Whether there is a kernel for this head, on cards that have one, and it is worth it. */
export function hasHalfRing({ inputs, outputs }: Pick<HalfRingShape, "inputs" | "outputs">): boolean {
  return INPUTS.includes(inputs) && outputs * inputs * 2 >= LEAST_BYTES;
}

/** Slices of a row of logits that this kernel makes. */
export function halfRingSlices(outputs: number): number {
  return Math.ceil(outputs / SLICE);
}

/** @returns null where there is no kernel for it, or others are as good */
export function halfRingLaunch({ rows, inputs, outputs }: HalfRingShape, card: CardShape): HalfRingLaunch | null {
  // It is in the image for 9.0 alone.
  if (card.major !== 9 || card.minor !== 0 || card.sharedPerBlock < SHARED) return null;
  if (rows < LEAST_ROWS || rows > MOST_RING_ROWS || !hasHalfRing({ inputs, outputs })) return null;
  const grid = Math.min(card.multiprocessors, halfRingSlices(outputs));
  return { name: `linear_half_ring_k${inputs}`, grid, block: BLOCK, shared: SHARED };
}

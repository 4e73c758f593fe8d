// How kernels/linear_head.cu is launched, which takes one token from the residual stream to the facts of its logits: how many
// blocks, and what their shared memory is cut into. Pure arithmetic, so that the plan, the launch and the tests mean the same.

import type { CardShape } from "../cards/device-context.js";

/** Threads: eight warps multiply, one thread copies, one warp finishes. */
const BLOCK = 320;
/** Barriers, sums of squares; the warps' sums of 32 rows, twice. */
const HEAD_BYTES = 512 + 2 * 8 * 32 * 4;
const ALIGNMENT = 128;
const MOST_STAGES = 16;
/** Fewer do not keep memory busy while one of them is read. */
const LEAST_STAGES = 3;
/** Inputs of a thread's cells: a kernel for each number of cells. */
const INPUTS_OF_CELLS = 2048;
const MOST_INPUTS = 4 * INPUTS_OF_CELLS;
/**
 * Shared memory of a multiprocessor that is left to choose_token (sample.cu), and what the driver keeps of it: so that this
 * kernel is there, and waits, before the head has ended.
 */
const LEFT_TO_NEXT = 18 * 1024;

/** Weights f16 [outputs, inputs]. */
export interface HeadShape {
  readonly inputs: number;
  readonly outputs: number;
}

export interface HeadLaunch {
  readonly name: string;
  readonly grid: number;
  readonly block: number;
  /** Dynamic shared memory, bytes. */
  readonly shared: number;
  /** Of the ring. */
  readonly stages: number;
}

/** Whether there is a kernel for it, on cards that have one. */
export function hasHeadKernel({ inputs }: HeadShape): boolean {
  return inputs % 8 === 0 && inputs <= MOST_INPUTS;
}

/** Ids of a slice whose facts are found together, on any card: HeadShape of linear_head.cu. */
export function headSlice(inputs: number): number {
  return cellsOf(inputs) === 1 ? 16 : 8;
}

/** Slices of a row of logits that this kernel makes. */
export function headSlices({ inputs, outputs }: HeadShape): number {
  return Math.ceil(outputs / headSlice(inputs));
}

/** @returns null where this card or this head has no such kernel */
export function headLaunch(shape: HeadShape, card: CardShape): HeadLaunch | null {
  // It is in the image for 9.0 alone.
  if (card.major !== 9 || card.minor !== 0 || !hasHeadKernel(shape)) return null;
  const { inputs } = shape;
  const stageBytes = rowsOfStage(inputs) * inputs * 2;
  const ringAt = HEAD_BYTES + Math.ceil((inputs * 2) / ALIGNMENT) * ALIGNMENT;
  const stages = Math.min(MOST_STAGES, Math.floor((card.sharedPerBlock - LEFT_TO_NEXT - ringAt) / stageBytes));
  if (stages < LEAST_STAGES) return null;
  return {
    name: `linear_head_k${cellsOf(inputs) * INPUTS_OF_CELLS}`,
    grid: Math.min(card.multiprocessors, headSlices(shape)),
    block: BLOCK,
    shared: ringAt + stages * stageBytes,
    stages,
  };
}

function cellsOf(inputs: number): number {
  return Math.ceil(inputs / INPUTS_OF_CELLS);
}

/** As many as lie in 32 KB or less. */
function rowsOfStage(inputs: number): number {
  return [8, 4, 2, 2][cellsOf(inputs) - 1]!;
}

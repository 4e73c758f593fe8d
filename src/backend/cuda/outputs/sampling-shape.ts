// Sizes of what choosing tokens on a card takes, as pure numbers: the planner counts them, the
// runtime uses them.

import type { RunShape } from "../../../memory/packing.js";
import type { ModelSpec } from "../../../model/spec.js";
import { logitRows } from "../steps/step-shape.js";
import { storageOf } from "../weights/linear-storage.js";
import { halfRingSlices, hasHalfRing, MOST_RING_ROWS } from "./half-ring-launch.js";
import { hasHeadKernel, headSlices } from "./head-launch.js";
import { ADJUSTMENT, SAMPLE_SLOT } from "./output-layouts.js";

/** Ids that one block of sample.cu's inspect_logits looks at, as the source says. */
const SLICE = 4096;
const SLICE_BYTES = 16;

/** Ids whose logits one sequence may change on the card; a request with more is sampled on the host. */
const ADJUSTMENTS_PER_SEQUENCE = 1024;

/** Slices of a row of logits, as inspect_logits makes them. */
export function slicesPerRow(vocabSize: number): number {
  return Math.ceil(vocabSize / SLICE);
}

/** Facts of the slices of a round of outputs; of one that linear_head.cu makes, and of few of linear_half_ring.cu, there are more. */
export function sliceBytes(spec: ModelSpec, run: RunShape): number {
  const head = { inputs: spec.head.in, outputs: spec.head.out };
  const ofOne = storageOf(spec.head).kind === "half" && hasHeadKernel(head) ? headSlices(head) : 0;
  const few = Math.min(logitRows(spec, run), MOST_RING_ROWS);
  const ofFew = storageOf(spec.head).kind === "half" && few > 1 && hasHalfRing(head) ? few * halfRingSlices(spec.head.out) : 0;
  return Math.max(logitRows(spec, run) * slicesPerRow(spec.vocabSize), ofOne, ofFew) * SLICE_BYTES;
}

/** One slot per row of a round; behind them the pool of adjustments and masks. */
export function slotBytes(spec: ModelSpec, run: RunShape): number {
  return Math.ceil((logitRows(spec, run) * SAMPLE_SLOT.bytes) / 256) * 256;
}

/** Room for the adjustments and the mask of one choice for every sequence. */
export function poolBytes(spec: ModelSpec, run: RunShape): number {
  return run.maxSequences * (ADJUSTMENTS_PER_SEQUENCE * ADJUSTMENT.bytes + Math.ceil(spec.vocabSize / 64) * 8);
}

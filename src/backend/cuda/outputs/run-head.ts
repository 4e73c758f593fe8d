// The end of a step for one token in one launch (kernels/linear_head.cu): final norm, logits, and their facts; and logits and facts of
// a few tokens, behind their norm (kernels/linear_half_ring.cu).

import type { KernelQueue } from "../launch/kernel-queue.js";
import { writeParameters } from "../launch/parameter-layout.js";
import type { PlacedLinear } from "../steps/stage.js";
import { halfRingLaunch, halfRingSlices } from "./half-ring-launch.js";
import { headLaunch, headSlices } from "./head-launch.js";
import { HALF_RING, HEAD } from "./output-layouts.js";

export interface HeadCall {
  /** f32 [rows, in] */
  readonly residual: bigint;
  /** i32 [1]: which row of it */
  readonly rows: bigint;
  /** f16 [in] */
  readonly norm: bigint;
  readonly eps: number;
  /** f32 [in]: what the norm makes of the row */
  readonly hiddenState: bigint;
  /** f32 [out] */
  readonly logits: bigint;
  /** SliceFacts [headSlices()] */
  readonly slices: bigint;
}

/** @returns slices of ids whose facts there are; null where the kernel cannot do it and nothing was launched */
export function runHead(queue: KernelQueue, linear: PlacedLinear, call: HeadCall): number | null {
  const { in: inputs, out: outputs } = linear.spec;
  const launch = headLaunch({ inputs, outputs }, queue.context.card);
  if (launch === null || linear.storage.kind !== "half") return null;
  const { name, grid, block, shared, stages } = launch;
  queue.run({
    ...{ family: "linear_head", name, grid: [grid], block, shared },
    parameters: writeParameters(HEAD, {
      ...{ weights: linear.weights, bias: linear.bias, ...call },
      ...{ n: outputs, k: inputs, stages },
    }),
    role: "head",
    bytes: outputs * inputs * 2,
  });
  return headSlices({ inputs, outputs });
}

/** What becomes of a few rows of x. */
export interface HeadRowsCall {
  /** f16 [count, in] */
  readonly x: bigint;
  readonly count: number;
  /** f32 [count, out] */
  readonly logits: bigint;
  /** SliceFacts [count, halfRingSlices()] */
  readonly slices: bigint;
}

/** @returns slices of ids of a row whose facts there are; null where the kernel cannot do it and nothing was launched */
export function runHeadRows(queue: KernelQueue, linear: PlacedLinear, call: HeadRowsCall): number | null {
  const { in: inputs, out: outputs } = linear.spec;
  const { x, count, logits, slices } = call;
  const launch = halfRingLaunch({ rows: count, inputs, outputs }, queue.context.card);
  if (launch === null || linear.storage.kind !== "half") return null;
  const { name, grid, block, shared } = launch;
  queue.run({
    ...{ family: "linear_half_ring", name, grid: [grid], block, shared },
    parameters: writeParameters(HALF_RING, {
      ...{ weights: linear.weights, bias: linear.bias, x, y: logits, slices, m: count, n: outputs },
    }),
    role: "head",
    bytes: outputs * inputs * 2,
  });
  return halfRingSlices(outputs);
}

// RMSNorm of rows of the residual stream in a launch of its own.

import type { KernelQueue } from "../launch/kernel-queue.js";
import { writeParameters } from "../launch/parameter-layout.js";
import { NORM } from "./batch-layouts.js";

export interface NormCall {
  /** f32 [rows, hidden] */
  readonly residual: bigint;
  /** i32 [count]: which rows, or 0n: the first ones, in order */
  readonly rows: bigint;
  readonly count: number;
  /** f16 [hidden] */
  readonly weight: bigint;
  readonly eps: number;
  /** f16 [count, hidden] */
  readonly y: bigint;
  /** f32 [count, hidden]: the same as y, or 0n: nobody wants it */
  readonly hiddenState: bigint;
  /** y in the order of codes, see kernels/code_order.cuh. */
  readonly ordered: boolean;
  readonly role: string;
}

/** Rows up to which a block of more threads, which reads its row once, is faster. */
const MOST_FEW_ROWS = 128;

export function runNorm(queue: KernelQueue, hidden: number, { count, ordered, role, ...call }: NormCall): void {
  const few = count <= MOST_FEW_ROWS && hidden % 4 === 0 && hidden <= 8192;
  queue.run({
    family: "pointwise",
    ...(few ? { name: "rms_norm_few", block: 512 } : { name: "rms_norm", block: 256 }),
    grid: [count],
    role,
    bytes: count * hidden * (call.hiddenState === 0n ? 6 : 10),
    parameters: writeParameters(NORM, { ...call, hidden, ordered: ordered ? 1 : 0, unused: 0 }),
  });
}

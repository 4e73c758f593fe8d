// Inputs of act-order linears in the order of their weights, for products that read whole rows of x.

import type { KernelQueue } from "../launch/kernel-queue.js";
import { writeParameters } from "../launch/parameter-layout.js";
import type { PlacedLinear } from "../steps/stage.js";
import { GATHER } from "./linear-layouts.js";

/** @returns where f16 [rows, in] lies in the order of the linear's weights: x itself where that is the same, else `gathered` */
export function gatherInputs(queue: KernelQueue, linear: PlacedLinear, x: bigint, rows: number, gathered: bigint): bigint {
  const { in: inputs } = linear.spec;
  if (linear.permutation === 0n) return x;
  queue.run({
    family: "linear_half",
    name: "gather_columns",
    grid: [Math.ceil(inputs / 256), rows],
    block: 256,
    parameters: writeParameters(GATHER, { x, permutation: linear.permutation, gathered, k: inputs, ldx: inputs }),
    role: "act-order",
    bytes: rows * inputs * 4,
  });
  return gathered;
}

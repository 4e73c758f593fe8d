// What ends a step on the last stage: final norm, head, and for every output its facts and the token that is chosen.

import type { KernelQueue } from "../launch/kernel-queue.js";
import { writeParameters } from "../launch/parameter-layout.js";
import { type LinearScratch, runLinear } from "../linears/run-linear.js";
import { runNorm } from "../linears/run-norm.js";
import type { ForwardModel } from "../steps/forward.js";
import type { PlacedLinear, Stage } from "../steps/stage.js";
import { FACT_BYTES } from "../steps/step-shape.js";
import { CHOOSE, INSPECT } from "./output-layouts.js";
import { type HeadCall, runHead, runHeadRows } from "./run-head.js";
import { slicesPerRow, slotBytes } from "./sampling-shape.js";

export interface OutputsCall {
  readonly count: number;
  /** i32 [count]: rows of the step that have outputs */
  readonly rows: bigint;
  /** i32 [count], see ChooseParams */
  readonly targets: bigint;
  /** i32 [count]: where what is chosen is fed to the step that follows, or 0n */
  readonly ids: bigint;
}

export function runOutputs(
  queue: KernelQueue,
  { spec, run }: Pick<ForwardModel, "spec" | "run">,
  stage: Stage,
  { count, rows, targets, ids }: OutputsCall,
  scratch: LinearScratch,
): void {
  const { norm, linear } = stage.head!;
  const call: HeadCall = {
    ...{ residual: stage.at("scratch.residual"), rows, norm, eps: spec.finalNorm.eps },
    ...{ hiddenState: stage.at("scratch.hiddenStates"), logits: stage.at("scratch.logits"), slices: stage.at("scratch.slices") },
  };
  const slicesPerRow =
    (count === 1 ? runHead(queue, linear, call) : null) ??
    runOneByOne(queue, linear, call, count, stage.at("scratch.finalNormed"), scratch);
  queue.run({
    family: "sample",
    name: "choose_token",
    role: "choice of tokens",
    bytes: count * FACT_BYTES,
    grid: [count],
    block: 512,
    parameters: writeParameters(CHOOSE, {
      ...{ logits: call.logits, slices: call.slices, slicesPerRow },
      targets,
      slots: stage.at("scratch.slots"),
      pool: stage.at("scratch.slots") + BigInt(slotBytes(spec, run)),
      facts: stage.at("scratch.facts"),
      ids,
      vocab: spec.vocabSize,
    }),
  });
}

/**
 * Norm, head and facts in launches of their own; head and facts of a few rows in one.
 *
 * @param x f16 [count, in], for what the norm makes
 * @returns slices of ids of a row
 */
function runOneByOne(
  queue: KernelQueue,
  linear: PlacedLinear,
  { residual, rows, norm: weight, eps, hiddenState, logits, slices }: HeadCall,
  count: number,
  x: bigint,
  scratch: LinearScratch,
): number {
  const { in: inputs, out: vocab } = linear.spec;
  runNorm(queue, inputs, { residual, rows, count, weight, eps, y: x, hiddenState, ordered: false, role: "final norm" });
  const few = runHeadRows(queue, linear, { x, count, logits, slices });
  if (few !== null) return few;
  runLinear(queue, linear, { x, y: logits, rows: count, f32: true, residual: 0n, role: "head" }, scratch);
  const each = slicesPerRow(vocab);
  queue.run({
    family: "sample",
    name: "inspect_logits",
    role: "facts of logits",
    bytes: count * vocab * 4,
    grid: [each, count],
    block: 256,
    parameters: writeParameters(INSPECT, { logits, slices, slicesPerRow: each, vocab }),
  });
  return each;
}

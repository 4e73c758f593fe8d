// What ends a step on the last stage: final norm, head, and for every output its facts and the token that is chosen.

import type { ForwardModel } from "./forward.js";
import { CHOOSE, INSPECT, writeParameters } from "./kernel-parameters.js";
import type { KernelQueue } from "./kernel-queue.js";
import { type LinearScratch, runLinear } from "./run-linear.js";
import { runNorm } from "./run-norm.js";
import { slicesPerRow, slotBytes } from "./sampling-shape.js";
import type { Stage } from "./stage.js";
import { FACT_BYTES } from "./step-shape.js";

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
  const x = stage.at("scratch.finalNormed");
  const logits = stage.at("scratch.logits");
  runNorm(queue, spec.hiddenSize, {
    ...{ residual: stage.at("scratch.residual"), rows, count, weight: norm, eps: spec.finalNorm.eps },
    ...{ y: x, hiddenState: stage.at("scratch.hiddenStates"), ordered: false, role: "final norm" },
  });
  runLinear(queue, linear, { x, y: logits, rows: count, f32: true, residual: 0n, role: "head" }, scratch);
  const slices = { slices: stage.at("scratch.slices"), slicesPerRow: slicesPerRow(spec.vocabSize) };
  queue.run({
    family: "sample",
    name: "inspect_logits",
    role: "facts of logits",
    bytes: count * spec.vocabSize * 4,
    grid: [slices.slicesPerRow, count],
    block: 256,
    parameters: writeParameters(INSPECT, { logits, ...slices, vocab: spec.vocabSize }),
  });
  queue.run({
    family: "sample",
    name: "choose_token",
    role: "choice of tokens",
    bytes: count * FACT_BYTES,
    grid: [count],
    block: 512,
    parameters: writeParameters(CHOOSE, {
      logits,
      ...slices,
      targets,
      slots: stage.at("scratch.slots"),
      pool: stage.at("scratch.slots") + BigInt(slotBytes(spec, run)),
      facts: stage.at("scratch.facts"),
      ids,
      vocab: spec.vocabSize,
    }),
  });
}

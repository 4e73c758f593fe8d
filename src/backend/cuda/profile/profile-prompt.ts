// A profile of a step that takes a whole prompt: timed through the host, as one graph, and kernel by kernel.

import { PAGE_TOKENS } from "../../../memory/plan.js";
import { GREEDY } from "../../../sampling/parameters.js";
import type { BatchEntry } from "../../backend.js";
import { PREFILL_ROWS } from "../attention/attention-launch.js";
import type { ProfiledModel } from "./profile-decode.js";
import { readRate, replayTime, type StepProfile, timeKernels } from "./step-profile.js";

/** Steps through the host that a profile takes the median of. */
const PROFILED_STEPS = 9;
const REPLAYS = 4;

/** @param tokens of a prompt that nothing is in the cache of, in one step */
export async function profilePrompt(model: ProfiledModel, tokens: number): Promise<StepProfile> {
  const { launcher, overlap, plan, step, settle } = model;
  const batch = [promptEntry(tokens, plan.cacheGroups)];
  const times: number[] = [];
  for (let round = 0; round < PROFILED_STEPS; round++) {
    const begun = performance.now();
    await step(batch);
    times.push(performance.now() - begun);
  }
  await settle();
  // What the last step was told lies where the kernels look for it.
  const shape = { rows: tokens, decodeRows: 0, tiles: Math.ceil(tokens / PREFILL_ROWS), entries: 1, outputs: 1 };
  let stepMicroseconds = 0;
  const kernels = launcher.stages.flatMap((stage, i) => {
    const context = stage.context.use();
    const graph = context.capture(() => launcher.decode(i, shape));
    stepMicroseconds += replayTime(context, graph, REPLAYS);
    context.destroyGraph(graph);
    return timeKernels(context, overlap, launcher.decodeCalls(i, shape), 0);
  });
  const first = launcher.stages[0]!;
  return {
    ...{ rows: tokens, depth: 0, prompt: true, stepMicroseconds, kernels },
    throughHostMicroseconds: times.sort((a, b) => a - b)[PROFILED_STEPS >> 1]! * 1e3,
    readRate: readRate(first.context.use(), first.arena, first.bytes),
  };
}

function promptEntry(tokens: number, cacheGroups: readonly unknown[]): BatchEntry {
  const sample = { parameters: GREEDY, history: new Int32Array(0), promptLength: tokens, seed: 0, position: tokens, mask: null };
  return {
    tokens: Int32Array.from({ length: tokens }, (_, i) => 1 + ((i * 31) % 997)),
    ...{ start: 0, ropeLength: tokens },
    pages: cacheGroups.map(() => Int32Array.from({ length: Math.ceil(tokens / PAGE_TOKENS) }, (_, page) => page)),
    outputs: [{ index: tokens - 1, sample, target: null, topLogprobs: 0, logits: false, hidden: false }],
  };
}

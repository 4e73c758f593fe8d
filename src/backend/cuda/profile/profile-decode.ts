// A profile of a model's decode steps: timed through the host, as one graph, and kernel by kernel.

import { PAGE_TOKENS, type Plan } from "../../../memory/plan.js";
import { GREEDY } from "../../../sampling/parameters.js";
import type { BatchEntry, Output } from "../../backend.js";
import { InvalidBatchError } from "../../errors.js";
import type { CapturedGraphs } from "../steps/captured-graphs.js";
import type { Stage } from "../steps/stage.js";
import type { StepLauncher } from "../steps/step-launcher.js";
import { readRate, replayTime, type StepProfile, timeKernels } from "./step-profile.js";

export interface ProfiledModel {
  readonly plan: Plan;
  readonly launcher: StepLauncher;
  readonly graphs: CapturedGraphs;
  /** Kernels may begin before those before them have ended. */
  readonly overlap: boolean;
  step(batch: readonly BatchEntry[]): Promise<Output[][]>;
  /** Resolves when nothing is queued any more. */
  settle(): Promise<void>;
}

/** @throws {InvalidBatchError} where such steps are not captured */
export async function profileDecode(model: ProfiledModel, rows: number, depth: number): Promise<StepProfile> {
  const { launcher, graphs, overlap } = model;
  const bucket = graphs.bucketOf(idleBatch(model.plan, rows, depth));
  if (bucket === null) throw new InvalidBatchError(`decode steps of ${rows} sequences are not captured here`);
  const throughHostMicroseconds = await timeThroughHost(model, rows, depth);
  const shape = { rows: bucket, decodeRows: bucket, tiles: 0, entries: bucket, outputs: bucket };
  let stepMicroseconds = 0;
  const kernels = launcher.stages.flatMap((stage, i) => {
    const context = stage.context.use();
    stepMicroseconds += replayTime(context, graphs.graph(shape, i), 32);
    const kvBytes = cacheBytes(model.plan, stage, depth) * rows;
    return timeKernels(context, overlap, launcher.decodeCalls(i, shape), kvBytes / Math.max(1, stage.layers.length));
  });
  const first = launcher.stages[0]!;
  return {
    ...{ rows, depth, stepMicroseconds, throughHostMicroseconds, kernels },
    readRate: readRate(first.context.use(), first.arena, first.bytes),
  };
}

/** Median of some steps, microseconds. */
async function timeThroughHost({ plan, step, settle }: ProfiledModel, rows: number, depth: number): Promise<number> {
  let batch = idleBatch(plan, rows, depth);
  const times: number[] = [];
  for (let round = 0; round < PROFILED_STEPS; round++) {
    const begun = performance.now();
    const answers = await step(batch);
    times.push(performance.now() - begun);
    // One page further where there is one: as sequences go on.
    if (Math.floor((depth + round + 1) / PAGE_TOKENS) > Math.floor(depth / PAGE_TOKENS)) break;
    batch = batch.map((entry, i) => nextEntry(entry, answers[i]![0]!.id!));
  }
  await settle();
  return times.sort((a, b) => a - b)[times.length >> 1]! * 1e3;
}

/** Keys and values of a stage that a step at this depth reads of one sequence. */
function cacheBytes(plan: Plan, stage: Stage, depth: number): number {
  return stage.layers.reduce((sum, { spec }) => {
    const seen = Math.min(depth + 1, spec.attention.window ?? Number.POSITIVE_INFINITY);
    const tokens = plan.cacheGroups.find(({ layers }) => layers.includes(spec.index))!.pages * PAGE_TOKENS;
    return sum + ((2 * stage.size(`layers.${spec.index}.kv.keys`)) / tokens) * seen;
  }, 0);
}

/** Steps through the host that a profile takes the median of. */
const PROFILED_STEPS = 64;

function nextEntry(entry: BatchEntry, id: number): BatchEntry {
  const [output] = entry.outputs;
  const sample = { ...output!.sample!, position: output!.sample!.position + 1 };
  const start = entry.start + 1;
  return { ...entry, tokens: Int32Array.of(id), start, ropeLength: start + 1, outputs: [{ ...output!, sample }] };
}

/** One greedy token for each of `rows` sequences at position `depth`, in pages of their own. */
function idleBatch({ cacheGroups }: Plan, rows: number, depth: number): BatchEntry[] {
  const width = Math.floor(depth / PAGE_TOKENS) + 1;
  return Array.from({ length: rows }, (_, row) => ({
    tokens: Int32Array.of(1 + row),
    start: depth,
    ropeLength: depth + 1,
    pages: cacheGroups.map(({ pagesPerSequence }) => {
      const own = Math.min(width, pagesPerSequence);
      return Int32Array.from({ length: width }, (_, i) => row * own + (i % own));
    }),
    outputs: [
      {
        index: 0,
        sample: { parameters: GREEDY, history: new Int32Array(0), promptLength: 0, seed: 0, position: depth + 1, mask: null },
        ...{ target: null, topLogprobs: 0, logits: false, hidden: false },
      },
    ],
  }));
}

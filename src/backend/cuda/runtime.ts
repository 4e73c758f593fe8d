// A loaded model on GPUs: one step at a time, from a batch to its outputs. Decode steps whose
// shape was captured are replayed as a graph per stage; other steps are launched directly.

import { setImmediate as nextTurn } from "node:timers/promises";
import { PAGE_TOKENS, type Plan } from "../../memory/plan.js";
import type { ModelSpec } from "../../model/spec.js";
import { GREEDY } from "../../sampling/parameters.js";
import type { BatchEntry, Output, PageCopy, Runtime } from "../backend.js";
import { checkBatch } from "../batch-check.js";
import { InvalidBatchError } from "../errors.js";
import { checkCopies, PageRanges } from "../page-copies.js";
import { capturedBytes } from "./captured-steps.js";
import type { DeviceContext, PinnedMemory } from "./device-context.js";
import { CudaError } from "./driver/errors.js";
import { CudaRuntimeEndedError } from "./errors.js";
import { Forward, type ForwardModel, type StepShape } from "./forward.js";
import { type KernelCall, KernelQueue } from "./kernel-queue.js";
import { finishOutput, isAnswered, needsLogits } from "./outputs.js";
import { followingStep, isExpected } from "./run-ahead.js";
import type { Stage } from "./stage.js";
import { linkStages, type StageLink } from "./stage-link.js";
import { type ComposedStep, halfTurns, type WantedOutput } from "./step-input.js";
import { StepLane } from "./step-lane.js";
import { readRate, recordCalls, replayTime, type StepProfile, timeKernels } from "./step-profile.js";
import { decodeBuckets, logitRows, stepTokens } from "./step-shape.js";

export interface RuntimeParts {
  readonly plan: Plan;
  readonly spec: ModelSpec;
  /** In the order of the layers. */
  readonly stages: readonly Stage[];
  /** Every context once: those that are closed with it. */
  readonly contexts: readonly DeviceContext[];
  readonly draft: Runtime | null;
  readonly model: ForwardModel;
  /** Hidden states may cross directly between cards that can reach each other. */
  readonly peers: boolean;
  /** Decode steps are captured. */
  readonly graphs: boolean;
  /** Kernels may begin before those before them have ended. */
  readonly overlap: boolean;
}

export class CudaRuntime implements Runtime {
  readonly plan: Plan;
  readonly spec: ModelSpec;
  readonly draft: Runtime | null;
  readonly #parts: RuntimeParts;
  readonly #links: readonly StageLink[];
  readonly #queues: readonly KernelQueue[];
  /** Per stage. */
  readonly #pages: readonly PageRanges[];
  readonly #buckets: readonly number[];
  /** Per bucket, without and with adapters, one graph per stage. */
  readonly #graphs = new Map<string, { readonly shape: StepShape; readonly graphs: readonly bigint[] }>();
  /** Of each stage's share for captured steps, bytes that are taken. */
  #capturedBytes: readonly number[];
  readonly #lanes: readonly [StepLane, StepLane];
  readonly #logitMemory: PinnedMemory;
  readonly #hiddenMemory: PinnedMemory;
  /** Queued behind the step before, in the hope that it is asked for. */
  #ahead: StepAhead | null = null;
  /** The last step failed somewhere: what it queued may still be going on. */
  #unsettled = false;
  #running: Promise<unknown> | null = null;
  #ended: Error | null = null;

  constructor(parts: RuntimeParts) {
    const { plan, spec, stages } = parts;
    const { run } = plan;
    this.plan = plan;
    this.spec = spec;
    this.draft = parts.draft;
    this.#parts = parts;
    this.#queues = stages.map(({ context }) => new KernelQueue(context, parts.overlap));
    this.#pages = stages.map(({ layout }) => new PageRanges(layout, plan.cacheGroups));
    this.#buckets = decodeBuckets(run);
    this.#capturedBytes = stages.map(() => 0);
    const rowBytes = spec.hiddenSize * 4;
    this.#links = stages.slice(1).map((stage, i) => linkStages(stages[i]!, stage, parts.peers, stepTokens(run) * rowBytes));
    const last = this.#last.context.use();
    const outputs = logitRows(spec, run);
    this.#lanes = [new StepLane(spec, run, last), new StepLane(spec, run, last)];
    this.#logitMemory = last.allocatePinned(outputs * spec.vocabSize * 4);
    this.#hiddenMemory = last.allocatePinned(outputs * rowBytes);
    this.#uploadFrequencies();
  }

  /** Runs every kind of step once on idle rows, so that all kernels are loaded. */
  async warmUp(): Promise<void> {
    const { run } = this.plan;
    const tokens = stepTokens(run);
    for (const adapted of this.spec.adapters ? [false, true] : [false]) {
      for (const rows of new Set([tokens, Math.min(tokens, 9), 1]))
        await this.#tryOut({
          rows,
          decodeRows: 0,
          tiles: Math.ceil(rows / 64),
          entries: 1,
          outputs: Math.min(rows, logitRows(this.spec, run)),
          adapted,
        });
    }
    for (const shape of this.#decodeShapes()) await this.#tryOut(shape);
  }

  /** Captures decode steps and runs each once. */
  async captureSteps(): Promise<void> {
    if (this.#parts.graphs) for (const shape of this.#decodeShapes()) this.#capture(shape);
    for (const { shape } of this.#graphs.values()) {
      const [lane] = this.#lanes;
      lane.send(this.#stages, lane.input.writeIdle(shape));
      lane.sendSlots(this.#last, [], shape.outputs);
      this.#replay(shape);
      await this.#finish(lane);
    }
  }

  async step(batch: readonly BatchEntry[]): Promise<Output[][]> {
    if (this.#ended) throw this.#ended;
    if (this.#running) throw new InvalidBatchError("a step is running already");
    checkBatch(batch, this.plan, this.spec);
    const outputs = batch.reduce((sum, entry) => sum + entry.outputs.length, 0);
    if (outputs > stepTokens(this.plan.run))
      throw new InvalidBatchError(`the batch wants ${outputs} outputs, the plan allows ${stepTokens(this.plan.run)}`);
    const run = this.#run(batch);
    this.#running = run;
    try {
      return await run;
    } catch (error) {
      this.#unsettled = true;
      this.#note(error);
      throw error;
    } finally {
      this.#running = null;
    }
  }

  /** The copies are queued behind the last step and before the next, on every card's own stream. */
  async copyPages(copies: readonly PageCopy[]): Promise<void> {
    if (this.#ended) throw this.#ended;
    if (this.#running) throw new InvalidBatchError("a step is running already");
    checkCopies(copies, this.plan);
    try {
      for (const [i, { context, arena }] of this.#stages.entries()) {
        context.use();
        for (const { from, to, bytes } of copies.flatMap((copy) => this.#pages[i]!.of(copy)))
          context.copyInside(arena + BigInt(to), arena + BigInt(from), bytes);
      }
    } catch (error) {
      this.#note(error);
      throw error;
    }
  }

  /**
   * Measures a decode step of `rows` sequences that hold `depth` tokens each; what lies in the KV
   * cache is lost.
   */
  async profile(rows: number, depth: number): Promise<StepProfile> {
    let batch = idleBatch(this.plan, rows, depth);
    const bucket = this.#bucketOf(batch);
    if (bucket === null) throw new InvalidBatchError(`decode steps of ${rows} sequences are not captured here`);
    const times: number[] = [];
    for (let round = 0; round < PROFILED_STEPS; round++) {
      const begun = performance.now();
      const answers = await this.step(batch);
      times.push(performance.now() - begun);
      // One page further where there is one: as sequences go on.
      if (Math.floor((depth + round + 1) / PAGE_TOKENS) > Math.floor(depth / PAGE_TOKENS)) break;
      batch = batch.map((entry, i) => nextEntry(entry, answers[i]![0]!.id!));
    }
    if (this.#ahead) await this.#finish(this.#ahead.lane, false);
    this.#ahead = null;
    const throughHostMicroseconds = times.sort((a, b) => a - b)[times.length >> 1]! * 1e3;
    const shape = { rows: bucket, decodeRows: bucket, tiles: 0, entries: bucket, outputs: bucket };
    let stepMicroseconds = 0;
    const kernels = this.#stages.flatMap((stage, i) => {
      const context = stage.context.use();
      stepMicroseconds += replayTime(context, this.#graphs.get(graphKey({ rows: bucket }))!.graphs[i]!, 32);
      const calls = this.#launches(i, shape);
      const kvBytes = stage.layers.reduce((sum, { spec }) => {
        const seen = Math.min(depth + 1, spec.attention.window ?? Number.POSITIVE_INFINITY);
        const tokens = this.plan.cacheGroups.find(({ layers }) => layers.includes(spec.index))!.pages * PAGE_TOKENS;
        return sum + ((2 * stage.size(`layers.${spec.index}.kv.keys`)) / tokens) * seen * rows;
      }, 0);
      return timeKernels(context, this.#parts.overlap, calls, ({ role }) =>
        role === "attention" ? kvBytes / Math.max(1, stage.layers.length) : 0,
      );
    });
    const first = this.#stages[0]!;
    return {
      ...{ rows, depth, stepMicroseconds, throughHostMicroseconds, kernels },
      readRate: readRate(first.context.use(), first.arena, first.bytes),
    };
  }

  async dispose(): Promise<void> {
    await this.draft?.dispose();
    await this.#running?.catch(() => {});
    this.#ended ??= new CudaRuntimeEndedError("the model has been given back");
    for (const context of this.#parts.contexts) context.close();
  }

  /** After such an error whoever asks next hears the same: the engine's process has to end. */
  #note(error: unknown): void {
    if (error instanceof CudaError && error.code === "CUDA_POISONED") this.#ended = error;
  }

  async #run(batch: readonly BatchEntry[]): Promise<Output[][]> {
    if (this.#unsettled) for (const context of this.#parts.contexts) context.use().synchronize();
    this.#unsettled = false;
    const expected = this.#ahead;
    this.#ahead = null;
    if (expected && isExpected(batch, expected.batch, expected.ids)) return this.#decode(batch, expected);
    if (expected) await this.#finish(expected.lane, false);
    const bucket = this.#bucketOf(batch);
    if (bucket !== null) return this.#decode(batch, this.#queueDecode(this.#lanes[0], batch, bucket));
    return this.#runDirectly(batch);
  }

  /** Answers a captured decode step that is queued; the next one is queued meanwhile. */
  async #decode(batch: readonly BatchEntry[], queued: QueuedDecode): Promise<Output[][]> {
    const { lane, step, chosen } = queued;
    // The card's choices must be the answers, and the ids get from the last stage to the first by themselves only where that is one.
    const next = this.#stages.length === 1 && chosen.every(Boolean) ? followingStep(batch) : null;
    const bucket = next && this.#bucketOf(next);
    const other = this.#lanes[lane === this.#lanes[0] ? 1 : 0];
    const ahead = next && bucket !== null ? { ...this.#queueDecode(other, next, bucket, false), batch: next } : null;
    const answers: Output[][] = batch.map(() => []);
    await this.#finish(lane, false);
    if (ahead && !step.outputs.every(({ request }, i) => isAnswered(request, chosen[i]!, queued.facts, i))) {
      // Somebody has to look at the logits, and they are the next step's by now: once more, alone.
      await this.#finish(ahead.lane, false);
      const again = this.#queueDecode(lane, batch, step.shape.rows);
      await this.#finish(lane, false);
      await this.#answer(again, answers);
      return answers;
    }
    await this.#answer(queued, answers);
    if (ahead) this.#ahead = { ...ahead, ids: answers.map(([output]) => output?.id ?? null) };
    return answers;
  }

  /** @param withIds false: the ids are those that the step before will choose */
  #queueDecode(lane: StepLane, batch: readonly BatchEntry[], bucket: number, withIds = true): QueuedDecode {
    const step = lane.input.write(batch, bucket);
    lane.send(this.#stages, step, withIds);
    const chosen = lane.sendSlots(this.#last, step.outputs, bucket);
    this.#replay(step.shape);
    const facts = this.#fetch(lane, step.outputs, chosen);
    lane.mark();
    return { lane, step, chosen, facts };
  }

  async #runDirectly(batch: readonly BatchEntry[]): Promise<Output[][]> {
    const answers: Output[][] = batch.map(() => []);
    const [lane] = this.#lanes;
    const step = lane.input.write(batch, null);
    lane.send(this.#stages, step);
    this.#launchLayers(step.shape);
    const rows = logitRows(this.spec, this.plan.run);
    for (let first = 0; first < step.outputs.length; first += rows) {
      const outputs = step.outputs.slice(first, first + rows);
      const chosen = lane.sendSlots(this.#last, outputs, outputs.length);
      this.#forward(this.#stages.length - 1, step.shape).outputs(first, outputs.length);
      const facts = this.#fetch(lane, outputs, chosen);
      await this.#finish(lane);
      await this.#answer({ lane, step: { ...step, outputs }, chosen, facts }, answers);
    }
    if (step.outputs.length === 0) await this.#finish(lane);
    return answers;
  }

  /** The smallest captured decode step that holds the batch, or `null`. */
  #bucketOf(batch: readonly BatchEntry[]): number | null {
    const decodes = batch.every(({ tokens, outputs }) => tokens.length === 1 && outputs.length <= 1);
    if (!decodes || batch.every(({ outputs }) => outputs.length === 0)) return null;
    return this.#buckets.find((rows) => rows >= batch.length && this.#graphs.has(graphKey({ rows }))) ?? null;
  }

  #launchLayers(shape: StepShape): void {
    this.#stages.forEach((stage, i) => {
      if (i > 0) this.#links[i - 1]!.cross(shape.rows * this.spec.hiddenSize * 4);
      stage.context.use();
      this.#forward(i, shape).layers();
    });
  }

  #forward(stage: number, shape: StepShape): Forward {
    return new Forward(this.#parts.model, this.#stages[stage]!, this.#queues[stage]!, shape);
  }

  #decodeShapes(): StepShape[] {
    const kinds = this.spec.adapters ? [false, true] : [false];
    return kinds.flatMap((adapted) =>
      this.#buckets.map((rows) => ({ rows, decodeRows: rows, tiles: 0, entries: rows, outputs: rows, adapted })),
    );
  }

  /** Unless the driver would take more for it than the plan says: then such steps are launched kernel by kernel. */
  #capture(shape: StepShape): void {
    const bytes = this.#stages.map((_, i) => capturedBytes(this.#launches(i, shape).length));
    if (bytes.some((more, i) => this.#capturedBytes[i]! + more > this.#stages[i]!.layout.captured)) return;
    this.#capturedBytes = this.#capturedBytes.map((taken, i) => taken + bytes[i]!);
    const graphs = this.#stages.map((stage, i) => stage.context.use().capture(() => this.#runStage(i, shape, this.#queues[i]!)));
    this.#graphs.set(graphKey(shape), { shape, graphs });
  }

  /** Everything that a captured step launches on a stage. */
  #runStage(i: number, shape: StepShape, queue: KernelQueue): void {
    const forward = new Forward(this.#parts.model, this.#stages[i]!, queue, shape);
    forward.layers();
    if (i === this.#stages.length - 1) forward.outputs(0, shape.outputs);
  }

  #launches(i: number, shape: StepShape): KernelCall[] {
    return recordCalls(this.#stages[i]!.context.use(), (queue) => this.#runStage(i, shape, queue));
  }

  #replay(shape: StepShape): void {
    this.#graphs.get(graphKey(shape))!.graphs.forEach((graph, i) => {
      if (i > 0) this.#links[i - 1]!.cross(shape.rows * this.spec.hiddenSize * 4);
      this.#stages[i]!.context.use().launchGraph(graph);
    });
  }

  async #tryOut(shape: StepShape): Promise<void> {
    const [lane] = this.#lanes;
    lane.send(this.#stages, lane.input.writeIdle(shape));
    this.#launchLayers(shape);
    lane.sendSlots(this.#last, [], shape.outputs);
    this.#forward(this.#stages.length - 1, shape).outputs(0, shape.outputs);
    await this.#finish(lane);
  }

  /** Asks for what the last stage finds out about a round of outputs. */
  #fetch(lane: StepLane, wanted: readonly WantedOutput[], chosen: readonly boolean[]): DataView {
    const stage = this.#last;
    const facts = lane.fetchFacts(stage, wanted.length);
    const { vocabSize, hiddenSize } = this.spec;
    wanted.forEach(({ request }, i) => {
      if (needsLogits(request, chosen[i]!))
        stage.context.copyOut(this.#logits(i), stage.at("scratch.logits") + BigInt(i * vocabSize * 4));
      if (request.hidden) stage.context.copyOut(this.#hidden(i), stage.at("scratch.hiddenStates") + BigInt(i * hiddenSize * 4));
    });
    return facts;
  }

  /** Finishes a round of outputs that has arrived. */
  async #answer({ lane, step, chosen, facts }: QueuedDecode, answers: Output[][]): Promise<void> {
    const stage = this.#last;
    const { vocabSize } = this.spec;
    for (const [i, { entry, output, request }] of step.outputs.entries())
      answers[entry]![output] = await finishOutput(request, chosen[i]!, facts, i, {
        vocabSize,
        hidden: () => this.#hidden(i),
        logits: async () => {
          if (!needsLogits(request, chosen[i]!)) {
            // Something is wrong with them: they are fetched to say what.
            stage.context.use().copyOut(this.#logits(i), stage.at("scratch.logits") + BigInt(i * vocabSize * 4));
            await this.#finish(lane);
          }
          return this.#logits(i);
        },
      });
  }

  #logits(i: number): Float32Array {
    const { vocabSize } = this.spec;
    return new Float32Array(this.#logitMemory.buffer, i * vocabSize * 4, vocabSize);
  }

  #hidden(i: number): Float32Array {
    const { hiddenSize } = this.spec;
    return new Float32Array(this.#hiddenMemory.buffer, i * hiddenSize * 4, hiddenSize);
  }

  /**
   * Waits for the last stage, which waits for all others; other requests are heard meanwhile.
   *
   * @param mark everything that is queued belongs to it; false: what the lane marked before
   */
  async #finish(lane: StepLane, mark = true): Promise<void> {
    if (mark) lane.mark();
    while (!lane.isDone()) await nextTurn();
  }

  #uploadFrequencies(): void {
    for (const stage of this.#stages) {
      if (stage.layers.length === 0) continue;
      stage.context.use().copyIn(stage.at("scratch.frequencies"), halfTurns(this.spec, 1));
      // Weights were staged in scratch: the counters behind which the decode attention's blocks meet must begin at zero.
      stage.context.fill(stage.at("scratch.partials"), 0, stage.size("scratch.partials"));
      stage.context.synchronize();
    }
  }

  get #stages(): readonly Stage[] {
    return this.#parts.stages;
  }

  get #last(): Stage {
    return this.#parts.stages.at(-1)!;
  }
}

/** A captured decode step on its way. */
interface QueuedDecode {
  readonly lane: StepLane;
  readonly step: ComposedStep;
  /** Per output, whether the card's choice is its answer. */
  readonly chosen: readonly boolean[];
  readonly facts: DataView;
}

interface StepAhead extends QueuedDecode {
  readonly batch: readonly BatchEntry[];
  /** That it was fed, as far as they were chosen. */
  readonly ids: readonly (number | null)[];
}

/** Captured decode steps differ in nothing else. */
function graphKey({ rows, adapted = false }: Pick<StepShape, "rows" | "adapted">): string {
  return `${rows}${adapted ? " with adapters" : ""}`;
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

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
import type { DeviceContext, PinnedMemory } from "./device-context.js";
import { CudaError } from "./driver/errors.js";
import { CudaRuntimeEndedError } from "./errors.js";
import { Forward, type ForwardModel, type StepShape } from "./forward.js";
import { KernelQueue } from "./kernel-queue.js";
import { finishOutput, needsLogits } from "./outputs.js";
import { SampleSlots } from "./sample-slots.js";
import { poolBytes, slotBytes } from "./sampling-shape.js";
import type { Stage } from "./stage.js";
import { linkStages, type StageLink } from "./stage-link.js";
import { type ComposedStep, halfTurns, StepInput, type WantedOutput } from "./step-input.js";
import { readRate, recordCalls, replayTime, type StepProfile, timeKernels } from "./step-profile.js";
import { decodeBuckets, FACT_BYTES, largestInput, logitRows, stepTokens } from "./step-shape.js";

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
  readonly #input: StepInput;
  readonly #inputMemory: PinnedMemory;
  readonly #factMemory: PinnedMemory;
  readonly #logitMemory: PinnedMemory;
  readonly #hiddenMemory: PinnedMemory;
  readonly #slots: SampleSlots;
  readonly #slotMemory: PinnedMemory;
  readonly #done: bigint;
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
    const rowBytes = spec.hiddenSize * 4;
    this.#links = stages.slice(1).map((stage, i) => linkStages(stages[i]!, stage, parts.peers, stepTokens(run) * rowBytes));
    const last = this.#last.context.use();
    const outputs = logitRows(spec, run);
    this.#inputMemory = last.allocatePinned(largestInput(spec, run).bytes);
    this.#factMemory = last.allocatePinned(outputs * FACT_BYTES);
    this.#logitMemory = last.allocatePinned(outputs * spec.vocabSize * 4);
    this.#hiddenMemory = last.allocatePinned(outputs * rowBytes);
    this.#slotMemory = last.allocatePinned(slotBytes(spec, run) + poolBytes(spec, run));
    this.#slots = new SampleSlots(spec.vocabSize, this.#slotMemory.buffer, slotBytes(spec, run));
    this.#done = last.createEvent();
    this.#input = new StepInput(spec, run, this.#inputMemory.buffer);
    this.#uploadFrequencies();
  }

  /** Runs every kind of step once on idle rows, so that all kernels are loaded, then captures decode steps. */
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
      for (const rows of this.#buckets) {
        const shape = { rows, decodeRows: rows, tiles: 0, entries: rows, outputs: rows, adapted };
        await this.#tryOut(shape);
        if (this.#parts.graphs) this.#capture(shape);
      }
    }
    for (const { shape } of this.#graphs.values()) {
      this.#send(this.#input.writeIdle(shape));
      this.#sendSlots([], shape.outputs);
      this.#replay(shape);
      await this.#finish();
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
    const batch = idleBatch(this.plan, rows, depth);
    const bucket = this.#bucketOf(batch);
    if (bucket === null) throw new InvalidBatchError(`decode steps of ${rows} sequences are not captured here`);
    const times: number[] = [];
    for (let round = 0; round < 64; round++) {
      const begun = performance.now();
      await this.step(batch);
      times.push(performance.now() - begun);
    }
    const throughHostMicroseconds = times.sort((a, b) => a - b)[times.length >> 1]! * 1e3;
    const shape = { rows: bucket, decodeRows: bucket, tiles: 0, entries: bucket, outputs: bucket };
    let stepMicroseconds = 0;
    const kernels = this.#stages.flatMap((stage, i) => {
      const context = stage.context.use();
      stepMicroseconds += replayTime(context, this.#graphs.get(graphKey({ rows: bucket }))!.graphs[i]!, 32);
      const calls = recordCalls(context, (queue) => {
        const forward = new Forward(this.#parts.model, stage, queue, shape);
        forward.layers();
        if (i === this.#stages.length - 1) forward.outputs(0, bucket);
      });
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
    const answers: Output[][] = batch.map(() => []);
    const bucket = this.#bucketOf(batch);
    const step = this.#input.write(batch, bucket);
    this.#send(step);
    if (bucket !== null) {
      const chosen = this.#sendSlots(step.outputs, bucket);
      this.#replay(step.shape);
      await this.#collect(step.outputs, chosen, answers);
      return answers;
    }
    this.#launchLayers(step.shape);
    const rows = logitRows(this.spec, this.plan.run);
    for (let first = 0; first < step.outputs.length; first += rows) {
      const wanted = step.outputs.slice(first, first + rows);
      const chosen = this.#sendSlots(wanted, wanted.length);
      this.#forward(this.#stages.length - 1, step.shape).outputs(first, wanted.length);
      await this.#collect(wanted, chosen, answers);
    }
    if (step.outputs.length === 0) await this.#finish();
    return answers;
  }

  /** The smallest captured decode step that holds the batch, or `null`. */
  #bucketOf(batch: readonly BatchEntry[]): number | null {
    const decodes = batch.every(({ tokens, outputs }) => tokens.length === 1 && outputs.length <= 1);
    if (!decodes || batch.every(({ outputs }) => outputs.length === 0)) return null;
    return this.#buckets.find((rows) => rows >= batch.length && this.#graphs.has(graphKey({ rows }))) ?? null;
  }

  /** Copies the step's inputs to every stage. */
  #send({ bytes }: ComposedStep): void {
    const view = new Uint8Array(this.#inputMemory.buffer, 0, bytes);
    for (const stage of this.#stages) stage.context.use().copyIn(stage.at("scratch.input"), view);
  }

  /** Tells the last stage how to choose the tokens of a round. @returns which of its choices are answers */
  #sendSlots(wanted: readonly WantedOutput[], rows: number): readonly boolean[] {
    const requests = wanted.map(({ request }) => request);
    const { bytes, chosen } = this.#slots.write(requests, rows);
    const stage = this.#last;
    stage.context.use().copyIn(stage.at("scratch.slots"), new Uint8Array(this.#slotMemory.buffer, 0, bytes));
    return chosen;
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

  #capture(shape: StepShape): void {
    const graphs = this.#stages.map((stage, i) =>
      stage.context.use().capture(() => {
        const forward = this.#forward(i, shape);
        forward.layers();
        if (i === this.#stages.length - 1) forward.outputs(0, shape.outputs);
      }),
    );
    this.#graphs.set(graphKey(shape), { shape, graphs });
  }

  #replay(shape: StepShape): void {
    this.#graphs.get(graphKey(shape))!.graphs.forEach((graph, i) => {
      if (i > 0) this.#links[i - 1]!.cross(shape.rows * this.spec.hiddenSize * 4);
      this.#stages[i]!.context.use().launchGraph(graph);
    });
  }

  async #tryOut(shape: StepShape): Promise<void> {
    this.#send(this.#input.writeIdle(shape));
    this.#launchLayers(shape);
    this.#sendSlots([], shape.outputs);
    this.#forward(this.#stages.length - 1, shape).outputs(0, shape.outputs);
    await this.#finish();
  }

  /** Reads what the last stage found out about a round of outputs, and finishes them. */
  async #collect(wanted: readonly WantedOutput[], chosen: readonly boolean[], answers: Output[][]): Promise<void> {
    const { vocabSize, hiddenSize } = this.spec;
    const stage = this.#last;
    const context = stage.context.use();
    const facts = new DataView(this.#factMemory.buffer, 0, wanted.length * FACT_BYTES);
    context.copyOut(facts, stage.at("scratch.facts"));
    const logits = (i: number) => new Float32Array(this.#logitMemory.buffer, i * vocabSize * 4, vocabSize);
    const hidden = (i: number) => new Float32Array(this.#hiddenMemory.buffer, i * hiddenSize * 4, hiddenSize);
    wanted.forEach(({ request }, i) => {
      if (needsLogits(request, chosen[i]!)) context.copyOut(logits(i), stage.at("scratch.logits") + BigInt(i * vocabSize * 4));
      if (request.hidden) context.copyOut(hidden(i), stage.at("scratch.hiddenStates") + BigInt(i * hiddenSize * 4));
    });
    await this.#finish();
    for (const [i, { entry, output, request }] of wanted.entries())
      answers[entry]![output] = await finishOutput(request, chosen[i]!, facts, i, {
        vocabSize,
        hidden: () => hidden(i),
        logits: async () => {
          if (!needsLogits(request, chosen[i]!)) {
            // Something is wrong with them: they are fetched to say what.
            this.#last.context.use().copyOut(logits(i), stage.at("scratch.logits") + BigInt(i * vocabSize * 4));
            await this.#finish();
          }
          return logits(i);
        },
      });
  }

  /** Waits for the last stage, which waits for all others; other requests are heard meanwhile. */
  async #finish(): Promise<void> {
    const { context } = this.#last;
    context.use().record(this.#done);
    while (!context.driver.eventDone(this.#done, { device: context.id })) await nextTurn();
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

/** Captured decode steps differ in nothing else. */
function graphKey({ rows, adapted = false }: Pick<StepShape, "rows" | "adapted">): string {
  return `${rows}${adapted ? " with adapters" : ""}`;
}

/** One greedy token for each of `rows` sequences at position `depth`, in pages of their own as far as there are enough. */
function idleBatch({ cacheGroups }: Plan, rows: number, depth: number): BatchEntry[] {
  const width = Math.floor(depth / PAGE_TOKENS) + 1;
  return Array.from({ length: rows }, (_, row) => ({
    tokens: Int32Array.of(1 + row),
    start: depth,
    ropeLength: depth + 1,
    pages: cacheGroups.map(({ pages }) => Int32Array.from({ length: width }, (_, i) => (row * width + i) % pages)),
    outputs: [
      {
        index: 0,
        sample: { parameters: GREEDY, history: new Int32Array(0), promptLength: 0, seed: 0, position: depth + 1, mask: null },
        ...{ target: null, topLogprobs: 0, logits: false, hidden: false },
      },
    ],
  }));
}

// A loaded model on the CPU: arenas, threads, and the steps they run.

import type { Plan } from "../../memory/plan.js";
import type { RegionIndex } from "../../memory/regions.js";
import type { ModelSpec } from "../../model/spec.js";
import type { BatchEntry, Output, PageCopy, Runtime } from "../backend.js";
import { checkBatch } from "../batch-check.js";
import { InvalidBatchError } from "../errors.js";
import { checkCopies, PageRanges } from "../page-copies.js";
import { CpuRuntimeEndedError } from "./errors.js";
import type { HugePages } from "./huge-pages.js";
import { type OutputViews, readOutput, sortOutputs, type Wanted } from "./outputs.js";
import { logitRows, stepTokens } from "./scratch.js";
import { stepWords } from "./step-message.js";
import { StepWriter } from "./step-writer.js";
import type { Team } from "./team.js";

/** What load() has made. */
export interface LoadedModel {
  readonly plan: Plan;
  readonly spec: ModelSpec;
  readonly regions: RegionIndex;
  readonly memories: readonly WebAssembly.Memory[];
  readonly team: Team;
  /** Compute threads. */
  readonly threads: number;
  readonly hugePages: HugePages;
  readonly draft: Runtime | null;
}

export class CpuRuntime implements Runtime {
  readonly plan: Plan;
  readonly spec: ModelSpec;
  readonly draft: Runtime | null;
  /** Compute threads. */
  readonly threads: number;
  /** Whether they were asked for, or why not. */
  readonly hugePages: HugePages;
  readonly #team: Team;
  /** Dropped by dispose(): the memories go with them. */
  #state: { writer: StepWriter; views: OutputViews; arenas: readonly Uint8Array[]; pages: PageRanges } | null;
  #running: Promise<unknown> | null = null;

  constructor(model: LoadedModel) {
    const { plan, spec, regions, memories } = model;
    const stage = plan.devices.find((device) => device.stage)!.stage!;
    this.plan = plan;
    this.spec = spec;
    this.draft = model.draft;
    this.threads = model.threads;
    this.hugePages = model.hugePages;
    this.#team = model.team;
    this.#state = {
      writer: new StepWriter(spec, stage, regions, memories, stepWords(spec, plan.run)),
      views: outputViews(model),
      arenas: memories.map(({ buffer }) => new Uint8Array(buffer)),
      pages: new PageRanges(stage, plan.cacheGroups),
    };
  }

  async step(batch: readonly BatchEntry[]): Promise<Output[][]> {
    if (!this.#state) throw new CpuRuntimeEndedError("the model has been given back");
    if (this.#running) throw new InvalidBatchError("a step is running already");
    checkBatch(batch, this.plan, this.spec);
    const run = this.#run(batch, this.#state);
    this.#running = run;
    try {
      return await run;
    } finally {
      this.#running = null;
    }
  }

  /** The compute threads sleep between steps, and see what was copied when the next one wakes them. */
  async copyPages(copies: readonly PageCopy[]): Promise<void> {
    if (!this.#state) throw new CpuRuntimeEndedError("the model has been given back");
    if (this.#running) throw new InvalidBatchError("a step is running already");
    checkCopies(copies, this.plan);
    const { arenas, pages } = this.#state;
    for (const copy of copies)
      for (const { arena, from, to, bytes } of pages.of(copy)) arenas[arena]!.copyWithin(to, from, from + bytes);
  }

  async dispose(): Promise<void> {
    await this.#running?.catch(() => {});
    this.#state = null;
    await Promise.all([this.#team.end(), this.draft?.dispose()]);
  }

  async #run(batch: readonly BatchEntry[], { writer, views }: { writer: StepWriter; views: OutputViews }): Promise<Output[][]> {
    const answers: Output[][] = batch.map(() => []);
    const { quiet, looked } = sortOutputs(batch);
    writer.writeBatch(batch);
    let ran = false;
    const command = async (wanted: readonly Wanted[], look: boolean) => {
      writer.writeOutputs(wanted.map(({ row }) => row));
      if (ran) writer.outputsOnly();
      await this.#team.step();
      ran = true;
      wanted.forEach((one, i) => {
        answers[one.entry]![one.output] = readOutput(one, views, i, look ? i : null);
      });
    };
    for (const some of pieces(quiet, stepTokens(this.plan.run))) await command(some, false);
    for (const some of pieces(looked, logitRows(this.plan.run))) await command(some, true);
    if (!ran) await command([], false);
    return answers;
  }
}

function outputViews({ plan, spec, regions, memories }: LoadedModel): OutputViews {
  const rows = logitRows(plan.run);
  const { arena, offset } = regions.get("scratch.logits");
  const { buffer } = memories[arena]!;
  const sums = regions.get("scratch.outputs", arena);
  const hidden = regions.get("scratch.normed", arena);
  return {
    logits: new Float32Array(buffer, offset, rows * spec.vocabSize),
    hidden: new Float32Array(buffer, hidden.offset, rows * spec.hiddenSize),
    sums: new DataView(buffer, sums.offset, sums.bytes),
    vocabSize: spec.vocabSize,
    hiddenSize: spec.hiddenSize,
  };
}

function pieces<T>(items: readonly T[], most: number): T[][] {
  const result: T[][] = [];
  for (let from = 0; from < items.length; from += most) result.push(items.slice(from, from + most));
  return result;
}

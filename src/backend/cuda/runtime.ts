// A loaded model on GPUs: one step at a time, from a batch to its outputs.

import type { Plan } from "../../memory/plan.js";
import type { ModelSpec } from "../../model/spec.js";
import type { BatchEntry, Output, PageCopy, Runtime } from "../backend.js";
import { checkBatch } from "../batch-check.js";
import { InvalidBatchError } from "../errors.js";
import { checkCopies, PageRanges } from "../page-copies.js";
import { PREFILL_ROWS } from "./attention/attention-launch.js";
import type { DeviceContext } from "./cards/device-context.js";
import { CudaError } from "./driver/errors.js";
import { CudaRuntimeEndedError } from "./errors.js";
import { LEAST_PROMPT_ROWS, loadPromptKernels } from "./linears/run-prompt.js";
import { type ProfiledModel, profileDecode } from "./profile/profile-decode.js";
import { profilePrompt } from "./profile/profile-prompt.js";
import type { StepProfile } from "./profile/step-profile.js";
import { CapturedGraphs } from "./steps/captured-graphs.js";
import { rowsAtOnceOf } from "./steps/rows-at-once.js";
import type { Stage } from "./steps/stage.js";
import { halfTurns } from "./steps/step-input.js";
import { type LauncherParts, StepLauncher } from "./steps/step-launcher.js";
import { StepRunner } from "./steps/step-runner.js";
import { logitRows, stepTokens } from "./steps/step-shape.js";

export interface RuntimeParts extends LauncherParts {
  readonly plan: Plan;
  readonly spec: ModelSpec;
  /** Every context once: those that are closed with it. */
  readonly contexts: readonly DeviceContext[];
  readonly draft: Runtime | null;
  /** Decode steps are captured. */
  readonly graphs: boolean;
}

/** Numbers of rows for which linears go to kernels of their own, see run-linear.ts. */
const WARMED_ROWS = [65, 33, 17, 9, 8, 1] as const;

export class CudaRuntime implements Runtime {
  readonly plan: Plan;
  readonly spec: ModelSpec;
  readonly draft: Runtime | null;
  readonly rowsAtOnce: Runtime["rowsAtOnce"];
  readonly #parts: RuntimeParts;
  readonly #launcher: StepLauncher;
  readonly #graphs: CapturedGraphs;
  readonly #runner: StepRunner;
  /** Per stage. */
  readonly #pages: readonly PageRanges[];
  /** The last step failed somewhere: what it queued may still be going on. */
  #unsettled = false;
  #running: Promise<unknown> | null = null;
  #ended: Error | null = null;

  constructor(parts: RuntimeParts) {
    const { plan, spec, stages } = parts;
    this.plan = plan;
    this.spec = spec;
    this.draft = parts.draft;
    this.rowsAtOnce = rowsAtOnceOf(
      spec,
      stages.map(({ context }) => context.card),
    );
    this.#parts = parts;
    this.#launcher = new StepLauncher(parts);
    this.#graphs = new CapturedGraphs(spec, plan.run, this.#launcher);
    this.#runner = new StepRunner(spec, plan.run, this.#launcher, this.#graphs);
    this.#pages = stages.map(({ layout }) => new PageRanges(layout, plan.cacheGroups));
    this.#uploadFrequencies();
  }

  /** Runs every kind of step once on idle rows, so that all kernels are loaded. */
  async warmUp(): Promise<void> {
    const { run } = this.plan;
    for (const stage of this.#parts.stages) {
      const linears = stage.linears().map(([, linear]) => linear);
      if (stepTokens(run) >= LEAST_PROMPT_ROWS) loadPromptKernels(stage.context.use(), linears);
    }
    const tokens = stepTokens(run);
    for (const adapted of this.spec.adapters ? [false, true] : [false])
      for (const rows of new Set([tokens, ...WARMED_ROWS.map((each) => Math.min(tokens, each))]))
        await this.#runner.tryOut({
          rows,
          decodeRows: 0,
          tiles: Math.ceil(rows / PREFILL_ROWS),
          entries: 1,
          outputs: Math.min(rows, logitRows(this.spec, run)),
          adapted,
        });
    for (const shape of this.#graphs.shapes) await this.#runner.tryOut(shape);
  }

  /** Captures decode steps and runs each once. */
  async captureSteps(): Promise<void> {
    if (!this.#parts.graphs) return;
    for (const shape of this.#graphs.shapes) if (this.#graphs.capture(shape)) await this.#runner.tryOutCaptured(shape);
  }

  async step(batch: readonly BatchEntry[]): Promise<Output[][]> {
    this.#assertIdle();
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
    this.#assertIdle();
    checkCopies(copies, this.plan);
    try {
      for (const [i, { context, arena }] of this.#parts.stages.entries()) {
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
    return profileDecode(this.#profiled(), rows, depth);
  }

  /** The same of a step that takes a prompt of so many tokens. */
  async profilePrompt(tokens: number): Promise<StepProfile> {
    return profilePrompt(this.#profiled(), tokens);
  }

  #profiled(): ProfiledModel {
    const step = (batch: readonly BatchEntry[]) => this.step(batch);
    const settle = () => this.#runner.settle();
    const { plan } = this;
    const { overlap } = this.#parts;
    return { plan, launcher: this.#launcher, graphs: this.#graphs, overlap, step, settle };
  }

  async dispose(): Promise<void> {
    await this.draft?.dispose();
    await this.#running?.catch(() => {});
    this.#ended ??= new CudaRuntimeEndedError("the model has been given back");
    for (const context of this.#parts.contexts) context.close();
  }

  #assertIdle(): void {
    if (this.#ended) throw this.#ended;
    if (this.#running) throw new InvalidBatchError("a step is running already");
  }

  /** After such an error whoever asks next hears the same: the engine's process has to end. */
  #note(error: unknown): void {
    if (error instanceof CudaError && error.code === "CUDA_POISONED") this.#ended = error;
  }

  async #run(batch: readonly BatchEntry[]): Promise<Output[][]> {
    if (this.#unsettled) {
      this.#runner.forget();
      for (const context of this.#parts.contexts) context.use().synchronize();
    }
    this.#unsettled = false;
    return this.#runner.run(batch);
  }

  #uploadFrequencies(): void {
    for (const stage of this.#stages()) {
      stage.context.use().copyIn(stage.at("scratch.frequencies"), halfTurns(this.spec, 1));
      // Weights were staged in scratch: the counters behind which blocks meet and what they send must begin at zero, pieces as if none had been left.
      for (const [name, byte] of [
        ["scratch.partials", 0],
        ["scratch.chain", 0],
        ["scratch.chainRows", 0],
        ["scratch.pieces", 0xff],
      ] as const)
        if (stage.has(name)) stage.context.fill(stage.at(name), byte, stage.size(name));
      stage.context.synchronize();
    }
  }

  /** Those with layers. */
  #stages(): Stage[] {
    return this.#parts.stages.filter(({ layers }) => layers.length > 0);
  }
}

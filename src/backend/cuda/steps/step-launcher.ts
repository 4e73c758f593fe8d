// A step over all of a model's stages: its launches one by one, and across from each stage to the next.

import { chainRows } from "../chains/run-chain-rows.js";
import { type KernelCall, KernelQueue } from "../launch/kernel-queue.js";
import { CARRIED_BYTES, leavesFactors } from "../linears/deferred-norms.js";
import { linearScratchOf } from "../linears/run-linear.js";
import { recordCalls } from "../profile/step-profile.js";
import { Forward, type ForwardModel, type StepShape } from "./forward.js";
import type { Stage } from "./stage.js";
import { linkStages, type StageLink } from "./stage-link.js";
import { stepTokens } from "./step-shape.js";

export interface LauncherParts {
  /** In the order of the layers. */
  readonly stages: readonly Stage[];
  readonly model: ForwardModel;
  /** Hidden states may cross directly between cards that can reach each other. */
  readonly peers: boolean;
  /** Kernels may begin before those before them have ended. */
  readonly overlap: boolean;
  /** Linears of few tokens between two attentions may go in one launch. */
  readonly chains: boolean;
}

export class StepLauncher {
  readonly stages: readonly Stage[];
  readonly #model: ForwardModel;
  readonly #chains: boolean;
  readonly #queues: readonly KernelQueue[];
  readonly #links: readonly StageLink[];
  /** From the last stage to the first; `null`: they are one. */
  readonly #idLink: StageLink | null;

  constructor({ stages, model, peers, overlap, chains }: LauncherParts) {
    const { spec, run } = model;
    this.stages = stages;
    this.#model = model;
    this.#chains = chains;
    this.#queues = stages.map(({ context }) => new KernelQueue(context, overlap));
    const most = stepTokens(run) * spec.hiddenSize * 4 + CARRIED_BYTES;
    this.#links = stages.slice(1).map((stage, i) => linkStages(stages[i]!, stage, "scratch.residual", most, peers));
    this.#idLink = stages.length > 1 ? linkStages(this.last, stages[0]!, "scratch.input", run.maxSequences * 4, peers) : null;
  }

  get last(): Stage {
    return this.stages.at(-1)!;
  }

  /** The layers of all stages; `onStage` does a stage's part where it is not to be launched kernel by kernel. */
  layers(shape: StepShape, onStage = (i: number) => this.#forward(i, shape, this.#queues[i]!).layers()): void {
    this.stages.forEach((stage, i) => {
      const values = this.#model.spec.hiddenSize + (this.#carried(i, shape) ? 1 : 0); // of a row
      if (i > 0) this.#links[i - 1]!.cross(shape.rows * values * 4);
      stage.context.use();
      onStage(i);
    });
  }

  /** What the last stage makes of a step's outputs. */
  outputs(shape: StepShape, first: number, count: number): void {
    this.#forward(this.stages.length - 1, shape, this.#queues.at(-1)!).outputs(first, count);
  }

  /** The ids that a decode step has chosen are those that the next one is fed: the input block begins with them. */
  feedChosenIds(rows: number): void {
    this.#idLink?.cross(rows * 4);
  }

  /** Everything that a decode step launches on a stage. */
  decode(i: number, shape: StepShape, queue = this.#queues[i]!): void {
    const forward = this.#forward(i, shape, queue);
    forward.layers();
    if (i === this.stages.length - 1) forward.outputs(0, shape.outputs);
  }

  /** The same, told instead of launched. */
  decodeCalls(i: number, shape: StepShape): KernelCall[] {
    return recordCalls(this.stages[i]!.context.use(), (queue) => this.decode(i, shape, queue));
  }

  #forward(stage: number, shape: StepShape, queue: KernelQueue): Forward {
    return new Forward(this.#model, this.stages[stage]!, queue, shape, this.#chains, this.#carried(stage, shape));
  }

  /** Whether the stage finds factors for norms that are put off behind the residual stream: from the last one before it that has layers. */
  #carried(stage: number, shape: StepShape): boolean {
    const before = this.stages.slice(0, stage).findLastIndex(({ layers }) => layers.length > 0);
    if (before < 0) return false;
    const last = this.stages[before]!;
    if (this.#chains && chainRows(last, shape)?.takes(last.layers.at(-1)!)) return true;
    const step = { ...shape, hidden: this.#model.spec.hiddenSize };
    return leavesFactors(this.#queues[before]!, last, step, linearScratchOf(last));
  }
}

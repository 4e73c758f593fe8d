// What a step's outputs come to: asked of the last stage when they are queued, finished on the host when
// they have arrived.

import type { ModelSpec } from "../../../model/spec.js";
import type { Output } from "../../backend.js";
import type { PinnedMemory } from "../cards/device-context.js";
import { finishOutput, isAnswered, needsLogits } from "../outputs/outputs.js";
import type { Stage } from "./stage.js";
import type { WantedOutput } from "./step-input.js";
import type { StepLane } from "./step-lane.js";

/** A round of outputs on its way. */
export interface QueuedOutputs {
  /** `null`: an idle row. */
  readonly wanted: readonly (WantedOutput | null)[];
  /** Per output, whether the card's choice is its answer. */
  readonly chosen: readonly boolean[];
  readonly facts: DataView;
}

export class StepOutputs {
  readonly #spec: ModelSpec;
  /** The last one. */
  readonly #stage: Stage;
  readonly #logitMemory: PinnedMemory;
  readonly #hiddenMemory: PinnedMemory;

  /** @param rows of a round */
  constructor(spec: ModelSpec, stage: Stage, rows: number) {
    this.#spec = spec;
    this.#stage = stage;
    const context = stage.context.use();
    this.#logitMemory = context.allocatePinned(rows * spec.vocabSize * 4);
    this.#hiddenMemory = context.allocatePinned(rows * spec.hiddenSize * 4);
  }

  /** Asks for what the stage finds out about a round. */
  fetch(lane: StepLane, wanted: readonly (WantedOutput | null)[], chosen: readonly boolean[]): QueuedOutputs {
    const stage = this.#stage;
    const facts = lane.fetchFacts(stage, wanted.length);
    wanted.forEach((each, i) => {
      if (!each) return;
      if (needsLogits(each.request, chosen[i]!)) this.#copyLogits(i);
      if (each.request.hidden)
        stage.context.copyOut(this.#hidden(i), stage.at("scratch.hiddenStates") + BigInt(i * this.#spec.hiddenSize * 4));
    });
    return { wanted, chosen, facts };
  }

  /** Whether the facts of a round that has arrived answer all of it. */
  areAnswered({ wanted, chosen, facts }: QueuedOutputs): boolean {
    return wanted.every((each, i) => !each || isAnswered(each.request, chosen[i]!, facts, i));
  }

  /**
   * Finishes a round that has arrived.
   *
   * @param finish waits for what has been copied since
   * @param take is told each output, in their order
   */
  async answer(
    { wanted, chosen, facts }: QueuedOutputs,
    finish: () => Promise<void>,
    take: (wanted: WantedOutput, output: Output) => void,
  ): Promise<void> {
    const { vocabSize } = this.#spec;
    for (const [i, each] of wanted.entries()) {
      if (!each) continue;
      const { request } = each;
      const logits = async () => {
        if (needsLogits(request, chosen[i]!)) return this.#logits(i);
        // Something is wrong with them: they are fetched to say what.
        this.#stage.context.use();
        this.#copyLogits(i);
        await finish();
        return this.#logits(i);
      };
      const row = { vocabSize, hidden: () => this.#hidden(i), logits };
      take(each, await finishOutput(request, chosen[i]!, facts, i, row));
    }
  }

  #copyLogits(i: number): void {
    const stage = this.#stage;
    stage.context.copyOut(this.#logits(i), stage.at("scratch.logits") + BigInt(i * this.#spec.vocabSize * 4));
  }

  #logits(i: number): Float32Array {
    const { vocabSize } = this.#spec;
    return new Float32Array(this.#logitMemory.buffer, i * vocabSize * 4, vocabSize);
  }

  #hidden(i: number): Float32Array {
    const { hiddenSize } = this.#spec;
    return new Float32Array(this.#hiddenMemory.buffer, i * hiddenSize * 4, hiddenSize);
  }
}

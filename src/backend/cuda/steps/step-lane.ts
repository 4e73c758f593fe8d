// What one step needs of the host while it is on its way: the pinned memory that its inputs travel
// from and its facts travel to, and the event behind it. There are two, so that a step can be
// written and queued while the card is still at the one before.

import type { RunShape } from "../../../memory/packing.js";
import type { ModelSpec } from "../../../model/spec.js";
import type { DeviceContext } from "../cards/device-context.js";
import { SampleSlots } from "../outputs/sample-slots.js";
import { poolBytes, slotBytes } from "../outputs/sampling-shape.js";
import type { Stage } from "./stage.js";
import { type ComposedStep, StepInput, type WantedOutput } from "./step-input.js";
import { FACT_BYTES, inputLayout, largestInput, logitRows } from "./step-shape.js";

export class StepLane {
  readonly input: StepInput;
  readonly #spec: ModelSpec;
  readonly #run: RunShape;
  readonly #context: DeviceContext;
  readonly #inputMemory: ArrayBuffer;
  readonly #slotMemory: ArrayBuffer;
  readonly #factMemory: ArrayBuffer;
  readonly #slots: SampleSlots;
  readonly #done: bigint;

  /** @param context of the last stage */
  constructor(spec: ModelSpec, run: RunShape, context: DeviceContext) {
    context.use();
    this.#spec = spec;
    this.#run = run;
    this.#context = context;
    this.#inputMemory = context.allocatePinned(largestInput(spec, run).bytes).buffer;
    this.#slotMemory = context.allocatePinned(slotBytes(spec, run) + poolBytes(spec, run)).buffer;
    this.#factMemory = context.allocatePinned(logitRows(spec, run) * FACT_BYTES).buffer;
    this.#slots = new SampleSlots(spec.vocabSize, this.#slotMemory, slotBytes(spec, run));
    this.#done = context.createEvent();
    this.input = new StepInput(spec, run, this.#inputMemory);
  }

  /**
   * Copies a step's inputs to every stage.
   *
   * @param withIds false: its ids are there already, from the step before
   */
  send(stages: readonly Stage[], { bytes, shape }: ComposedStep, withIds = true): void {
    const from = withIds ? 0 : inputLayout(this.#spec, this.#run, shape).positions;
    const view = new Uint8Array(this.#inputMemory, from, bytes - from);
    for (const stage of stages) stage.context.use().copyIn(stage.at("scratch.input") + BigInt(from), view);
  }

  /**
   * Tells the last stage how to choose the tokens of a round.
   *
   * @param withIds false: the newest id of every history is what the step before has chosen
   * @returns which of its choices are answers
   */
  sendSlots(stage: Stage, wanted: readonly (WantedOutput | null)[], rows: number, withIds = true): readonly boolean[] {
    const { bytes, chosen } = this.#slots.write(
      wanted.map((each) => each?.request ?? null),
      rows,
      !withIds,
    );
    stage.context.use().copyIn(stage.at("scratch.slots"), new Uint8Array(this.#slotMemory, 0, bytes));
    return chosen;
  }

  /** What the last stage finds out about a round of outputs; there after finish(). */
  fetchFacts(stage: Stage, outputs: number): DataView {
    const facts = new DataView(this.#factMemory, 0, outputs * FACT_BYTES);
    stage.context.use().copyOut(facts, stage.at("scratch.facts"));
    return facts;
  }

  /** Everything that has been queued so far belongs to what finish() waits for. */
  mark(): void {
    this.#context.use().record(this.#done);
  }

  isDone(): boolean {
    return this.#context.driver.eventDone(this.#done, { device: this.#context.id });
  }
}

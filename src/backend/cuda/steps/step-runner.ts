// From a batch to its answers. Decode steps whose size was captured are replayed, and while the card is
// at one, the next is queued behind it (run-ahead.ts); other steps are launched kernel by kernel.

import { setImmediate as nextTurn } from "node:timers/promises";
import type { RunShape } from "../../../memory/packing.js";
import type { ModelSpec } from "../../../model/spec.js";
import type { BatchEntry, Output } from "../../backend.js";
import type { CapturedGraphs } from "./captured-graphs.js";
import { type DecodeRows, followingRows, rowsInStep } from "./run-ahead.js";
import type { ComposedStep } from "./step-input.js";
import { StepLane } from "./step-lane.js";
import type { StepLauncher } from "./step-launcher.js";
import { type QueuedOutputs, StepOutputs } from "./step-outputs.js";
import { logitRows } from "./step-shape.js";

/** A captured decode step on its way. */
interface QueuedDecode {
  readonly lane: StepLane;
  readonly rows: DecodeRows;
  readonly bucket: number;
  readonly outputs: QueuedOutputs;
}

interface StepAhead extends QueuedDecode {
  /** That its rows were fed: what the step before has chosen. */
  readonly ids: readonly (number | null)[];
}

export class StepRunner {
  readonly #launcher: StepLauncher;
  readonly #graphs: CapturedGraphs;
  readonly #outputs: StepOutputs;
  readonly #lanes: readonly [StepLane, StepLane];
  /** Outputs of one round. */
  readonly #round: number;
  /** Queued behind the step before, in the hope that it is asked for. */
  #ahead: StepAhead | null = null;

  constructor(spec: ModelSpec, run: RunShape, launcher: StepLauncher, graphs: CapturedGraphs) {
    this.#launcher = launcher;
    this.#graphs = graphs;
    this.#round = logitRows(spec, run);
    const { context } = launcher.last;
    this.#lanes = [new StepLane(spec, run, context), new StepLane(spec, run, context)];
    this.#outputs = new StepOutputs(spec, launcher.last, this.#round);
  }

  async run(batch: readonly BatchEntry[]): Promise<Output[][]> {
    const ahead = this.#ahead;
    this.#ahead = null;
    if (!ahead) return this.#runAnew(batch);
    const places = rowsInStep(batch, ahead.rows, ahead.ids);
    const found = places.filter((row) => row >= 0).length;
    if (found === batch.length) return this.#answerAhead(batch, ahead, places);
    await this.#finish(ahead.lane);
    if (found === 0 || !this.#outputs.areAnswered(ahead.outputs)) return this.#runAnew(batch);
    // Some are answered already; the others, which have come since, in a step of their own.
    const known = await this.#answersOf(ahead);
    const rest = batch.filter((_, i) => places[i]! < 0);
    const others = (await this.#runAnew(rest, false)).values();
    return places.map((row) => (row < 0 ? others.next().value! : known[row]!));
  }

  /** Nothing is queued any more. */
  async settle(): Promise<void> {
    const ahead = this.#ahead;
    this.#ahead = null;
    if (ahead) await this.#finish(ahead.lane);
  }

  /** A step that failed may have left anything behind it. */
  forget(): void {
    this.#ahead = null;
  }

  /** A step of idle rows, kernel by kernel. */
  async tryOut(shape: ComposedStep["shape"]): Promise<void> {
    const [lane] = this.#lanes;
    lane.send(this.#launcher.stages, lane.input.writeIdle(shape));
    this.#launcher.layers(shape);
    lane.sendSlots(this.#launcher.last, [], shape.outputs);
    this.#launcher.outputs(shape, 0, shape.outputs);
    lane.mark();
    await this.#finish(lane);
  }

  /** A captured step of idle rows. */
  async tryOutCaptured(shape: ComposedStep["shape"]): Promise<void> {
    const [lane] = this.#lanes;
    lane.send(this.#launcher.stages, lane.input.writeIdle(shape));
    lane.sendSlots(this.#launcher.last, [], shape.outputs);
    this.#graphs.replay(shape);
    lane.mark();
    await this.#finish(lane);
  }

  /** @param onward the next step may be queued behind it */
  async #runAnew(batch: readonly BatchEntry[], onward = true): Promise<Output[][]> {
    const bucket = this.#graphs.bucketOf(batch);
    if (bucket === null) return this.#runDirectly(batch);
    const queued = this.#queue(this.#lanes[0], batch, bucket);
    return this.#answer(queued, onward ? batch : null);
  }

  /** Answers a step that is queued already, by those of its rows that somebody asks for. */
  async #answerAhead(batch: readonly BatchEntry[], ahead: StepAhead, places: readonly number[]): Promise<Output[][]> {
    const rows: (BatchEntry | null)[] = ahead.rows.map(() => null);
    places.forEach((row, i) => {
      rows[row] = batch[i]!;
    });
    // With many idle rows a smaller step does: then the next one is not queued yet, but put together anew.
    const fits = this.#graphs.bucketOf(batch) === ahead.bucket;
    const answers = await this.#answer({ ...ahead, rows }, fits ? rows : null);
    return places.map((row) => answers[row]!);
  }

  /**
   * Answers a captured decode step; the one after `onward` is queued meanwhile.
   *
   * @returns per row
   */
  async #answer(queued: QueuedDecode, onward: DecodeRows | null): Promise<Output[][]> {
    const { lane, outputs } = queued;
    const ahead = onward && this.#queueNext(queued, onward);
    await this.#finish(lane);
    if (ahead && !this.#outputs.areAnswered(outputs)) {
      // Somebody has to look at the logits, and they are the next step's by now: once more, alone.
      await this.#finish(ahead.lane);
      const again = this.#queue(lane, queued.rows, queued.bucket);
      await this.#finish(lane);
      return this.#answersOf(again);
    }
    const answers = await this.#answersOf(queued);
    if (ahead) this.#ahead = { ...ahead, ids: answers.map(([output]) => output?.id ?? null) };
    return answers;
  }

  /** Queues the step that follows these rows, where the card's own choices are all that it takes. */
  #queueNext({ lane, bucket, outputs }: QueuedDecode, rows: DecodeRows): QueuedDecode | null {
    if (!rows.every((entry, row) => !entry || outputs.chosen[row])) return null;
    const next = followingRows(rows);
    if (!next || this.#graphs.bucketOf(next) !== bucket) return null;
    const other = this.#lanes[lane === this.#lanes[0] ? 1 : 0];
    return this.#queue(other, next, bucket, false);
  }

  /** @param withIds false: the ids are those that the step before will choose */
  #queue(lane: StepLane, rows: DecodeRows, bucket: number, withIds = true): QueuedDecode {
    const { stages, last } = this.#launcher;
    const step = lane.input.writeDecode(rows, bucket);
    lane.send(stages, step, withIds);
    const chosen = lane.sendSlots(last, step.outputs, bucket, withIds);
    if (!withIds) this.#launcher.feedChosenIds(bucket);
    this.#graphs.replay(step.shape);
    const outputs = this.#outputs.fetch(lane, step.outputs, chosen);
    lane.mark();
    return { lane, rows, bucket, outputs };
  }

  async #runDirectly(batch: readonly BatchEntry[]): Promise<Output[][]> {
    const answers: Output[][] = batch.map(() => []);
    const [lane] = this.#lanes;
    const step = lane.input.write(batch);
    lane.send(this.#launcher.stages, step);
    this.#launcher.layers(step.shape);
    for (let first = 0; first < step.outputs.length; first += this.#round) {
      const wanted = step.outputs.slice(first, first + this.#round);
      const chosen = lane.sendSlots(this.#launcher.last, wanted, wanted.length);
      this.#launcher.outputs(step.shape, first, wanted.length);
      const queued = this.#outputs.fetch(lane, wanted, chosen);
      lane.mark();
      await this.#finish(lane);
      await this.#take(queued, lane, answers);
    }
    if (step.outputs.length === 0) {
      lane.mark();
      await this.#finish(lane);
    }
    return answers;
  }

  async #answersOf({ rows, outputs, lane }: QueuedDecode): Promise<Output[][]> {
    const answers: Output[][] = rows.map(() => []);
    // Rows that nobody asks for any more are not looked at.
    const wanted = outputs.wanted.map((each, row) => (rows[row] ? each : null));
    await this.#take({ ...outputs, wanted }, lane, answers);
    return answers;
  }

  async #take(queued: QueuedOutputs, lane: StepLane, answers: Output[][]): Promise<void> {
    const finish = (): Promise<void> => {
      lane.mark();
      return this.#finish(lane);
    };
    await this.#outputs.answer(queued, finish, ({ entry, output }, answer) => {
      answers[entry]![output] = answer;
    });
  }

  /** Waits for what the lane has marked, on the last stage, which waits for all others; other requests are heard meanwhile. */
  async #finish(lane: StepLane): Promise<void> {
    while (!lane.isDone()) await nextTurn();
  }
}

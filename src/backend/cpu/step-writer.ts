// The host's side of the control block: a batch becomes words, and the angles of its positions
// become the rope tables of every arena.

import type { StageLayout } from "../../memory/plan.js";
import type { RegionIndex } from "../../memory/regions.js";
import { ropeFrequencies } from "../../model/rope.js";
import type { ModelSpec } from "../../model/spec.js";
import type { BatchEntry } from "../backend.js";
import { ENTRY_WORDS, OUTPUT_WORDS, type StepWords, Task } from "./step-message.js";

/** A position of which something is wanted. */
export interface OutputRow {
  readonly row: number;
  readonly target: number | null;
  /** Its log-softmax sums are wanted. */
  readonly sums: boolean;
}

export class StepWriter {
  readonly #spec: ModelSpec;
  readonly #words: Int32Array;
  readonly #at: StepWords;
  /** cos and sin of each row, per arena: `[rows][headDim]`. */
  readonly #tables: Float32Array[];
  readonly #headDim: number;

  constructor(spec: ModelSpec, stage: StageLayout, regions: RegionIndex, memories: readonly WebAssembly.Memory[], at: StepWords) {
    this.#spec = spec;
    this.#at = at;
    const control = regions.get("scratch.control", 0);
    this.#words = new Int32Array(memories[0]!.buffer, control.offset, control.bytes / 4);
    this.#headDim = spec.layers[0]?.attention.headDim ?? 0;
    this.#tables = stage.arenas.flatMap((_, arena) => {
      const table = regions.find("scratch.rope", arena);
      return table ? [new Float32Array(memories[arena]!.buffer, table.offset, table.bytes / 4)] : [];
    });
  }

  /** Writes the batch for the layers. */
  writeBatch(batch: readonly BatchEntry[]): void {
    const { task, rows, entries, ids, entryTable, pageTable, groups, pages } = this.#at;
    const words = this.#words;
    let row = 0;
    batch.forEach((entry, index) => {
      words.set(entry.tokens, ids + row);
      words.set([row, entry.tokens.length, entry.start], entryTable + index * ENTRY_WORDS);
      entry.pages.forEach((table, group) => {
        words.set(table.subarray(0, pages), pageTable + (index * groups + group) * pages);
      });
      this.#writeAngles(entry, row);
      row += entry.tokens.length;
    });
    this.#writeAdapters(batch);
    words[task] = Task.layers;
    words[rows] = row;
    words[entries] = batch.length;
    words[this.#at.outputs] = 0;
  }

  /** Names the rows whose logits the next command computes. */
  writeOutputs(outputs: readonly OutputRow[]): void {
    this.#words[this.#at.outputs] = outputs.length;
    outputs.forEach(({ row, target, sums }, index) => {
      this.#words.set([row, target ?? -1, sums ? 1 : 0], this.#at.outputTable + index * OUTPUT_WORDS);
    });
  }

  /** The next command goes on with outputs of the batch that ran. */
  outputsOnly(): void {
    this.#words[this.#at.task] = Task.outputs;
  }

  #writeAdapters(batch: readonly BatchEntry[]): void {
    const { adapted, adapterTable, adapters } = this.#at;
    const weights = new Float32Array(this.#words.buffer, this.#words.byteOffset + adapterTable * 4, batch.length * adapters);
    weights.fill(0);
    batch.forEach(({ adapters: uses = [] }, entry) => {
      for (const { index, weight } of uses) weights[entry * adapters + index] = weight;
    });
    this.#words[adapted] = weights.some((weight) => weight !== 0) ? 1 : 0;
  }

  /** Angles are computed in f64: at position 100,000 an f32 product would be off by a hundredth of a radian. */
  #writeAngles({ tokens, start, ropeLength }: BatchEntry, firstRow: number): void {
    const half = this.#headDim / 2;
    const first = this.#tables[0];
    if (!first) return;
    const { inverseFrequencies, attentionFactor } = this.#frequencies(ropeLength);
    for (let t = 0; t < tokens.length; t++) {
      const at = (firstRow + t) * this.#headDim;
      for (let i = 0; i < half; i++) {
        const angle = (start + t) * inverseFrequencies[i]!;
        first[at + i] = Math.cos(angle) * attentionFactor;
        first[at + half + i] = Math.sin(angle) * attentionFactor;
      }
    }
    const from = firstRow * this.#headDim;
    for (const table of this.#tables.slice(1)) table.set(first.subarray(from, from + tokens.length * this.#headDim), from);
  }

  #known: { length: number; frequencies: ReturnType<typeof ropeFrequencies> } | null = null;

  /** Only dynamic scaling depends on the length; the others are computed once. */
  #frequencies(ropeLength: number): ReturnType<typeof ropeFrequencies> {
    const length = this.#spec.rope.kind === "dynamic" ? ropeLength : 0;
    if (this.#known?.length !== length)
      this.#known = { length, frequencies: ropeFrequencies(this.#spec.rope, this.#headDim, ropeLength) };
    return this.#known.frequencies;
  }
}

// A batch as the kernels read it: one block of integers, written into pinned memory and copied
// to every stage at once. Entries that feed one token come first, so that their attention can
// be split over the keys; the others' rows follow in tiles.

import type { RunShape } from "../../memory/packing.js";
import { ropeFrequencies } from "../../model/rope.js";
import type { ModelSpec } from "../../model/spec.js";
import type { BatchEntry, OutputRequest } from "../backend.js";
import { PREFILL_ROWS } from "./attention-launch.js";
import type { StepShape } from "./forward.js";
import { type InputLayout, inputLayout, maxPages } from "./step-shape.js";

/** One wanted output: where it belongs and which row it looks at. */
export interface WantedOutput {
  readonly entry: number;
  readonly output: number;
  readonly request: OutputRequest;
  readonly row: number;
}

export interface ComposedStep {
  readonly shape: StepShape;
  readonly bytes: number;
  /** In the order of the input block's outputs. */
  readonly outputs: readonly WantedOutput[];
}

export class StepInput {
  readonly #spec: ModelSpec;
  readonly #run: RunShape;
  readonly #buffer: ArrayBuffer;

  /** @param buffer as large as the largest step's input */
  constructor(spec: ModelSpec, run: RunShape, buffer: ArrayBuffer) {
    this.#spec = spec;
    this.#run = run;
    this.#buffer = buffer;
  }

  /**
   * Writes a batch.
   *
   * @param bucket rows of a captured decode step, the unused ones idle; `null`: exactly the batch
   */
  write(batch: readonly BatchEntry[], bucket: number | null): ComposedStep {
    const order = batch.map((_, index) => index).sort((a, b) => single(batch[b]!) - single(batch[a]!) || a - b);
    const decodeRows = order.filter((index) => single(batch[index]!) === 1).length;
    const rows = bucket ?? batch.reduce((sum, { tokens }) => sum + tokens.length, 0);
    const entries = bucket ?? batch.length;
    const outputs = wantedOutputs(batch, order);
    const tiles = bucket === null ? tilesOf(batch, order, decodeRows) : [];
    const shape: StepShape = {
      rows,
      decodeRows: bucket ?? decodeRows,
      tiles: tiles.length,
      entries,
      outputs: bucket ?? outputs.length,
      ...(usesAdapters(batch) ? { adapted: true } : {}),
    };
    const layout = inputLayout(this.#spec, this.#run, shape);
    const ints = (offset: number, count: number) => new Int32Array(this.#buffer, offset, count);
    const [ids, positions, sequence] = [ints(layout.ids, rows), ints(layout.positions, rows), ints(layout.sequence, rows)];
    ids.fill(0);
    positions.fill(-1);
    sequence.fill(0);
    let row = 0;
    order.forEach((index, place) => {
      const { tokens, start } = batch[index]!;
      ids.set(tokens, row);
      for (let i = 0; i < tokens.length; i++) positions[row + i] = start + i;
      sequence.fill(place, row, row + tokens.length);
      row += tokens.length;
    });
    this.#writePages(batch, order, layout);
    this.#writeOutputs(outputs, shape, layout);
    ints(layout.tiles, tiles.length * 2).set(tiles.flat());
    if (this.#spec.rope.kind === "dynamic") this.#writeFrequencies(batch, order, layout);
    this.#writeAdapters(batch, order, layout, entries);
    return { shape, bytes: layout.bytes, outputs };
  }

  /** A step of idle rows, for trying kernels out. */
  writeIdle(shape: StepShape): ComposedStep {
    const layout = inputLayout(this.#spec, this.#run, shape);
    new Uint8Array(this.#buffer, 0, layout.bytes).fill(0);
    new Int32Array(this.#buffer, layout.positions, shape.rows).fill(-1);
    new Int32Array(this.#buffer, layout.targets, shape.outputs).fill(-1);
    const tiles = new Int32Array(this.#buffer, layout.tiles, shape.tiles * 2);
    for (let tile = 0; tile < shape.tiles; tile++)
      tiles.set([tile * PREFILL_ROWS, Math.min(PREFILL_ROWS, shape.rows - tile * PREFILL_ROWS)], tile * 2);
    return { shape, bytes: layout.bytes, outputs: [] };
  }

  #writePages(batch: readonly BatchEntry[], order: readonly number[], layout: InputLayout): void {
    const width = maxPages(this.#run);
    layout.pages.forEach((offset, group) => {
      order.forEach((index, place) => {
        const pages = batch[index]!.pages[group]!;
        new Int32Array(this.#buffer, offset + place * width * 4, width).set(pages.subarray(0, width));
      });
    });
  }

  #writeOutputs(outputs: readonly WantedOutput[], shape: StepShape, layout: InputLayout): void {
    const rows = new Int32Array(this.#buffer, layout.outputRows, shape.outputs);
    const targets = new Int32Array(this.#buffer, layout.targets, shape.outputs);
    rows.fill(0);
    targets.fill(-1);
    outputs.forEach(({ row, request }, index) => {
      rows[index] = row;
      targets[index] = request.target ?? -1;
    });
  }

  #writeAdapters(batch: readonly BatchEntry[], order: readonly number[], layout: InputLayout, entries: number): void {
    const loaded = this.#spec.adapters?.length ?? 0;
    const weights = new Float32Array(this.#buffer, layout.adapterWeights, entries * loaded).fill(0);
    order.forEach((entry, place) => {
      for (const { index, weight } of batch[entry]!.adapters ?? []) weights[place * loaded + index] = weight;
    });
  }

  #writeFrequencies(batch: readonly BatchEntry[], order: readonly number[], layout: InputLayout): void {
    const { headDim } = this.#spec.layers[0]!.attention;
    order.forEach((index, place) => {
      const turns = halfTurns(this.#spec, batch[index]!.ropeLength);
      new Float64Array(this.#buffer, layout.frequencies + place * (headDim / 2) * 8, headDim / 2).set(turns);
    });
  }
}

/** Half turns per position of each pair, f64 [headDim / 2]. */
export function halfTurns({ rope, layers }: ModelSpec, sequenceLength: number): Float64Array {
  return ropeFrequencies(rope, layers[0]!.attention.headDim, sequenceLength).inverseFrequencies.map((each) => each / Math.PI);
}

export function usesAdapters(batch: readonly BatchEntry[]): boolean {
  return batch.some(({ adapters = [] }) => adapters.length > 0);
}

/** 1 for entries that feed one token. */
function single({ tokens }: BatchEntry): 0 | 1 {
  return tokens.length === 1 ? 1 : 0;
}

function wantedOutputs(batch: readonly BatchEntry[], order: readonly number[]): WantedOutput[] {
  let first = 0;
  return order.flatMap((entry) => {
    const { tokens, outputs } = batch[entry]!;
    const begin = first;
    first += tokens.length;
    return outputs.map((request, output) => ({ entry, output, request, row: begin + request.index }));
  });
}

/** First row and rows of each tile; none spans two sequences. */
function tilesOf(batch: readonly BatchEntry[], order: readonly number[], decodeRows: number): [row: number, rows: number][] {
  let first = decodeRows;
  return order.slice(decodeRows).flatMap((index) => {
    const { length } = batch[index]!.tokens;
    const begin = first;
    first += length;
    return Array.from({ length: Math.ceil(length / PREFILL_ROWS) }, (_, tile): [number, number] => [
      begin + tile * PREFILL_ROWS,
      Math.min(PREFILL_ROWS, length - tile * PREFILL_ROWS),
    ]);
  });
}

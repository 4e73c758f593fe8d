// A batch as the kernels read it: one block of integers, written into pinned memory and copied
// to every stage at once. Entries that feed one token come first, so that their attention can
// be split over the keys; the others' rows follow in tiles.

import type { RunShape } from "../../../memory/packing.js";
import { ropeFrequencies } from "../../../model/rope.js";
import type { ModelSpec } from "../../../model/spec.js";
import type { BatchEntry, OutputRequest } from "../../backend.js";
import { PREFILL_ROWS } from "../attention/attention-launch.js";
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
  /** In the order of the input block's outputs; of a decode step one for each row, `null` where nothing is wanted. */
  readonly outputs: readonly (WantedOutput | null)[];
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

  /** Writes exactly a batch. */
  write(batch: readonly BatchEntry[]): ComposedStep {
    const order = batch.map((_, index) => index).sort((a, b) => single(batch[b]!) - single(batch[a]!) || a - b);
    const decodeRows = order.filter((index) => single(batch[index]!) === 1).length;
    const tiles = tilesOf(batch, order, decodeRows);
    const outputs = wantedOutputs(batch, order);
    const shape: StepShape = {
      rows: batch.reduce((sum, { tokens }) => sum + tokens.length, 0),
      decodeRows,
      tiles: tiles.length,
      entries: batch.length,
      outputs: outputs.length,
      ...(usesAdapters(batch) ? { adapted: true } : {}),
    };
    return this.#write(
      shape,
      order.map((index) => batch[index]!),
      outputs,
      tiles,
    );
  }

  /**
   * Writes a captured decode step: an entry of one token for each row, in this order.
   *
   * @param rows `null`: idle
   * @param bucket rows of the captured step; those behind are idle
   */
  writeDecode(rows: readonly (BatchEntry | null)[], bucket: number): ComposedStep {
    const shape: StepShape = {
      ...{ rows: bucket, decodeRows: bucket, tiles: 0, entries: bucket, outputs: bucket },
      ...(usesAdapters(rows) ? { adapted: true } : {}),
    };
    const outputs = rows.map((entry, row) => {
      const request = entry?.outputs[0];
      return request ? { entry: row, output: 0, request, row } : null;
    });
    return this.#write(shape, rows, outputs, []);
  }

  #write(
    shape: StepShape,
    entries: readonly (BatchEntry | null)[],
    outputs: readonly (WantedOutput | null)[],
    tiles: readonly [row: number, rows: number][],
  ): ComposedStep {
    const layout = inputLayout(this.#spec, this.#run, shape);
    const ints = (offset: number, count: number) => new Int32Array(this.#buffer, offset, count);
    const { rows } = shape;
    const [ids, positions, sequence] = [ints(layout.ids, rows), ints(layout.positions, rows), ints(layout.sequence, rows)];
    ids.fill(0);
    positions.fill(-1);
    sequence.fill(0);
    let row = 0;
    entries.forEach((entry, place) => {
      const { tokens, start } = entry ?? IDLE;
      ids.set(tokens, row);
      if (entry) for (let i = 0; i < tokens.length; i++) positions[row + i] = start + i;
      sequence.fill(place, row, row + tokens.length);
      row += tokens.length;
    });
    this.#writePages(entries, layout);
    this.#writeOutputs(outputs, shape, layout);
    ints(layout.tiles, tiles.length * 2).set(tiles.flat());
    if (this.#spec.rope.kind === "dynamic") this.#writeFrequencies(entries, layout);
    if (this.#spec.adapters) this.#writeAdapters(entries, layout, shape.entries);
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

  #writePages(entries: readonly (BatchEntry | null)[], layout: InputLayout): void {
    const width = maxPages(this.#run);
    layout.pages.forEach((offset, group) => {
      const tables = new Int32Array(this.#buffer, offset, entries.length * width);
      entries.forEach((entry, place) => {
        if (entry) tables.set(entry.pages[group]!.subarray(0, width), place * width);
      });
    });
  }

  #writeOutputs(outputs: readonly (WantedOutput | null)[], shape: StepShape, layout: InputLayout): void {
    const rows = new Int32Array(this.#buffer, layout.outputRows, shape.outputs);
    const targets = new Int32Array(this.#buffer, layout.targets, shape.outputs);
    rows.fill(0);
    targets.fill(-1);
    outputs.forEach((wanted, index) => {
      if (!wanted) return;
      rows[index] = wanted.row;
      targets[index] = wanted.request.target ?? -1;
    });
  }

  #writeAdapters(entries: readonly (BatchEntry | null)[], layout: InputLayout, places: number): void {
    const loaded = this.#spec.adapters?.length ?? 0;
    const weights = new Float32Array(this.#buffer, layout.adapterWeights, places * loaded).fill(0);
    entries.forEach((entry, place) => {
      for (const { index, weight } of entry?.adapters ?? []) weights[place * loaded + index] = weight;
    });
  }

  #writeFrequencies(entries: readonly (BatchEntry | null)[], layout: InputLayout): void {
    const { headDim } = this.#spec.layers[0]!.attention;
    entries.forEach((entry, place) => {
      if (!entry) return;
      const turns = halfTurns(this.#spec, entry.ropeLength);
      new Float64Array(this.#buffer, layout.frequencies + place * (headDim / 2) * 8, headDim / 2).set(turns);
    });
  }
}

/** Takes a row and feeds nothing. */
const IDLE: Pick<BatchEntry, "tokens" | "start"> = { tokens: new Int32Array(1), start: 0 };

/** Half turns per position of each pair, f64 [headDim / 2]. */
export function halfTurns({ rope, layers }: ModelSpec, sequenceLength: number): Float64Array {
  return ropeFrequencies(rope, layers[0]!.attention.headDim, sequenceLength).inverseFrequencies.map((each) => each / Math.PI);
}

function usesAdapters(entries: readonly (BatchEntry | null)[]): boolean {
  return entries.some((entry) => (entry?.adapters?.length ?? 0) > 0);
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

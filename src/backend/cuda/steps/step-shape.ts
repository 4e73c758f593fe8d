// Sizes of what a step moves, as pure numbers: the planner counts them, the runtime uses them.

import { cacheGroups } from "../../../memory/cache-groups.js";
import type { RunShape } from "../../../memory/packing.js";
import { PAGE_TOKENS } from "../../../memory/plan.js";
import { MiB } from "../../../memory/size.js";
import type { LayerSpec, ModelSpec } from "../../../model/spec.js";
import { PREFILL_ROWS, partialLayout } from "../attention/attention-launch.js";

/** sample.cu's RowFacts. */
export const FACT_BYTES = 32;

/** Logits of one round of outputs take about this much, unless the sequences alone need more. */
const LOGIT_BYTES = 8 * MiB;
const MOST_LOGIT_ROWS = 32;

/** Most tokens of a step. */
export function stepTokens(run: RunShape): number {
  return Math.max(run.prefillChunk, run.maxSequences);
}

/** Rows of logits that are made at once; more outputs take several rounds. */
export function logitRows(spec: ModelSpec, run: RunShape): number {
  const fitting = Math.floor(LOGIT_BYTES / (spec.vocabSize * 4));
  return Math.max(run.maxSequences, Math.min(MOST_LOGIT_ROWS, stepTokens(run), fitting), 1);
}

/** Logical pages of the longest sequence: entries of a row of a page table. */
export function maxPages(run: RunShape): number {
  return Math.ceil(run.context / PAGE_TOKENS);
}

/** Sizes of captured decode steps: powers of two, and the most sequences there can be. */
export function decodeBuckets(run: RunShape): number[] {
  const buckets: number[] = [];
  for (let rows = 1; rows < run.maxSequences; rows *= 2) buckets.push(rows);
  return [...buckets, run.maxSequences];
}

/** Scratch of the decode attention: counters, zero between launches, then partial results; enough for every layer's shape. */
export function attentionScratch(layers: readonly LayerSpec[], run: RunShape): { counters: number; bytes: number } {
  const each = layers.map(({ attention }) => partialLayout(attention, run.maxSequences));
  const counters = Math.max(0, ...each.map((layout) => layout.counters));
  return { counters, bytes: counters + Math.max(0, ...each.map((layout) => layout.bytes - layout.counters)) };
}

/** Byte offsets in the block that a step's inputs travel in, one copy for all of them. */
export interface InputLayout {
  /** i32 [rows] */
  readonly ids: number;
  /** i32 [rows]; −1: an idle row */
  readonly positions: number;
  /** i32 [rows]: row of the page tables */
  readonly sequence: number;
  /** i32 [outputs]: the row that each output looks at */
  readonly outputRows: number;
  /** i32 [outputs]: id whose logit is wanted, or −1 */
  readonly targets: number;
  /** Per cache group i32 [entries, maxPages]. */
  readonly pages: readonly number[];
  /** 2 × i32 [tiles]: first row and rows of each prefill tile */
  readonly tiles: number;
  /** f64 [entries, headDim / 2]: half turns per position, with dynamic RoPE only */
  readonly frequencies: number;
  /** f32 [entries, loaded adapters]: how much each counts, 0 where it is not used */
  readonly adapterWeights: number;
  readonly bytes: number;
}

const ALIGNMENT = 16;

export interface InputShape {
  readonly rows: number;
  readonly entries: number;
  readonly outputs: number;
}

export function inputLayout(spec: ModelSpec, run: RunShape, { rows, entries, outputs }: InputShape): InputLayout {
  let bytes = 0;
  const take = (size: number): number => {
    const at = bytes;
    bytes += Math.ceil(size / ALIGNMENT) * ALIGNMENT;
    return at;
  };
  const ids = take(rows * 4);
  const positions = take(rows * 4);
  const sequence = take(rows * 4);
  const outputRows = take(outputs * 4);
  const targets = take(outputs * 4);
  const pages = cacheGroups(spec, run).map(() => take(entries * maxPages(run) * 4));
  const tiles = take((Math.ceil(rows / PREFILL_ROWS) + entries) * 8);
  const frequencies = take(spec.rope.kind === "dynamic" ? entries * halfDim(spec) * 8 : 0);
  const adapterWeights = take(entries * (spec.adapters?.length ?? 0) * 4);
  return { ids, positions, sequence, outputRows, targets, pages, tiles, frequencies, adapterWeights, bytes };
}

/** The largest step there can be. */
export function largestInput(spec: ModelSpec, run: RunShape): InputLayout {
  const rows = stepTokens(run);
  return inputLayout(spec, run, { rows, entries: run.maxSequences, outputs: rows });
}

/** Half of the widest head: room for one pair's angle each. */
export function halfDim(spec: ModelSpec): number {
  return spec.layers.reduce((most, { attention }) => Math.max(most, attention.headDim), 0) / 2;
}

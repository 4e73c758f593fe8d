// The attention of one layer: tokens of prompts are turned and written to the cache first, then tiles of them look at it; decode
// steps do all of that in one launch.

import type { KernelQueue } from "../launch/kernel-queue.js";
import { writeParameters } from "../launch/parameter-layout.js";
import type { PlacedLayer } from "../steps/stage.js";
import { decodeLaunch, type KernelCache, prefillLaunch, prefillParameters } from "./attention-launch.js";
import { ATTENTION_STEP, ROPE_KV } from "./attention-layouts.js";

export interface AttentionCall {
  /** f16 [rows, heads, headDim]; each row is replaced by what its heads gather: the kernels have read it before they write. */
  readonly q: bigint;
  /** f16 [rows, kvHeads, headDim] */
  readonly k: bigint;
  readonly v: bigint;
  readonly rows: number;
  /** What heads gather goes to their row in the order of codes: of decode steps only. */
  readonly ordered: boolean;
  /** The first rows: one token each of the sequence with the page table of the same number. */
  readonly decodeRows: number;
  /** Of the rows behind them. */
  readonly tileCount: number;
  /** f32 pairs [rows, headDim / 2]: cosines and sines */
  readonly table: bigint;
  /** Scratch of the decode kernels, behind its counters. */
  readonly partial: bigint;
  /** The step's inputs, see InputLayout. */
  readonly positions: bigint;
  readonly sequence: bigint;
  readonly pages: bigint;
  readonly tiles: bigint;
  readonly maxPages: number;
}

/** Rows from which on a block turns all heads of a token. */
const ROWS_OF_WHOLE_TOKENS = 512;

export function runAttention(queue: KernelQueue, layer: PlacedLayer, cache: KernelCache, call: AttentionCall): void {
  if (call.tileCount > 0) {
    writeCache(queue, layer, cache, call);
    attendPrompts(queue, layer, cache, call);
  }
  if (call.decodeRows > 0) attendStep(queue, layer, cache, call);
}

/** Turns q and k of the rows of prompts, and writes k and v to the cache. */
function writeCache(queue: KernelQueue, layer: PlacedLayer, cache: KernelCache, call: AttentionCall): void {
  const { heads, kvHeads, headDim, qNorm, kNorm } = layer.spec.attention;
  const { decodeRows, maxPages, pages } = call;
  const rows = call.rows - decodeRows;
  const behind = (at: bigint, rowBytes: number) => at + BigInt(decodeRows * rowBytes);
  queue.run({
    family: "kv_cache",
    name: `rope_kv_${cache}`,
    role: "rope, new keys and values",
    bytes: rows * (2 * heads + 4 * kvHeads) * headDim * 2,
    grid: [rows >= ROWS_OF_WHOLE_TOKENS ? 1 : Math.ceil((heads + 2 * kvHeads) / 8), rows],
    block: 256,
    parameters: writeParameters(ROPE_KV, {
      q: behind(call.q, heads * headDim * 2),
      k: behind(call.k, kvHeads * headDim * 2),
      v: behind(call.v, kvHeads * headDim * 2),
      qNorm: layer.norms.q,
      kNorm: layer.norms.k,
      table: behind(call.table, headDim * 4),
      positions: behind(call.positions, 4),
      sequence: behind(call.sequence, 4),
      pages,
      kCache: layer.keys,
      vCache: layer.values,
      heads,
      kvHeads,
      dim: headDim,
      maxPages,
      eps: (qNorm ?? kNorm)?.eps ?? 0,
      unused: 0,
    }),
  });
}

function attendPrompts(queue: KernelQueue, layer: PlacedLayer, cache: KernelCache, call: AttentionCall): void {
  const { attention } = layer.spec;
  const { heads, kvHeads, headDim: dim, window } = attention;
  const { q, positions, sequence, pages, tiles, maxPages } = call;
  const { tiles: count, ...launch } = prefillLaunch(attention, call.tileCount, cache, queue.context.card);
  const parameters = prefillParameters(
    { ...launch, tiles: count },
    {
      ...{ q, kCache: layer.keys, vCache: layer.values, y: q, positions, sequence, pages, tiles },
      ...{ heads, kvHeads, dim, maxPages, window: window ?? 0, scale: Math.LOG2E / Math.sqrt(dim) },
    },
  );
  queue.run({ ...launch, parameters, role: "attention", attentions: 1 });
}

function attendStep(queue: KernelQueue, layer: PlacedLayer, cache: KernelCache, call: AttentionCall): void {
  const {
    attention,
    attention: { heads, kvHeads, headDim: dim, window, qNorm, kNorm },
  } = layer.spec;
  const { q, k, v, table, partial, positions, pages, maxPages } = call;
  const launch = decodeLaunch(attention, call.decodeRows, cache, queue.context.card);
  const parameters = writeParameters(ATTENTION_STEP, {
    ...{ q, k, v, qNorm: layer.norms.q, kNorm: layer.norms.k, table, kCache: layer.keys, vCache: layer.values, y: q },
    ...{ partial, positions, pages, heads, kvHeads, group: heads / kvHeads, dim, maxPages, window: window ?? 0 },
    ...{
      splits: launch.splits,
      least: launch.least,
      scale: Math.LOG2E / Math.sqrt(dim),
      eps: (qNorm ?? kNorm)?.eps ?? 0,
      ordered: call.ordered ? 1 : 0,
      unused: 0,
    },
  });
  queue.run({ ...launch, parameters, role: "attention", attentions: 1 });
}

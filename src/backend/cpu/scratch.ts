// The buffers of a step. Their sizes are computed here once, as regions of the plan, and the
// step program finds them by name. Two that are never alive together share one region:
// q, k, v and the gate and up projections; the quantised inputs of all linears.

import type { RegionSize, RunShape, StageShape } from "../../memory/packing.js";
import { PAGE_TOKENS } from "../../memory/plan.js";
import type { AttentionSpec, LayerSpec, LinearSpec, ModelSpec } from "../../model/spec.js";
import { type AdapterValueBytes, adapterRowValues } from "./adapter-layout.js";
import { MAX_THREADS, stepWords } from "./step-message.js";

/** Rows of logits computed at a time; more wanted positions take more rounds. */
const LOGIT_ROWS = 16;
/** Queries (token × head) that one thread takes through the pages together. */
const QUERY_ROWS = 16;
/** As in wasm/float-attention.ts: keys and values are widened so many tokens at a time. */
const TILE_TOKENS = 32;

/** What the size of a linear's prepared input and of its staging depends on; one per mode. */
export interface LinearSizes {
  regions(linear: LinearSpec): { name: string; bytes: number }[];
  readonly adapterValueBytes: AdapterValueBytes;
  activationBytes(linear: LinearSpec, tokens: number): number;
  stagingBytes(linear: LinearSpec): number;
}

/** Most tokens of one step. */
export function stepTokens(run: RunShape): number {
  return Math.max(run.prefillChunk, run.maxSequences);
}

/** Logit rows of one round. */
export function logitRows(run: RunShape): number {
  return Math.min(stepTokens(run), LOGIT_ROWS);
}

/** Bytes of the results of one output row: largest logit and sum (f64), the target's logit (f32), the id of the largest logit (i32), and room. */
export const OUTPUT_ROW_BYTES = 32;

/** Bytes of one partial softmax: headDim values, largest score, sum, padding. */
export function partialBytes(headDim: number): number {
  return (headDim + 4) * 4;
}

/** How one thread's piece of `scratch.threads` is used by attention, bytes. */
export function threadPlaces(attention: AttentionSpec): {
  tokens: number;
  kernel: number;
  partials: number;
  sums: number;
  bytes: number;
} {
  const group = attention.heads / attention.kvHeads;
  const tokens = Math.max(1, Math.floor(QUERY_ROWS / group));
  const rows = tokens * group;
  const partials = align(TILE_TOKENS * attention.headDim * 4 + rows * PAGE_TOKENS * 4);
  const sums = partials + align(rows * partialBytes(attention.headDim));
  return { tokens, kernel: 0, partials, sums, bytes: sums + align(rows * partialBytes(attention.headDim)) };
}

/** Pages that one sequence can have. */
export function sequencePages(run: RunShape): number {
  return Math.ceil(run.context / PAGE_TOKENS);
}

export function linearsOf(layer: LayerSpec): LinearSpec[] {
  const { q, k, v, o } = layer.attention;
  const mlps = layer.mlp.kind === "gated" ? [layer.mlp] : layer.mlp.experts;
  const router = layer.mlp.kind === "moe" ? [layer.mlp.router] : [];
  return [q, k, v, o, ...router, ...mlps.flatMap(({ gate, up, down }) => [gate, up, down])];
}

/** Regions of one arena that holds this part of the model. */
export function scratchRegions(spec: ModelSpec, stage: StageShape, run: RunShape, sizes: LinearSizes): RegionSize[] {
  const tokens = stepTokens(run);
  const { layers } = stage;
  const most = (size: (layer: LayerSpec) => number) => layers.reduce((largest, layer) => Math.max(largest, size(layer)), 0);
  const row = tokens * spec.hiddenSize * 4;
  const regions: RegionSize[] = [
    { name: "scratch.hidden", bytes: row },
    { name: "scratch.normed", bytes: row },
    { name: "scratch.delta", bytes: row },
  ];
  const add = (name: string, bytes: number) => bytes > 0 && regions.push({ name, bytes });
  add("scratch.rope", tokens * most(({ attention }) => attention.headDim) * 4);
  add("scratch.projections", tokens * most(projectionColumns) * 4);
  add("scratch.activations", activationBytes(spec, stage, run, sizes));
  add("scratch.threads", MAX_THREADS * most(({ attention }) => threadPlaces(attention).bytes));
  add("scratch.adapters", tokens * most(adapterRowValues) * 4);
  add("scratch.partials", sequencePages(run) * most(({ attention }) => attention.heads * partialBytes(attention.headDim)));
  if (stage.last) {
    add("scratch.logits", logitRows(run) * spec.vocabSize * 4);
    add("scratch.outputs", tokens * OUTPUT_ROW_BYTES);
  }
  const short = stagingBytes(spec, stage, sizes) - regions.reduce((sum, { bytes }) => sum + align(bytes), 0);
  // Tensors are loaded through the buffers above and the KV pools in front of them; this is what they lack where a linear is large and the step small.
  if (short > 0) add("scratch.staging", short);
  // Last, so that what may serve as staging is one piece: see stagingArea().
  add("scratch.control", stepWords(spec, run).bytes);
  return regions;
}

/** Where q, k, v (then the attention's output, in place of q) and gate, up lie in `scratch.projections`, bytes. */
export function projectionPlaces(layer: LayerSpec, tokens: number) {
  const { q, k } = layer.attention;
  const up = layer.mlp.kind === "gated" ? layer.mlp.gate.out : 0;
  return { q: 0, k: tokens * q.out * 4, v: tokens * (q.out + k.out) * 4, gate: 0, up: tokens * up * 4 };
}

function projectionColumns(layer: LayerSpec): number {
  const { q, k, v } = layer.attention;
  const mlps = layer.mlp.kind === "gated" ? [layer.mlp] : layer.mlp.experts;
  return Math.max(q.out + k.out + v.out, ...mlps.map(({ gate, up }) => gate.out + up.out));
}

/** Linears that read the same input are prepared together, each in its own place. */
function activationBytes(spec: ModelSpec, stage: StageShape, run: RunShape, sizes: LinearSizes): number {
  const tokens = stepTokens(run);
  const together = (...linears: LinearSpec[]) =>
    linears.reduce((sum, linear) => sum + align(sizes.activationBytes(linear, tokens)), 0);
  let largest = stage.last ? align(sizes.activationBytes(spec.head, logitRows(run))) : 0;
  for (const { attention, mlp } of stage.layers) {
    largest = Math.max(largest, together(attention.q, attention.k, attention.v), together(attention.o));
    for (const { gate, up, down } of mlp.kind === "gated" ? [mlp] : mlp.experts)
      largest = Math.max(largest, together(gate, up), together(down));
  }
  return largest;
}

/** Least room through which this arena's tensors can be loaded. */
function stagingBytes(spec: ModelSpec, stage: StageShape, sizes: LinearSizes): number {
  const linears = stage.layers.flatMap(linearsOf);
  if (stage.last || (stage.first && spec.tiedEmbeddings)) linears.push(spec.head);
  return linears.reduce((largest, linear) => Math.max(largest, sizes.stagingBytes(linear)), spec.hiddenSize * 4);
}

function align(bytes: number): number {
  return Math.ceil(bytes / 64) * 64;
}

// How a backend stores each kind of tensor, as pure numbers. The layout function sums what a
// packing says and gives every region its place; the loader and the kernels use those places.
// So a size is computed once, and the plan is the allocation.

import type { LayerSpec, ModelSpec } from "../model/spec.js";

/** Bytes that one named buffer needs; the layout function aligns and places it. */
export interface RegionSize {
  /** Unique in its stage: `layers.3.attention.q.weights`, `layers.3.kv.keys`, `scratch.logits`, … */
  readonly name: string;
  readonly bytes: number;
}

/** Element type of keys and values: f32 only with the exact CPU path. */
export type CacheType = "f32" | "f16" | "q8" | "q4";

/** What is fixed for the life of a loaded model, beside the model itself. */
export interface RunShape {
  /** Longest sequence, tokens. */
  readonly context: number;
  /** KV pool of layers that see everything, tokens; a multiple of the page size. */
  readonly cacheTokens: number;
  readonly cacheType: CacheType;
  /** Sequences that may run in one step. */
  readonly maxSequences: number;
  /** Most tokens of one prefill step. */
  readonly prefillChunk: number;
}

/** The part of a model that one device runs. */
export interface StageShape {
  /** Contiguous, in order; may be empty for a stage that holds only the head. */
  readonly layers: readonly LayerSpec[];
  /** Holds the embeddings, if they lie on a device. */
  readonly first: boolean;
  /** Holds the final norm and the head. */
  readonly last: boolean;
}

export interface Packing {
  readonly name: "cpu" | "cpu-exact" | "cuda";
  /** Every region begins at a multiple of this, bytes. */
  readonly alignment: number;
  /** An arena's size is a multiple of this, bytes. */
  readonly granularity: number;
  /** Most bytes of one arena: 4 GiB for a WebAssembly memory, `Infinity` for a GPU. Layers are never cut. */
  readonly maxArena: number;
  /** Bytes at the beginning of every arena that belong to the program in it (static data, barriers). */
  readonly arenaHeader: number;
  /** Embeddings on the device of the first layer, or in host memory (then no device counts them). */
  readonly embeddings: "device" | "host";
  /** Cache types that this backend can run, best first. */
  readonly cacheTypes: readonly CacheType[];

  /** Weights of one layer: linears, norms, permutations. */
  layer(spec: ModelSpec, layer: LayerSpec): RegionSize[];
  /** KV pool of one layer for `tokens` tokens (a multiple of the page size). */
  kv(layer: LayerSpec, tokens: number, type: CacheType): RegionSize[];
  /** Embedding table; not asked when `embeddings` is `host`. */
  embedding(spec: ModelSpec): RegionSize[];
  /** Final norm and head; `shared`: tied embeddings lie in the same arena and serve as the head. */
  head(spec: ModelSpec, shared: boolean): RegionSize[];
  /**
   * Buffers of a step, in every arena of the stage that holds these layers. Sizes may depend on
   * which shapes of layers those are, not on how many: the planner asks once for each set.
   */
  scratch(spec: ModelSpec, stage: StageShape, run: RunShape): RegionSize[];
  /** What the driver takes for the steps that are captured, beside the arena; missing: nothing. */
  readonly captured?: CapturedSize;
}

/** Bytes that add up over the layers of a stage, and those that every stage takes. */
export interface CapturedSize {
  layer(spec: ModelSpec, layer: LayerSpec, run: RunShape): number;
  stage(spec: ModelSpec, run: RunShape): number;
}

// Structures of the kernels of attention and of what comes into its cache. launch/kernel-layouts.test.ts holds every size against the
// static_assert of the source.

import { layout } from "../launch/parameter-layout.js";

/** attention.cu, attention_quantized.cu: prompts */
export const ATTENTION = layout("AttentionParams", {
  q: "u64",
  kCache: "u64",
  vCache: "u64",
  y: "u64",
  positions: "u64",
  sequence: "u64",
  pages: "u64",
  tiles: "u64",
  heads: "i32",
  kvHeads: "i32",
  dim: "i32",
  maxPages: "i32",
  window: "i32",
  scale: "f32",
});

/** attention_step.cuh */
export const ATTENTION_STEP = layout("AttentionStepParams", {
  q: "u64",
  k: "u64",
  v: "u64",
  qNorm: "u64",
  kNorm: "u64",
  table: "u64",
  kCache: "u64",
  vCache: "u64",
  y: "u64",
  partial: "u64",
  positions: "u64",
  pages: "u64",
  heads: "i32",
  kvHeads: "i32",
  group: "i32",
  dim: "i32",
  maxPages: "i32",
  window: "i32",
  splits: "i32",
  least: "i32",
  scale: "f32",
  eps: "f32",
  ordered: "i32",
  unused: "i32",
});

export const ROPE_TABLE = layout("RopeTableParams", {
  halfTurns: "u64",
  frequencyRow: "u64",
  positions: "u64",
  table: "u64",
  halfDim: "i32",
  factor: "f32",
});

export const ROPE_KV = layout("RopeKvParams", {
  q: "u64",
  k: "u64",
  v: "u64",
  qNorm: "u64",
  kNorm: "u64",
  table: "u64",
  positions: "u64",
  sequence: "u64",
  pages: "u64",
  kCache: "u64",
  vCache: "u64",
  heads: "i32",
  kvHeads: "i32",
  dim: "i32",
  maxPages: "i32",
  eps: "f32",
  unused: "i32",
});

/** kv_cache.cu, for tests */
export const DEQUANTIZE_KV = layout("DequantizeKvParams", {
  from: "u64",
  to: "u64",
  pieces: "i32",
  dim: "i32",
  bits: "i32",
  isValue: "i32",
});

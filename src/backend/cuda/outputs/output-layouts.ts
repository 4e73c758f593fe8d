// Structures of the kernels of heads and of sample.cu. launch/kernel-layouts.test.ts holds every size against the
// static_assert of the source.

import { layout } from "../launch/parameter-layout.js";

/** linear_head.cu */
export const HEAD = layout("HeadParams", {
  weights: "u64",
  bias: "u64",
  residual: "u64",
  rows: "u64",
  norm: "u64",
  hiddenState: "u64",
  logits: "u64",
  slices: "u64",
  n: "i32",
  k: "i32",
  stages: "i32",
  eps: "f32",
});

/** linear_half_ring.cu */
export const HALF_RING = layout("HalfRingParams", {
  weights: "u64",
  bias: "u64",
  x: "u64",
  y: "u64",
  slices: "u64",
  m: "i32",
  n: "i32",
});

/** sample.cu */
export const INSPECT = layout("InspectParams", { logits: "u64", slices: "u64", vocab: "i32", slicesPerRow: "i32" });

export const CHOOSE = layout("ChooseParams", {
  logits: "u64",
  targets: "u64",
  slices: "u64",
  slots: "u64",
  pool: "u64",
  facts: "u64",
  ids: "u64",
  vocab: "i32",
  slicesPerRow: "i32",
});

/** What a row's token is chosen by: an element of `ChooseParams.slots`. */
export const SAMPLE_SLOT = layout("SampleSlot", {
  uniform: "f64",
  minDistance: "f64",
  topP: "f64",
  rate: "f32",
  rateRest: "f32",
  mode: "i32",
  topK: "i32",
  adjustmentsAt: "i32",
  adjustments: "i32",
  maskAt: "i32",
  maskWords: "i32",
  newestFactor: "f64",
});

/** An element of the lists that slots point to. */
export const ADJUSTMENT = layout("Adjustment", { factor: "f64", add: "f64", id: "i32", plain: "f32" });

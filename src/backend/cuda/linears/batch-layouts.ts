// Structures of the kernels of batches of tokens, and of RMSNorms, put off or not. launch/kernel-layouts.test.ts holds every size against the
// static_assert of the source.

import { layout } from "../launch/parameter-layout.js";

/** linear_batch.cu */
export const BATCH = layout("BatchParams", {
  weights0: "u64",
  weights1: "u64",
  weights2: "u64",
  x: "u64",
  pieces: "u64",
  n0: "i32",
  n1: "i32",
  n2: "i32",
  m: "i32",
  paired: "i32",
  slices: "i32",
  units: "i32",
  k: "i32",
  kValid: "i32",
  ldx: "i32",
  stages: "i32",
  unused: "i32",
});

export const BATCH_SUM = layout("BatchSumParams", {
  pieces: "u64",
  bias0: "u64",
  bias1: "u64",
  bias2: "u64",
  y0: "u64",
  y1: "u64",
  y2: "u64",
  residual: "u64",
  norm: "u64",
  n0: "i32",
  n1: "i32",
  n2: "i32",
  m: "i32",
  paired: "i32",
  slices: "i32",
  units: "i32",
  blocks: "i32",
  pieceTokens: "i32",
  eps: "f32",
});

/** linear_batch_wgmma.cu, behind the tensor map of x. */
export const BATCH_LINEAR = layout("BatchLinear", {
  weights0: "u64",
  weights1: "u64",
  weights2: "u64",
  bias0: "u64",
  bias1: "u64",
  bias2: "u64",
  y0: "u64",
  y1: "u64",
  y2: "u64",
  residual: "u64",
  pieces: "u64",
  n0: "i32",
  n1: "i32",
  n2: "i32",
  m: "i32",
  k: "i32",
  silu: "i32",
  units: "i32",
  ordered: "i32",
  unused: "u64",
});

/** linear_batch_wgmma.cu, behind that. */
export const DEFERRED_NORM = layout("DeferredNorm", {
  weight: "u64",
  squares: "u64",
  carried: "u64",
  factors: "u64",
  eps: "f32",
  unused0: "i32",
  unused1: "u64",
  unused2: "u64",
  unused3: "u64",
});

/** rms_norm_deferred of pointwise.cu */
export const DEFERRED_NORM_LAUNCH = layout("DeferredNormParams", {
  residual: "u64",
  weight: "u64",
  y: "u64",
  squares: "u64",
  carried: "u64",
  hidden: "i32",
  places: "i32",
  own: "i32",
  eps: "f32",
});

export const NORM = layout("NormParams", {
  residual: "u64",
  rows: "u64",
  weight: "u64",
  y: "u64",
  hiddenState: "u64",
  hidden: "i32",
  eps: "f32",
  ordered: "i32",
  unused: "i32",
});

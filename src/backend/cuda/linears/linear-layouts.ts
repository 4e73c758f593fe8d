// Structures of the kernels of linears: linear_quantized.cu, linear_stream.cu, linear_half*.cu, linear_prompt.cu, and of what is
// made ready for them. launch/kernel-layouts.test.ts holds every size against the
// static_assert of the source.

import { layout } from "../launch/parameter-layout.js";

/** linear_quantized.cu */
export const LINEAR = layout("LinearParams", {
  weights: "u64",
  x: "u64",
  permutation: "u64",
  bias: "u64",
  residual: "u64",
  y: "u64",
  m: "i32",
  n: "i32",
  k: "i32",
  kValid: "i32",
  ldx: "i32",
  ldy: "i32",
  zeroOffset: "i32",
  yIsF32: "i32",
});

/** linear_stream.cu */
export const STREAM = layout("StreamParams", {
  weights0: "u64",
  weights1: "u64",
  weights2: "u64",
  bias0: "u64",
  bias1: "u64",
  bias2: "u64",
  y0: "u64",
  y1: "u64",
  y2: "u64",
  x: "u64",
  norm: "u64",
  permutation: "u64",
  residual: "u64",
  n0: "i32",
  n1: "i32",
  n2: "i32",
  ldy0: "i32",
  ldy1: "i32",
  ldy2: "i32",
  m: "i32",
  k: "i32",
  kValid: "i32",
  ldx: "i32",
  yIsF32: "i32",
  silu: "i32",
  slab: "i32",
  stages: "i32",
  eps: "f32",
  unused: "i32",
});

/** linear_half.cu, linear_half_gemv.cu */
export const HALF_LINEAR = layout("HalfLinearParams", {
  weights: "u64",
  x: "u64",
  bias: "u64",
  residual: "u64",
  y: "u64",
  m: "i32",
  n: "i32",
  k: "i32",
  ldx: "i32",
  ldy: "i32",
  yIsF32: "i32",
});

/** linear_prompt.cu, behind its tensor maps */
export const PROMPT_LINEAR = layout("PromptLinear", {
  weights0: "u64",
  weights1: "u64",
  weights2: "u64",
  bias0: "u64",
  bias1: "u64",
  bias2: "u64",
  n0: "i32",
  n1: "i32",
  n2: "i32",
  m: "i32",
  k: "i32",
  form: "i32",
  silu: "i32",
  cut: "i32",
});

export const EXPAND = layout("ExpandParams", {
  weights: "u64",
  expanded: "u64",
  firstTile: "i32",
  tiles: "i32",
  k: "i32",
  ld: "i32",
  zeroOffset: "i32",
  unused: "i32",
});

export const GATHER = layout("GatherParams", { x: "u64", permutation: "u64", gathered: "u64", k: "i32", ldx: "i32" });

// Structures of the kernels that make weights ready while a model is loaded. launch/kernel-layouts.test.ts holds every size against the
// static_assert of the source.

import { layout } from "../launch/parameter-layout.js";

/** expand_irregular.cu */
export const EXPAND_IRREGULAR = layout("ExpandIrregularParams", {
  weights: "u64",
  groupOf: "u64",
  expanded: "u64",
  k: "i32",
  ld: "i32",
});

/** repack.cu */
export const REPACK_CODES = layout("RepackCodesParams", {
  source: "u64",
  destination: "u64",
  inverse: "u64",
  firstRow: "i32",
  rows: "i32",
  n: "i32",
  k: "i32",
});

export const REPACK_GROUPS = layout("RepackGroupsParams", {
  scales: "u64",
  zeros: "u64",
  destination: "u64",
  bad: "u64",
  groups: "i32",
  repeat: "i32",
  n: "i32",
  k: "i32",
  scalesAreF32: "i32",
  firstGroup: "i32",
  zeroOffset: "i32",
  unused: "i32",
});

export const DEQUANTIZE = layout("DequantizeParams", {
  source: "u64",
  scales: "u64",
  zeros: "u64",
  groupOf: "u64",
  destination: "u64",
  bad: "u64",
  firstRow: "i32",
  rows: "i32",
  n: "i32",
  k: "i32",
  bits: "i32",
  groupSize: "i32",
  zeroOffset: "i32",
  scalesAreF32: "i32",
});

export const WIDEN = layout("WidenParams", {
  source: "u64",
  destination: "u64",
  bad: "u64",
  count: "u64",
  kind: "i32",
  unused: "i32",
});

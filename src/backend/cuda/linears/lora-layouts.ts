// Structures of lora.cu. launch/kernel-layouts.test.ts holds every size against the
// static_assert of the source.

import { layout } from "../launch/parameter-layout.js";

/** lora.cu */
export const LORA_SHRINK = layout("LoraShrinkParams", {
  x: "u64",
  a0: "u64",
  a1: "u64",
  a2: "u64",
  owner0: "u64",
  owner1: "u64",
  owner2: "u64",
  weights: "u64",
  sequence: "u64",
  t: "u64",
  ranks0: "i32",
  ranks1: "i32",
  ranks2: "i32",
  m: "i32",
  k: "i32",
  adapters: "i32",
});

export const LORA_EXPAND = layout("LoraExpandParams", {
  t: "u64",
  b0: "u64",
  b1: "u64",
  b2: "u64",
  y0: "u64",
  y1: "u64",
  y2: "u64",
  ranks0: "i32",
  ranks1: "i32",
  ranks2: "i32",
  n0: "i32",
  n1: "i32",
  n2: "i32",
  m: "i32",
  yIsF32: "i32",
});

// Structures of the rest of pointwise.cu. launch/kernel-layouts.test.ts holds every size against the
// static_assert of the source.

import { layout } from "../launch/parameter-layout.js";

/** pointwise.cu */
export const EMBED = layout("EmbedParams", {
  table: "u64",
  ids: "u64",
  positions: "u64",
  residual: "u64",
  halfTurns: "u64",
  frequencyRow: "u64",
  angles: "u64",
  hidden: "i32",
  kind: "i32",
  halfDim: "i32",
  factor: "f32",
});

export const SILU_MUL = layout("SiluMulParams", { gate: "u64", up: "u64", y: "u64", count: "u64" });

export const COPY_ROWS = layout("CopyRowsParams", { from: "u64", to: "u64", cells: "u64" });

export const READ_MEMORY = layout("ReadMemoryParams", { from: "u64", sink: "u64", cells: "u64" });

export const FILL = layout("FillParams", { to: "u64", words: "u64", seed: "u64", asHalf: "i32", scale: "f32" });

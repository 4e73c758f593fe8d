// The one structure that each kernel takes, as kernels/*.cu declares it. A test holds every size against the static_assert of the
// source.

import { CHAIN, CHAIN_ATTENTION, CHAIN_ENDS, CHAIN_LAYER, CHAIN_SHAPE } from "./chain-layouts.js";
import { layout, type ParameterLayout } from "./parameter-layout.js";

export { type ParameterLayout, type ParameterValues, writeParameters, writeParametersAt } from "./parameter-layout.js";

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
  unused: "i32",
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

/** expand_irregular.cu */
export const EXPAND_IRREGULAR = layout("ExpandIrregularParams", {
  weights: "u64",
  groupOf: "u64",
  expanded: "u64",
  k: "i32",
  ld: "i32",
});

export const GATHER = layout("GatherParams", { x: "u64", permutation: "u64", gathered: "u64", k: "i32", ldx: "i32" });

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

export const SILU_MUL = layout("SiluMulParams", { gate: "u64", up: "u64", y: "u64", count: "u64" });

export const COPY_ROWS = layout("CopyRowsParams", { from: "u64", to: "u64", cells: "u64" });

export const READ_MEMORY = layout("ReadMemoryParams", { from: "u64", sink: "u64", cells: "u64" });

export const FILL = layout("FillParams", { to: "u64", words: "u64", seed: "u64", asHalf: "i32", scale: "f32" });

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

/** Every structure, for the test that holds them against the sources. */
export const ALL_PARAMETERS: readonly ParameterLayout[] = [
  LINEAR,
  STREAM,
  BATCH,
  CHAIN,
  CHAIN_SHAPE,
  CHAIN_ENDS,
  CHAIN_ATTENTION,
  CHAIN_LAYER,
  BATCH_SUM,
  BATCH_LINEAR,
  DEFERRED_NORM,
  HALF_LINEAR,
  HEAD,
  HALF_RING,
  PROMPT_LINEAR,
  EXPAND,
  EXPAND_IRREGULAR,
  GATHER,
  REPACK_CODES,
  REPACK_GROUPS,
  DEQUANTIZE,
  WIDEN,
  EMBED,
  NORM,
  DEFERRED_NORM_LAUNCH,
  ROPE_TABLE,
  ROPE_KV,
  DEQUANTIZE_KV,
  SILU_MUL,
  COPY_ROWS,
  READ_MEMORY,
  FILL,
  ATTENTION,
  ATTENTION_STEP,
  LORA_SHRINK,
  LORA_EXPAND,
  INSPECT,
  CHOOSE,
  SAMPLE_SLOT,
  ADJUSTMENT,
];

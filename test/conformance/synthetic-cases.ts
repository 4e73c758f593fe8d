// Every kind of checkpoint the program says it reads, as small random models: the table that
// each backend is tried on. A case names what differs from a small Llama with f16 weights.

import { gptqWeights, type SyntheticModel, smallLlama } from "../support/synthetic-checkpoint.js";
import type { GptqWeights } from "../support/synthetic-linear.js";

export interface SyntheticCase {
  readonly name: string;
  readonly model: SyntheticModel;
}

function model(name: string, changes: Partial<SyntheticModel>): SyntheticCase {
  return { name, model: { ...smallLlama, ...changes } };
}

function quantized(name: string, weights: Partial<GptqWeights>, changes: Partial<SyntheticModel> = {}): SyntheticCase {
  return model(name, { weights: { ...gptqWeights, ...weights }, ...changes });
}

const asymmetric = { symmetric: false } as const;
const wide = { hidden: 256, heads: 4, kvHeads: 2, headDim: 64, intermediate: 512 } as const;
// Sizes that are multiples of 8 (what 4-bit packing needs) and of no more.
const odd = { hidden: 72, heads: 3, kvHeads: 1, headDim: 24, intermediate: 104 } as const;

const bitsAndZeros: SyntheticCase[] = ([2, 3, 4, 8] as const).flatMap((bits) => [
  quantized(`${bits}-bit, symmetric, zeros v1`, { bits }),
  quantized(`${bits}-bit, symmetric, zeros v2`, { bits, zeros: "v2" }),
  quantized(`${bits}-bit, asymmetric, zeros v1, group 64`, { bits, ...asymmetric, groupSize: 64 }),
  quantized(`${bits}-bit, asymmetric, zeros v2, act-order`, { bits, ...asymmetric, zeros: "v2", order: "act-order" }),
  quantized(`${bits}-bit, one group`, { bits, groupSize: -1 }),
]);

const groups: SyntheticCase[] = [
  quantized("groups of 128", { groupSize: 128 }, wide),
  quantized("groups of 128, act-order", { groupSize: 128, order: "act-order" }, wide),
  quantized("groups of 128, 8-bit", { groupSize: 128, bits: 8, ...asymmetric }, wide),
  quantized("groups of 16", { groupSize: 16, ...asymmetric }),
  quantized("groups of 8", { groupSize: 8, ...asymmetric }),
  quantized("groups of 40, the last one short", { groupSize: 40, ...asymmetric }),
  quantized("groups of 100, the last one short, 8-bit", { groupSize: 100, bits: 8, zeros: "v2", ...asymmetric }),
  quantized("groups of 24, 3-bit", { groupSize: 24, bits: 3, ...asymmetric }),
  quantized("groups of 7", { groupSize: 7, ...asymmetric }),
  quantized("one group larger than the input", { groupSize: 1024 }),
];

const orders: SyntheticCase[] = [
  quantized("a g_idx that is sequential", { order: "sequential", ...asymmetric }),
  quantized("a g_idx in act-order, groups of 64", { order: "act-order", groupSize: 64 }),
  quantized("a g_idx in act-order, one group", { order: "act-order", groupSize: -1, ...asymmetric }),
  quantized("a g_idx in act-order, groups of 40", { order: "act-order", groupSize: 40, ...asymmetric }),
  quantized("a g_idx of unequal groups", { order: "irregular", ...asymmetric }),
  quantized("a g_idx of unequal groups, 3-bit", { order: "irregular", bits: 3, ...asymmetric }),
  quantized("a g_idx of unequal groups, 8-bit", { order: "irregular", bits: 8, groupSize: 64 }),
  quantized("a g_idx of zeros beside several groups", { order: "all-zero", ...asymmetric }),
];

const dtypes: SyntheticCase[] = [
  model("plain f16", {}),
  model("plain bf16", { weights: { kind: "plain", dtype: "bf16" } }),
  model("plain f32", { weights: { kind: "plain", dtype: "f32" } }),
  quantized("bf16 scales", { scaleDtype: "bf16", ...asymmetric }),
  quantized("f32 scales", { scaleDtype: "f32", ...asymmetric }),
];

const heads: SyntheticCase[] = [
  model("tied embeddings", { tied: true }),
  model("tied embeddings, bf16", { tied: true, weights: { kind: "plain", dtype: "bf16" } }),
  quantized("tied embeddings beside quantised layers", {}, { tied: true }),
  quantized("a quantised head", {}, { quantizedHead: true }),
  quantized("a quantised head, 3-bit, asymmetric", { bits: 3, ...asymmetric }, { quantizedHead: true }),
  quantized("a quantised head in act-order, 8-bit", { bits: 8, order: "act-order" }, { quantizedHead: true }),
  model("a vocabulary of 331", { vocab: 331 }),
];

const shapes: SyntheticCase[] = [
  model("as many kv heads as heads", { kvHeads: 4 }),
  model("one kv head", { kvHeads: 1 }),
  model("head_dim 16", { heads: 8, headDim: 16 }),
  model("head_dim 64, more than hidden / heads", { headDim: 64 }),
  model("head_dim 128", { heads: 2, kvHeads: 1, headDim: 128 }),
  model("head_dim 8, less than hidden / heads", { headDim: 8 }),
  model("odd sizes", odd),
  quantized("odd sizes, 4-bit", { groupSize: 24, ...asymmetric }, odd),
  quantized("odd sizes, 8-bit, act-order", { bits: 8, groupSize: 20, order: "act-order" }, odd),
  quantized("a model that spans three files", {}, { shards: 3 }),
  model("one layer", { layers: 1 }),
  model("an epsilon of 0.1", { normEps: 0.1 }),
];

const architectures: SyntheticCase[] = [
  model("llama with attention biases", { attentionBias: true }),
  model("llama with all biases", { attentionBias: true, mlpBias: true }),
  quantized("llama with all biases, 4-bit", {}, { attentionBias: true, mlpBias: true }),
  quantized("llama with all biases, act-order", { order: "act-order" }, { attentionBias: true, mlpBias: true }),
  model("mistral without a window", { architecture: "mistral" }),
  model("mistral with a window of 20", { architecture: "mistral", window: 20 }),
  quantized("mistral with a window of 33, 4-bit", {}, { architecture: "mistral", window: 33 }),
  model("qwen2", { architecture: "qwen2" }),
  quantized("qwen2, 4-bit", {}, { architecture: "qwen2" }),
  quantized("qwen2, 8-bit, tied", { bits: 8 }, { architecture: "qwen2", tied: true }),
  model("qwen2 with a window above layer 1", { architecture: "qwen2", window: 24, firstWindowedLayer: 1, layers: 3 }),
  model("qwen3", { architecture: "qwen3" }),
  model("qwen3, head_dim 48", { architecture: "qwen3", headDim: 48, tied: true, normEps: 1e-6 }),
  quantized("qwen3, 4-bit, act-order", { order: "act-order" }, { architecture: "qwen3" }),
  quantized("qwen3, 2-bit", { bits: 2 }, { architecture: "qwen3" }),
];

const yarn = { type: "yarn", theta: 10000, factor: 4, originalPositions: 64, betaFast: 32, betaSlow: 1 } as const;
const yarnDefaults = { attentionFactor: null, mscale: null, mscaleAllDim: null, truncate: true } as const;
const ropes: SyntheticCase[] = [
  model("rope with another base", { rope: { type: "default", theta: 1e6 } }),
  model("rope linear", { rope: { type: "linear", theta: 10000, factor: 2.5 } }),
  model("rope dynamic", { rope: { type: "dynamic", theta: 10000, factor: 3, maxPositions: 32 }, maxPositions: 32 }),
  model("rope llama3", {
    rope: { type: "llama3", theta: 5e5, factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalPositions: 48 },
  }),
  model("rope yarn", { rope: { ...yarn, ...yarnDefaults }, maxPositions: 256 }),
  model("rope yarn, not truncated, attention factor given", {
    rope: { ...yarn, ...yarnDefaults, attentionFactor: 1.3, truncate: false, betaFast: 20, betaSlow: 2 },
    maxPositions: 256,
  }),
  model("rope yarn with mscales", {
    rope: { ...yarn, ...yarnDefaults, mscale: 0.8, mscaleAllDim: 1.2 },
    maxPositions: 256,
  }),
];

const OLDER = "in the older spelling";

// Configs as transformers 4 wrote them: other keys for the rotation, and some left out.
const older: SyntheticCase[] = [
  model("as many kv heads as heads", { kvHeads: 4 }),
  ...ropes,
  ...architectures.filter(({ name }) => /window|qwen.$/.test(name)),
].map(({ name, model }) => ({ name: `${name}, ${OLDER}`, model: { ...model, keys: "transformers-4" } }));
const quantizeConfig: SyntheticCase[] = [
  quantized("quantize_config.json", {}, { quantizationIn: "quantize_config.json" }),
  quantized("quantize_config.json, zeros v2", { zeros: "v2", ...asymmetric }, { quantizationIn: "quantize_config.json" }),
  quantized("quantize_config.json without a format", asymmetric, {
    quantizationIn: "quantize_config.json",
    keys: "transformers-4",
  }),
];

/** All of them; each with a seed of its own. */
export const syntheticCases: readonly SyntheticCase[] = [
  ...bitsAndZeros,
  ...groups,
  ...orders,
  ...dtypes,
  ...heads,
  ...shapes,
  ...architectures,
  ...ropes,
  ...older,
  ...quantizeConfig,
].map(({ name, model }, i) => ({ name, model: { ...model, seed: 1000 + i } }));

/** Those of them whose config.json is in transformers 4's spelling. */
export const olderSpellings: readonly SyntheticCase[] = syntheticCases.filter(({ name }) => name.endsWith(OLDER));

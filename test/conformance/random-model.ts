// A random member of the family of models that the program reads: every property at once, in
// combinations that no table would list.

import { Random } from "../support/random.js";
import { gptqWeights, type SyntheticModel, smallLlama } from "../support/synthetic-checkpoint.js";
import type { GptqWeights, WeightFormat } from "../support/synthetic-linear.js";

/** Sizes must be multiples of so many for their packed values to fill whole words. */
const PACKED = { 2: 16, 3: 32, 4: 8, 8: 4 } as const;

export function randomModel(seed: number): SyntheticModel {
  const random = new Random(seed);
  const pick = <T>(choices: readonly T[]): T => choices[random.integer(choices.length)]!;
  const chance = (oneIn: number) => random.integer(oneIn) === 0;
  const architecture = pick(["llama", "mistral", "qwen2", "qwen3"] as const);
  const weights: WeightFormat = chance(5) ? { kind: "plain", dtype: pick(["f16", "bf16", "f32"] as const) } : randomGptq(random);
  const quantized = weights.kind === "gptq";
  const unit = quantized ? PACKED[weights.bits] : 1;
  const size = (least: number, spread: number, step = unit) => Math.ceil((least + random.integer(spread)) / step) * step;
  const kvHeads = pick([1, 2, 3]);
  const tied = chance(3);
  return {
    ...smallLlama,
    seed,
    architecture,
    layers: 1 + random.integer(3),
    hidden: size(40, 360),
    intermediate: size(40, 700),
    vocab: size(260, 300),
    kvHeads,
    heads: kvHeads * pick([1, 2, 3, 4]),
    headDim: size(8, 120, Math.max(unit, 2)),
    tied,
    attentionBias: (architecture === "llama" || architecture === "qwen3") && chance(3),
    mlpBias: architecture === "llama" && chance(4),
    window: architecture !== "llama" && chance(3) ? 5 + random.integer(40) : null,
    firstWindowedLayer: architecture === "mistral" ? 0 : random.integer(2),
    weights,
    quantizedHead: quantized && !tied && chance(3),
    quantizationIn: pick(["config.json", "quantize_config.json"] as const),
    keys: pick(["transformers-4", "transformers-5"] as const),
    shards: 1 + random.integer(3),
  };
}

function randomGptq(random: Random): GptqWeights {
  const pick = <T>(choices: readonly T[]): T => choices[random.integer(choices.length)]!;
  return {
    ...gptqWeights,
    bits: pick([2, 3, 4, 8] as const),
    groupSize: pick([-1, 8, 16, 32, 64, 128, 256, 5 + random.integer(100)]),
    zeros: pick(["v1", "v2"] as const),
    symmetric: random.integer(2) === 0,
    order: pick(["absent", "sequential", "act-order", "irregular", "all-zero"] as const),
    scaleDtype: pick(["f16", "bf16", "f32"] as const),
  };
}

// Small random checkpoints of every kind the program reads, made from a seed: the files as
// other programs would write them, and beside them the truth they mean, for the reference.
//
// Weights are scaled so that the model behaves like a trained one: attention that neither
// ignores nor copies, layers that outweigh the embedding, logits with a standard deviation of
// 1 to 3, and a few channels that are several times larger than the rest, which is what makes
// quantised activations hard.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DenseLinear, ReferenceLayer, ReferenceModel } from "../reference/model.js";
import type { ReferenceRope } from "../reference/rope.js";
import { type FloatType, roundedTo } from "./element-types.js";
import { Random } from "./random.js";
import { type WrittenTensor, writeWeights } from "./safetensors-writer.js";
import { quantizationOf, syntheticConfig } from "./synthetic-config.js";
import {
  floatTensor,
  type GptqMisreading,
  type GptqWeights,
  type PlainWeights,
  randomLinear,
  type SyntheticLinear,
  type WeightFormat,
} from "./synthetic-linear.js";
import { syntheticTokenizer } from "./synthetic-tokenizer.js";

export type SyntheticArchitecture = "llama" | "mistral" | "qwen2" | "qwen3";

/** Everything that tells one synthetic checkpoint from another. */
export interface SyntheticModel {
  readonly seed: number;
  readonly architecture: SyntheticArchitecture;
  readonly vocab: number;
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly intermediate: number;
  readonly maxPositions: number;
  readonly normEps: number;
  readonly rope: ReferenceRope;
  readonly tied: boolean;
  /** Biases of q, k, v (and, for llama, o), where the architecture's config can say so; qwen2 has q, k, v always. */
  readonly attentionBias: boolean;
  /** Biases of gate, up and down: llama only. */
  readonly mlpBias: boolean;
  /** Sliding window in tokens; `null`: none. */
  readonly window: number | null;
  /** Layers before this one see everything although there is a window (qwen2, qwen3). */
  readonly firstWindowedLayer: number;
  readonly weights: WeightFormat;
  /** GPTQ: also the head. */
  readonly quantizedHead: boolean;
  /** Where GPTQ's parameters are told. */
  readonly quantizationIn: "config.json" | "quantize_config.json";
  /** Spelling of the keys of config.json. */
  readonly keys: "transformers-4" | "transformers-5";
  readonly shards: number;
}

export const plainWeights: PlainWeights = { kind: "plain", dtype: "f16" };

export const gptqWeights: GptqWeights = {
  kind: "gptq",
  bits: 4,
  groupSize: 32,
  zeros: "v1",
  symmetric: true,
  order: "absent",
  scaleDtype: "f16",
};

/** A small Llama with plain f16 weights: cases name only what differs from it. */
export const smallLlama: SyntheticModel = {
  seed: 1,
  architecture: "llama",
  vocab: 320,
  hidden: 128,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  headDim: 32,
  intermediate: 256,
  maxPositions: 512,
  normEps: 1e-5,
  rope: { type: "default", theta: 10000 },
  tied: false,
  attentionBias: false,
  mlpBias: false,
  window: null,
  firstWindowedLayer: 0,
  weights: plainWeights,
  quantizedHead: false,
  quantizationIn: "config.json",
  keys: "transformers-5",
  shards: 1,
};

/** A checkpoint not yet written: tests may spoil any part of it first. */
export interface SyntheticFiles {
  readonly config: Record<string, unknown>;
  readonly quantizeConfig: Record<string, unknown> | null;
  readonly tensors: readonly WrittenTensor[];
  readonly truth: ReferenceModel;
  /** The model that a reader with this mistake would run. */
  readonly misread: (misreading: GptqMisreading) => ReferenceModel;
}

export function buildSynthetic(model: SyntheticModel): SyntheticFiles {
  const random = new Random(model.seed);
  const tensors: WrittenTensor[] = [];
  const readings = new Map<DenseLinear, SyntheticLinear["misread"]>();
  const float = model.weights.kind === "plain" ? model.weights.dtype : model.weights.scaleDtype;
  const linear = (name: string, inSize: number, out: number, bias: boolean, gain: number, format = model.weights) => {
    const made = randomLinear(random, { name, in: inSize, out, bias, deviation: gain / Math.sqrt(inSize) }, format);
    tensors.push(...made.tensors);
    readings.set(made.truth, made.misread);
    return made.truth;
  };
  const norm = (name: string, size: number) => {
    const made = normWeights(random, size, float);
    tensors.push(floatTensor(name, [size], made, float));
    return made;
  };

  const spread = model.tied ? 2 / Math.sqrt(model.hidden) : 0.5;
  const embedding = roundedTo(random.normals(model.vocab * model.hidden, spread), float);
  tensors.push(floatTensor("model.embed_tokens.weight", [model.vocab, model.hidden], embedding, float));
  const layers = Array.from({ length: model.layers }, (_, i) => randomLayer(model, i, linear, norm));
  const finalNorm = norm("model.norm.weight", model.hidden);
  const headFormat: WeightFormat = model.quantizedHead ? model.weights : { kind: "plain", dtype: float };
  const head = model.tied
    ? { in: model.hidden, out: model.vocab, weight: embedding, bias: null }
    : linear("lm_head", model.hidden, model.vocab, false, 1.5, headFormat);

  const { vocab, hidden, heads, kvHeads, headDim, normEps, rope } = model;
  const truth = { vocab, hidden, heads, kvHeads, headDim, normEps, rope, embedding, layers, finalNorm, head };
  const inQuantizeConfig = model.weights.kind === "gptq" && model.quantizationIn === "quantize_config.json";
  return {
    config: syntheticConfig(model),
    quantizeConfig: inQuantizeConfig ? quantizationOf(model.weights as GptqWeights, model) : null,
    tensors,
    truth,
    misread: (misreading) => withLinears(truth, (linear) => readings.get(linear)?.(misreading) ?? linear),
  };
}

function withLinears(model: ReferenceModel, change: (linear: DenseLinear) => DenseLinear): ReferenceModel {
  const layers = model.layers.map((layer) => ({
    ...layer,
    q: change(layer.q),
    k: change(layer.k),
    v: change(layer.v),
    o: change(layer.o),
    gate: change(layer.gate),
    up: change(layer.up),
    down: change(layer.down),
  }));
  return { ...model, layers, head: change(model.head) };
}

type LinearMaker = (name: string, inSize: number, out: number, bias: boolean, gain: number) => ReferenceLayer["q"];
type NormMaker = (name: string, size: number) => Float64Array;

function randomLayer(model: SyntheticModel, index: number, linear: LinearMaker, norm: NormMaker): ReferenceLayer {
  const prefix = `model.layers.${index}`;
  const { hidden, heads, kvHeads, headDim, intermediate } = model;
  const qkvBias = model.architecture === "qwen2" || model.attentionBias;
  const outBias = model.architecture !== "qwen2" && model.attentionBias;
  const headNorm = (name: string) => (model.architecture === "qwen3" ? norm(name, headDim) : null);
  return {
    inputNorm: norm(`${prefix}.input_layernorm.weight`, hidden),
    q: linear(`${prefix}.self_attn.q_proj`, hidden, heads * headDim, qkvBias, 1),
    k: linear(`${prefix}.self_attn.k_proj`, hidden, kvHeads * headDim, qkvBias, 1),
    v: linear(`${prefix}.self_attn.v_proj`, hidden, kvHeads * headDim, qkvBias, 1),
    o: linear(`${prefix}.self_attn.o_proj`, heads * headDim, hidden, outBias, 1),
    qNorm: headNorm(`${prefix}.self_attn.q_norm.weight`),
    kNorm: headNorm(`${prefix}.self_attn.k_norm.weight`),
    window: index >= model.firstWindowedLayer ? model.window : null,
    postAttentionNorm: norm(`${prefix}.post_attention_layernorm.weight`, hidden),
    gate: linear(`${prefix}.mlp.gate_proj`, hidden, intermediate, model.mlpBias, 1),
    up: linear(`${prefix}.mlp.up_proj`, hidden, intermediate, model.mlpBias, 1),
    down: linear(`${prefix}.mlp.down_proj`, intermediate, hidden, model.mlpBias, 1.5),
  };
}

/** Around 1, with one channel in 32 three times as large. */
function normWeights(random: Random, size: number, type: FloatType): Float64Array {
  const values = random.normals(size, 0.1).map((value) => (1 + value) * (random.integer(32) === 0 ? 3 : 1));
  return roundedTo(values, type);
}

/** Writes the checkpoint, with a byte-level tokenizer that fits its vocabulary. */
export function writeSynthetic(folder: string, model: SyntheticModel, files: SyntheticFiles): void {
  const json = (name: string, value: unknown) => writeFileSync(join(folder, name), JSON.stringify(value, null, 2));
  json("config.json", files.config);
  if (files.quantizeConfig) json("quantize_config.json", files.quantizeConfig);
  json("tokenizer.json", syntheticTokenizer(model.vocab));
  json("tokenizer_config.json", { tokenizer_class: "PreTrainedTokenizerFast", bos_token: "<s>", eos_token: "</s>" });
  writeWeights(folder, files.tensors, model.shards);
}

export interface SyntheticCheckpoint extends Disposable, SyntheticFiles {
  readonly folder: string;
}

/** Makes a checkpoint in a temporary folder, which goes when it is disposed of. */
export function makeSynthetic(model: SyntheticModel): SyntheticCheckpoint {
  const folder = mkdtempSync(join(tmpdir(), "exllama-synthetic-"));
  const files = buildSynthetic(model);
  writeSynthetic(folder, model, files);
  return { ...files, folder, [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }) };
}

// config.json and the tensors' headers → ModelSpec. The config says what the model is, the
// tensors say how its weights are kept, and where the two disagree the model is refused:
// before a byte of memory is taken for it.

import type { CheckpointHeaders } from "../checkpoint/checkpoint.js";
import type { Architecture } from "./architectures/architecture.js";
import { findArchitecture } from "./architectures/registry.js";
import { ConfigValues, describe } from "./config-values.js";
import { ModelConfigError } from "./errors.js";
import { readExperts } from "./experts.js";
import { refuseUnknownFeatures } from "./features.js";
import { LinearReader } from "./linears.js";
import { readQuantization } from "./quantization.js";
import { type RopeOverrides, readRope } from "./rope-config.js";
import type { AttentionSpec, GatedMlpSpec, LayerSpec, LinearSpec, ModelSpec, NormSpec } from "./spec.js";
import { TensorLedger } from "./tensor-ledger.js";

/** What the largest known models have, times some. Sizes beyond are typing errors or attacks. */
const LIMITS = {
  layers: { min: 1, max: 10_000 },
  hidden: { min: 1, max: 2 ** 20 },
  intermediate: { min: 1, max: 2 ** 22 },
  heads: { min: 1, max: 2 ** 14 },
  headDim: { min: 2, max: 2 ** 13 },
  vocabulary: { min: 1, max: 2 ** 24 },
  epsilon: { min: 0, max: 1 },
} as const;

/** Token ids. */
const ID = { min: 0, max: 2 ** 31 - 1 };

/** Sizes that all layers share. */
interface Sizes {
  readonly hidden: number;
  readonly intermediate: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocabulary: number;
  readonly epsilon: number;
}

/**
 * Reads what a checkpoint is.
 *
 * @param overrides RoPE settings over the model's own
 * @throws {ModelConfigError} config values missing, contradictory or out of range
 * @throws {UnsupportedModelError} a model or feature that would not be run rightly
 * @throws {MissingTensorError | TensorShapeError | TensorDtypeError | UnexpectedTensorError} tensors against config
 * @throws {UsageError} overrides out of range
 */
export function readModel(headers: CheckpointHeaders, overrides: RopeOverrides = {}): ModelSpec {
  const config = new ConfigValues(headers.configs.config, "config.json");
  const architecture = findArchitecture(config);
  refuseUnknownFeatures(config);
  const sizes = readSizes(config, architecture, headers.tensors);
  const { rope, contextLimit } = readRope(config, sizes.headDim, architecture.defaultRopeTheta, overrides);
  const windows = architecture.windows(config, sizes.layers);
  const gptq = readQuantization(config, headers.configs.quantize);
  const ids = readIds(config, headers.configs.generation, architecture, sizes.vocabulary);

  const ledger = new TensorLedger(headers.tensors);
  const linears = new LinearReader(ledger, gptq);
  const embedding = "model.embed_tokens.weight";
  const embeddingDtype = ledger.takeFloats(embedding, [sizes.vocabulary, sizes.hidden]);
  const layers: LayerSpec[] = [];
  for (let index = 0; index < sizes.layers; index++)
    layers.push(readLayer(index, windows[index]!, config, architecture, sizes, ledger, linears));
  const finalNorm = readNorm("model.norm.weight", sizes.hidden, sizes, ledger);
  const tied = isTied(config, ledger);
  const head = tied
    ? ({
        name: "lm_head",
        in: sizes.hidden,
        out: sizes.vocabulary,
        bias: false,
        format: { kind: "plain", dtype: embeddingDtype },
      } as const)
    : readHead(sizes, linears);
  ledger.checkNothingLeft();

  return {
    architecture: architecture.modelType,
    vocabSize: sizes.vocabulary,
    hiddenSize: sizes.hidden,
    layers,
    embedding: { tensor: embedding, dtype: embeddingDtype },
    finalNorm,
    head,
    tiedEmbeddings: tied,
    rope,
    contextLimit,
    ...ids,
    planOnly: layers.some(({ mlp }) => mlp.kind === "moe")
      ? `${architecture.modelType} is a mixture of experts, which can be planned but not run yet`
      : null,
  };
}

function readSizes(config: ConfigValues, { defaultHeadDim }: Architecture, tensors: CheckpointHeaders["tensors"]): Sizes {
  const hidden = config.integer("hidden_size", LIMITS.hidden);
  const heads = config.integer("num_attention_heads", LIMITS.heads);
  const headDim = readHeadDim(config, hidden, heads, defaultHeadDim);
  // Old configs leave the number out where it equals the heads, and some where it equals a
  // default of their time: the first layer's keys show which.
  const kvHeads = config.integer("num_key_value_heads", LIMITS.heads, shownKvHeads(tensors, headDim) ?? heads);
  if (heads % kvHeads !== 0)
    throw new ModelConfigError(`${config.where}: ${heads} attention heads cannot share ${kvHeads} key-value heads evenly`);
  return {
    hidden,
    heads,
    kvHeads,
    headDim,
    intermediate: config.integer("intermediate_size", LIMITS.intermediate),
    layers: config.integer("num_hidden_layers", LIMITS.layers),
    vocabulary: config.integer("vocab_size", LIMITS.vocabulary),
    epsilon: config.number("rms_norm_eps", LIMITS.epsilon, 1e-6),
  };
}

function readHeadDim(config: ConfigValues, hidden: number, heads: number, fallback: number | "split"): number {
  // An explicit null means hidden size / heads even where the architecture has a number of its own.
  const split = fallback === "split" || config.isNull("head_dim");
  if (!config.has("head_dim") && split && hidden % heads !== 0)
    throw new ModelConfigError(
      `${config.where}: hidden_size ${hidden} is not a multiple of ${heads} heads, and there is no head_dim`,
    );
  const headDim = config.integer("head_dim", LIMITS.headDim, split ? hidden / heads : fallback);
  if (headDim % 2 !== 0 || headDim > LIMITS.headDim.max)
    throw new ModelConfigError(
      `${config.where}: heads of ${headDim} cannot be rotated in pairs; an even head_dim up to ${LIMITS.headDim.max} is needed`,
    );
  return headDim;
}

function shownKvHeads(tensors: CheckpointHeaders["tensors"], headDim: number): number | null {
  const keys = "model.layers.0.self_attn.k_proj";
  const rows = tensors.get(`${keys}.weight`)?.shape[0] ?? tensors.get(`${keys}.qweight`)?.shape[1] ?? 0;
  const count = rows / headDim;
  return Number.isInteger(count) && count >= 1 && count <= LIMITS.heads.max ? count : null;
}

function readLayer(
  index: number,
  window: number | null,
  config: ConfigValues,
  architecture: Architecture,
  sizes: Sizes,
  ledger: TensorLedger,
  linears: LinearReader,
): LayerSpec {
  const name = `model.layers.${index}`;
  const sparse = architecture.experts?.isSparse(config, index) ?? false;
  return {
    index,
    inputNorm: readNorm(`${name}.input_layernorm.weight`, sizes.hidden, sizes, ledger),
    attention: readAttention(`${name}.self_attn`, window, config, architecture, sizes, ledger, linears),
    postAttentionNorm: readNorm(`${name}.post_attention_layernorm.weight`, sizes.hidden, sizes, ledger),
    mlp: sparse
      ? readExperts(name, architecture.experts!, config, sizes.hidden, linears)
      : readMlp(`${name}.mlp`, config, architecture, sizes, linears),
  };
}

function readAttention(
  name: string,
  window: number | null,
  config: ConfigValues,
  architecture: Architecture,
  sizes: Sizes,
  ledger: TensorLedger,
  linears: LinearReader,
): AttentionSpec {
  const { heads, kvHeads, headDim, hidden } = sizes;
  const all = architecture.attentionBias === "config" && config.boolean("attention_bias", false);
  const qkv = all || architecture.attentionBias === "qkv";
  const headNorm = (which: string) =>
    architecture.headNorms ? readNorm(`${name}.${which}_norm.weight`, headDim, sizes, ledger) : null;
  return {
    heads,
    kvHeads,
    headDim,
    window,
    q: linears.read(`${name}.q_proj`, hidden, heads * headDim, qkv),
    k: linears.read(`${name}.k_proj`, hidden, kvHeads * headDim, qkv),
    v: linears.read(`${name}.v_proj`, hidden, kvHeads * headDim, qkv),
    o: linears.read(`${name}.o_proj`, heads * headDim, hidden, all),
    qNorm: headNorm("q"),
    kNorm: headNorm("k"),
  };
}

function readMlp(
  name: string,
  config: ConfigValues,
  architecture: Architecture,
  { hidden, intermediate }: Sizes,
  linears: LinearReader,
): GatedMlpSpec {
  const bias = architecture.mlpBias === "config" && config.boolean("mlp_bias", false);
  return {
    kind: "gated",
    gate: linears.read(`${name}.gate_proj`, hidden, intermediate, bias),
    up: linears.read(`${name}.up_proj`, hidden, intermediate, bias),
    down: linears.read(`${name}.down_proj`, intermediate, hidden, bias),
  };
}

function readNorm(tensor: string, size: number, { epsilon }: Sizes, ledger: TensorLedger): NormSpec {
  ledger.takeFloats(tensor, [size]);
  return { tensor, size, eps: epsilon };
}

/**
 * A head of its own is used whenever the checkpoint has one: transformers 5 ties the two only
 * if the head is missing or equal to the embeddings, and equal ones give the same logits.
 */
function isTied(config: ConfigValues, ledger: TensorLedger): boolean {
  const tied = config.boolean("tie_word_embeddings", false);
  return tied && !ledger.has("lm_head.weight") && !ledger.has("lm_head.qweight");
}

function readHead(sizes: Sizes, linears: LinearReader): LinearSpec {
  return linears.read(
    "lm_head",
    sizes.hidden,
    sizes.vocabulary,
    false,
    "Where the embeddings serve as the head, config.json says tie_word_embeddings: true.",
  );
}

function readIds(
  config: ConfigValues,
  generation: unknown,
  architecture: Architecture,
  vocabulary: number,
): Pick<ModelSpec, "bosId" | "eosIds"> {
  const generationConfig = generation === null ? null : new ConfigValues(generation, "generation_config.json");
  const source = (key: string) => (generationConfig?.has(key) ? generationConfig : config);
  const bosSource = source("bos_token_id");
  const bosId = bosSource.isNull("bos_token_id") ? null : bosSource.integer("bos_token_id", ID, architecture.defaultBosId);
  // An end that can never come is harmless; a beginning without an embedding is not.
  if (bosId !== null && bosId >= vocabulary)
    throw new ModelConfigError(`${bosSource.where}: bos_token_id ${bosId} is outside the vocabulary of ${vocabulary}`);
  return { bosId, eosIds: readEosIds(source("eos_token_id"), architecture.defaultEosId) };
}

function readEosIds(values: ConfigValues, fallback: number | null): number[] {
  const list = values.raw("eos_token_id");
  if (Array.isArray(list)) {
    if (list.length > 1000 || !list.every((id) => Number.isSafeInteger(id) && id >= ID.min && id <= ID.max))
      throw new ModelConfigError(`${values.where}: eos_token_id is ${describe(list)}; token ids are needed`);
    return [...new Set(list as number[])];
  }
  const id = values.isNull("eos_token_id") ? null : values.integer("eos_token_id", ID, fallback);
  return id === null ? [] : [id];
}

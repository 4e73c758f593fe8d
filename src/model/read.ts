// config.json and the tensors' headers → ModelSpec. The config says what the model is, the
// tensors say how its weights are kept, and where the two disagree the model is refused:
// before a byte of memory is taken for it.

import type { CheckpointHeaders } from "../checkpoint/checkpoint.js";
import { findArchitecture } from "./architectures/registry.js";
import { ConfigValues } from "./config-values.js";
import { refuseUnknownFeatures } from "./features.js";
import { LayerReader } from "./layers.js";
import { LinearReader } from "./linears.js";
import { readQuantization } from "./quantization.js";
import { type RopeOverrides, readRope } from "./rope-config.js";
import { readSizes, type Sizes } from "./sizes.js";
import type { LinearSpec, ModelSpec, PlainFormat } from "./spec.js";
import { TensorLedger } from "./tensor-ledger.js";
import { readTokenIds } from "./token-ids.js";

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
  const ids = readTokenIds(config, headers.configs.generation, architecture, sizes.vocabulary);

  const ledger = new TensorLedger(headers.tensors);
  const linears = new LinearReader(ledger, gptq);
  const embedding = "model.embed_tokens.weight";
  const embeddingDtype = ledger.takeFloats(embedding, [sizes.vocabulary, sizes.hidden]);
  const reader = new LayerReader(config, architecture, sizes, ledger, linears);
  const layers = windows.map((window, index) => reader.read(index, window));
  const finalNorm = reader.norm("model.norm.weight");
  const tied = isTied(config, ledger);
  const head = tied ? tiedHead(sizes, embeddingDtype) : readHead(sizes, linears);
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

/**
 * A head of its own is used whenever the checkpoint has one: transformers 5 ties the two only
 * if the head is missing or equal to the embeddings, and equal ones give the same logits.
 */
function isTied(config: ConfigValues, ledger: TensorLedger): boolean {
  const tied = config.boolean("tie_word_embeddings", false);
  return tied && !ledger.has("lm_head.weight") && !ledger.has("lm_head.qweight");
}

function tiedHead({ hidden, vocabulary }: Sizes, dtype: PlainFormat["dtype"]): LinearSpec {
  return { name: "lm_head", in: hidden, out: vocabulary, bias: false, format: { kind: "plain", dtype } };
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

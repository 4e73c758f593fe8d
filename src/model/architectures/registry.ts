// Every architecture this program knows, and, for those people are likely to try, why it
// does not know them: running a model as if it were a Llama gives fluent nonsense.

import { type ConfigValues, describe } from "../config-values.js";
import { ModelConfigError, UnsupportedModelError } from "../errors.js";
import type { Architecture } from "./architecture.js";
import { llama } from "./llama.js";
import { mistral } from "./mistral.js";
import { mixtral } from "./mixtral.js";
import { qwen2Moe, qwen3Moe } from "./qwen-moe.js";
import { qwen2 } from "./qwen2.js";
import { qwen3 } from "./qwen3.js";

export const ARCHITECTURES: readonly Architecture[] = [llama, mistral, qwen2, qwen3, mixtral, qwen2Moe, qwen3Moe];

/** First letters of a model_type → what such models have that this program has not. */
const UNKNOWN: readonly (readonly [prefix: string, reason: string])[] = [
  ["gemma", "its norms add one to their weights, its MLP uses GELU and its embeddings are scaled"],
  ["phi3", "it joins q, k and v (and gate and up) in one tensor"],
  ["phi", "it has layer norms with biases and rotates only a part of each head"],
  ["cohere", "it has layer norms, parallel blocks and scaled logits"],
  ["command", "it has layer norms, parallel blocks and scaled logits"],
  ["granite", "it scales embeddings, residuals and logits"],
  ["deepseek", "it has multi-head latent attention and shared experts"],
  ["kimi", "it has multi-head latent attention and shared experts"],
  ["gpt_oss", "it has attention sinks and experts with biases"],
  ["gpt", "it has layer norms and another MLP"],
  ["opt", "it has learned positions and layer norms"],
  ["bloom", "it has ALiBi positions and layer norms"],
  ["mpt", "it has ALiBi positions and layer norms"],
  ["falcon", "it has layer norms and parallel blocks"],
  ["stablelm", "it has layer norms and rotates only a part of each head"],
  ["starcoder", "it has layer norms and another MLP"],
  ["internlm", "it joins q, k and v in one tensor"],
  ["baichuan", "it joins q, k and v in one tensor"],
  ["chatglm", "it joins q, k and v in one tensor and rotates half of each head"],
  ["glm", "it rotates only a part of each head"],
  ["olmo", "it places its norms elsewhere"],
  ["smollm3", "some of its layers have no positions"],
  ["llama4", "it has experts, chunked attention and layers without positions"],
  ["mllama", "it reads images"],
  ["llava", "it reads images"],
  ["mistral3", "it reads images"],
  ["ministral", "its layers have windows and positions of their own"],
  ["qwen2_vl", "it reads images"],
  ["qwen2_5_vl", "it reads images"],
  ["qwen3_vl", "it reads images"],
  ["qwen3_next", "it has linear attention"],
  ["qwen3_5", "it has linear attention"],
  ["mamba", "it is a state-space model"],
  ["rwkv", "it is a recurrent model"],
  ["jamba", "it is partly a state-space model"],
  ["bert", "it is an encoder"],
  ["t5", "it has an encoder"],
  ["qwen", "it joins q, k and v in one tensor"],
];

/**
 * Finds the architecture that config.json names.
 *
 * @throws {UnsupportedModelError} for any other, with the reason or the nearest known name
 */
export function findArchitecture(config: ConfigValues): Architecture {
  const classes = config.raw("architectures");
  const className = Array.isArray(classes) && typeof classes[0] === "string" ? classes[0] : null;
  const modelType = config.string("model_type", null);
  if (modelType === null && className === null)
    throw new ModelConfigError(`${config.where} names neither model_type nor architectures`, {
      hint: `model_type can be ${names()}.`,
    });
  const found = ARCHITECTURES.find((known) =>
    modelType === null ? known.className === className : known.modelType === modelType,
  );
  if (!found) throw unknown(modelType ?? className!);
  // A head for classification, say, has other tensors than a language model's.
  if (className && /For(?!CausalLM)/.test(className))
    throw new UnsupportedModelError(`the checkpoint is a ${describe(className)}, not a language model (${found.className})`);
  return found;
}

function unknown(name: string): UnsupportedModelError {
  const reason = UNKNOWN.find(([prefix]) => name.toLowerCase().startsWith(prefix))?.[1];
  const near = ARCHITECTURES.map((known) => known.modelType).filter((known) => distance(known, name.toLowerCase()) <= 2)[0];
  return new UnsupportedModelError(
    `models of type ${describe(name)} are not supported${reason ? `: ${reason}` : near ? `; did you mean ${near}?` : ""}`,
    { hint: `Supported are ${names()}.`, details: { modelType: name.slice(0, 200), didYouMean: near ?? null } },
  );
}

function names(): string {
  return ARCHITECTURES.map((known) => known.modelType).join(", ");
}

/** Edit distance; names longer than any model type are far from all of them. */
function distance(a: string, b: string): number {
  if (b.length > 40) return Number.POSITIVE_INFINITY;
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
    row = next;
  }
  return row[b.length]!;
}

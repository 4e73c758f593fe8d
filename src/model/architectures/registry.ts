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

/** Other model types → what such models have that this program has not. The first match counts. */
const UNKNOWN: readonly (readonly [RegExp, string])[] = [
  [/^(mllama|llava|mistral3|pixtral|qwen\d?(_5)?_?vl|paligemma|idefics|internvl|smolvlm)/, "it reads images"],
  [/^gemma|^recurrent_?gemma/, "its norms add one to their weights, its MLP uses GELU and its embeddings are scaled"],
  [/^phi(3|4|moe)/, "it joins q, k and v (and gate and up) in one tensor"],
  [/^phi/, "it has layer norms with biases and rotates only a part of each head"],
  [/^(cohere|command)/, "it has layer norms, parallel blocks and scaled logits"],
  [/^(granite|minicpm)/, "it scales embeddings, residuals and logits"],
  [/^(deepseek|kimi)/, "it has multi-head latent attention and shared experts"],
  [/^gpt_?oss/, "it has attention sinks and experts with biases"],
  [/^(bloom|mpt)/, "it has ALiBi positions and layer norms"],
  [/^(gpt|opt|falcon|stablelm|starcoder|codegen|nemotron)/, "it has layer norms and another MLP"],
  [/^(internlm|baichuan|chatglm|qwen$|qwenlmhead)/, "it joins q, k and v in one tensor"],
  [/^glm/, "it rotates only a part of each head"],
  [/^olmo/, "it places its norms elsewhere"],
  [/^smollm3/, "some of its layers have no positions"],
  [/^llama4/, "it has experts, chunked attention and layers without positions"],
  [/^ministral/, "its layers have windows and positions of their own"],
  [/^qwen3_(next|5)/, "it has linear attention"],
  [/^(mamba|falcon_mamba|rwkv|jamba|bamba|zamba)/, "it is not, or not only, attention"],
  [/(^|_)(bert|t5|bart)|^(roberta|xlm)/, "it is no decoder"],
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
  const reason = UNKNOWN.find(([pattern]) => pattern.test(name.slice(0, 100).toLowerCase()))?.[1];
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

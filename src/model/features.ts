// Config keys that change what a Llama-like model computes, in ways this program does not
// know. Fine-tunes and cousins carry them under a familiar model_type; ignoring one gives
// fluent nonsense, so each is refused unless its value means "off".

import { type ConfigValues, describe } from "./config-values.js";
import { UnsupportedModelError } from "./errors.js";

/** Key → the values that change nothing. `null` and a missing key always change nothing. */
const OFF: Readonly<Record<string, readonly unknown[]>> = {
  // logits and scores
  attn_logit_softcapping: [],
  final_logit_softcapping: [],
  logit_scale: [1],
  logits_scaling: [1],
  attention_multiplier: [],
  query_pre_attn_scalar: [],
  attn_scale: [],
  softmax_scale: [],
  attn_temperature_tuning: [false, 0],
  // embeddings and residuals
  embedding_multiplier: [1],
  embedding_scale: [1],
  scale_embedding: [false],
  scale_emb: [1],
  residual_multiplier: [1],
  residual_scale: [1],
  scale_depth: [],
  dim_model_base: [],
  position_embedding_type: ["rope", "rotary"],
  alibi: [false],
  rope_interleave: [false],
  rope_interleaved: [false],
  use_mrope: [false],
  // attention
  clip_qkv: [],
  qk_layernorm: [false],
  use_qk_norm: [false],
  attention_chunk_size: [],
  no_rope_layers: [],
  no_rope_layer_interval: [],
  is_causal: [true],
  causal: [true],
  use_bidirectional_attention: [false],
  add_cross_attention: [false],
  is_encoder_decoder: [false],
  kv_lora_rank: [],
  q_lora_rank: [],
  // blocks
  parallel_attn: [false],
  use_parallel_residual: [false],
  mlp_type: ["gated"],
  norm_type: ["rmsnorm", "rms_norm"],
  // experts where the architecture has none
  num_nextn_predict_layers: [0],
};

/** SiLU, under the names that transformers gives it. */
const ACTIVATIONS = ["silu", "swish"];

/** @throws {UnsupportedModelError} naming the key, its value and what could be run */
export function refuseUnknownFeatures(config: ConfigValues): void {
  for (const [key, off] of Object.entries(OFF)) {
    const value = config.raw(key);
    if (value !== undefined && !off.includes(value))
      throw new UnsupportedModelError(`${config.where}: ${key} is ${describe(value)}, which this program cannot honour`, {
        hint: off.length > 0 ? `Only ${off.map(describe).join(" or ")} can be run.` : "Only models without it can be run.",
        details: { key },
      });
  }
  for (const key of ["hidden_act", "hidden_activation"]) {
    const activation = config.raw(key);
    if (activation !== undefined && !ACTIVATIONS.includes(activation as string))
      throw new UnsupportedModelError(`${config.where}: ${key} is ${describe(activation)}; only silu can be run`, {
        details: { key },
      });
  }
}

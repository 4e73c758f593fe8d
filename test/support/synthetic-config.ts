// config.json as transformers 4 and 5 write it for each architecture, and the parameters of
// a GPTQ quantiser.

import type { ReferenceRope } from "../reference/rope.js";
import type { SyntheticArchitecture, SyntheticModel } from "./synthetic-checkpoint.js";
import type { GptqWeights } from "./synthetic-linear.js";

const className: Readonly<Record<SyntheticArchitecture, string>> = {
  llama: "LlamaForCausalLM",
  mistral: "MistralForCausalLM",
  qwen2: "Qwen2ForCausalLM",
  qwen3: "Qwen3ForCausalLM",
};

const torchName = { f16: "float16", bf16: "bfloat16", f32: "float32" } as const;

export function syntheticConfig(model: SyntheticModel): Record<string, unknown> {
  const old = model.keys === "transformers-4";
  const dtype = torchName[model.weights.kind === "plain" ? model.weights.dtype : model.weights.scaleDtype];
  // Old configs leave head_dim out where it is hidden / heads; Qwen3's never do.
  const plainHeadDim = model.headDim * model.heads === model.hidden && model.architecture !== "qwen3";
  return {
    architectures: [className[model.architecture]],
    model_type: model.architecture,
    vocab_size: model.vocab,
    hidden_size: model.hidden,
    intermediate_size: model.intermediate,
    num_hidden_layers: model.layers,
    num_attention_heads: model.heads,
    // Old Llama configs without grouped heads leave this out.
    ...(old && model.kvHeads === model.heads && model.architecture === "llama" ? {} : { num_key_value_heads: model.kvHeads }),
    ...(old && plainHeadDim ? {} : { head_dim: model.headDim }),
    max_position_embeddings: model.maxPositions,
    rms_norm_eps: model.normEps,
    hidden_act: "silu",
    initializer_range: 0.02,
    use_cache: true,
    bos_token_id: 1,
    eos_token_id: 2,
    tie_word_embeddings: model.tied,
    [old ? "torch_dtype" : "dtype"]: dtype,
    transformers_version: old ? "4.36.2" : "5.17.0",
    ...ropeKeys(model.rope, old),
    ...architectureKeys(model, old),
    ...(model.weights.kind === "gptq" && model.quantizationIn === "config.json"
      ? { quantization_config: { quant_method: "gptq", ...quantizationOf(model.weights, model) } }
      : {}),
  };
}

function architectureKeys(model: SyntheticModel, old: boolean): Record<string, unknown> {
  const { window, architecture } = model;
  switch (architecture) {
    case "llama":
      return { attention_bias: model.attentionBias, mlp_bias: model.mlpBias, pretraining_tp: 1 };
    case "mistral":
      return { sliding_window: window };
    case "qwen2":
    case "qwen3": {
      const types = Array.from({ length: model.layers }, (_, i) =>
        window !== null && i >= model.firstWindowedLayer ? "sliding_attention" : "full_attention",
      );
      return {
        use_sliding_window: window !== null,
        // Written even where it is switched off, as published Qwen checkpoints do.
        sliding_window: window ?? (old ? 4096 : null),
        max_window_layers: window === null ? model.layers : model.firstWindowedLayer,
        ...(old ? {} : { layer_types: types }),
        ...(architecture === "qwen3" ? { attention_bias: model.attentionBias } : {}),
      };
    }
  }
}

function ropeKeys(rope: ReferenceRope, old: boolean): Record<string, unknown> {
  const scaling = scalingOf(rope);
  if (!old) return { rope_parameters: { rope_theta: rope.theta, rope_type: "default", ...scaling } };
  if (!scaling) return { rope_theta: rope.theta, rope_scaling: null };
  // Early configs said `type`.
  const { rope_type, ...fields } = scaling;
  const early = rope.type === "linear" || rope.type === "dynamic";
  return { rope_theta: rope.theta, rope_scaling: { [early ? "type" : "rope_type"]: rope_type, ...fields } };
}

function scalingOf(rope: ReferenceRope): Record<string, unknown> | null {
  switch (rope.type) {
    case "default":
    case "ntk": // not a config's: --rope-alpha asks for it
      return null;
    case "linear":
    case "dynamic":
      return { rope_type: rope.type, factor: rope.factor };
    case "llama3":
      return {
        rope_type: "llama3",
        factor: rope.factor,
        low_freq_factor: rope.lowFreqFactor,
        high_freq_factor: rope.highFreqFactor,
        original_max_position_embeddings: rope.originalPositions,
      };
    case "yarn":
      return {
        rope_type: "yarn",
        factor: rope.factor,
        original_max_position_embeddings: rope.originalPositions,
        beta_fast: rope.betaFast,
        beta_slow: rope.betaSlow,
        ...(rope.attentionFactor === null ? {} : { attention_factor: rope.attentionFactor }),
        ...(rope.mscale === null ? {} : { mscale: rope.mscale }),
        ...(rope.mscaleAllDim === null ? {} : { mscale_all_dim: rope.mscaleAllDim }),
        ...(rope.truncate ? {} : { truncate: false }),
      };
  }
}

/** What quantize_config.json holds. */
export function quantizationOf(weights: GptqWeights, model: SyntheticModel): Record<string, unknown> {
  return {
    bits: weights.bits,
    group_size: weights.groupSize,
    desc_act: weights.order === "act-order",
    sym: weights.symmetric,
    // Files from before the second format say nothing and mean the first.
    ...(model.keys === "transformers-4" && weights.zeros === "v1"
      ? {}
      : { checkpoint_format: weights.zeros === "v1" ? "gptq" : "gptq_v2" }),
    lm_head: model.quantizedHead,
    damp_percent: 0.01,
    static_groups: false,
    true_sequential: true,
  };
}

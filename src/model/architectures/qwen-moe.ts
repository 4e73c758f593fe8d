// Qwen2 and Qwen3 with experts in (some of) the layers. Planned, not run.

import { type ConfigValues, describe } from "../config-values.js";
import { ModelConfigError } from "../errors.js";
import type { Architecture, ExpertsLayout } from "./architecture.js";
import { qwen2 } from "./qwen2.js";
import { qwen3 } from "./qwen3.js";
import { noWindows } from "./windows.js";

const experts: ExpertsLayout = {
  router: "mlp.gate",
  expert: "mlp.experts",
  gate: "gate_proj",
  up: "up_proj",
  down: "down_proj",
  countKey: "num_experts",
  perTokenKey: "num_experts_per_tok",
  sizeKey: "moe_intermediate_size",
  shared: null,
  isSparse,
};

export const qwen2Moe: Architecture = {
  ...qwen2,
  modelType: "qwen2_moe",
  className: "Qwen2MoeForCausalLM",
  windows: noUsedWindows,
  experts: {
    ...experts,
    shared: { expert: "mlp.shared_expert", gate: "mlp.shared_expert_gate", sizeKey: "shared_expert_intermediate_size" },
  },
};

export const qwen3Moe: Architecture = {
  ...qwen3,
  modelType: "qwen3_moe",
  className: "Qwen3MoeForCausalLM",
  defaultHeadDim: "split",
  windows: noUsedWindows,
  experts,
};

/** Experts in every `decoder_sparse_step`th layer, but not in `mlp_only_layers`. */
function isSparse(config: ConfigValues, index: number): boolean {
  const dense = config.raw("mlp_only_layers") ?? [];
  if (!Array.isArray(dense))
    throw new ModelConfigError(`${config.where}: mlp_only_layers is ${describe(dense)}; a list of layer numbers is needed`);
  const step = config.integer("decoder_sparse_step", { min: 1, max: 1e6 }, 1);
  return !dense.includes(index) && (index + 1) % step === 0;
}

/** The two differ in which layers get a window; no published checkpoint uses one. */
function noUsedWindows(config: ConfigValues, layerCount: number): (number | null)[] {
  if (config.boolean("use_sliding_window", false))
    throw new ModelConfigError(`${config.where}: use_sliding_window is not known for ${config.raw("model_type")} models`);
  return noWindows(config, layerCount);
}

// What tells one architecture of the Llama family from another, as data. Defaults are those
// of the architecture's config class in transformers: an older config.json leaves out what
// equals them.

import type { ConfigValues } from "../config-values.js";

export interface Architecture {
  /** `model_type` in config.json. */
  readonly modelType: string;
  /** Class name in `architectures`, for configs without a model_type. */
  readonly className: string;
  /**
   * Which attention linears have a bias: `config` = all four if `attention_bias` is true,
   * `qkv` = q, k and v always, `none`.
   */
  readonly attentionBias: "config" | "qkv" | "none";
  /** `config` = gate, up and down if `mlp_bias` is true. */
  readonly mlpBias: "config" | "none";
  /** RMS norms over each head of q and k before RoPE. */
  readonly headNorms: boolean;
  /** Head size where the config names none; `split` = hidden size / heads. */
  readonly defaultHeadDim: number | "split";
  readonly defaultRopeTheta: number;
  /** Ids where neither config.json nor generation_config.json names them. */
  readonly defaultBosId: number | null;
  readonly defaultEosId: number | null;
  /** Attention window of every layer, `null` = unlimited. */
  windows(config: ConfigValues, layerCount: number): (number | null)[];
  /** Mixture of experts, or `null`. */
  readonly experts: ExpertsLayout | null;
}

/** Names and sizes of a mixture of experts; tensor names are relative to `model.layers.N`. */
export interface ExpertsLayout {
  readonly router: string;
  /** Prefix of expert e is `${expert}.${e}`. */
  readonly expert: string;
  readonly gate: string;
  readonly up: string;
  readonly down: string;
  /** Config keys. */
  readonly countKey: string;
  readonly perTokenKey: string;
  readonly sizeKey: string;
  /** An expert that every token passes, with a gate of its own, or `null`. */
  readonly shared: { readonly expert: string; readonly gate: string; readonly sizeKey: string } | null;
  /** Whether layer `index` has experts; the others have a plain gated MLP. */
  isSparse(config: ConfigValues, index: number): boolean;
}

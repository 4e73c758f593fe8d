// A decoder, described by data: what the planner sums, what the loaders pack and what the
// kernels run. Llama, Mistral, Qwen2 and Qwen3 differ only in the values here; the files
// under architectures/ say how each one's config.json becomes such values.

import type { AdapterSpec } from "./adapter.js";

/** Weights kept as numbers: `[out, in]`, row-major. */
export interface PlainFormat {
  readonly kind: "plain";
  readonly dtype: "f16" | "bf16" | "f32";
}

/**
 * GPTQ weights: w = (q − zero) · scale, with `qweight` i32 `[in·bits/32, out]`, `qzeros` i32
 * `[groups, out·bits/32]`, `scales` `[groups, out]` and, where `gIdx`, `g_idx` i32 `[in]`.
 */
export interface GptqFormat {
  readonly kind: "gptq";
  readonly bits: 2 | 3 | 4 | 8;
  /** Input rows that share a scale; −1 in a config has become `in` here. */
  readonly groupSize: number;
  /** `v1` stores (zero − 1) mod 2^bits (checkpoint_format "gptq"), `v2` the zero itself ("gptq_v2"). */
  readonly zeros: "v1" | "v2";
  /** A g_idx tensor exists. Whether it permutes anything only its contents show. */
  readonly gIdx: boolean;
  /** Dtype of `scales`. */
  readonly scaleDtype: "f16" | "bf16" | "f32";
}

export type LinearFormat = PlainFormat | GptqFormat;

/** y[out] = W[out, in] · x[in] (+ bias[out]). */
export interface LinearSpec {
  /** Tensor name prefix such as `model.layers.0.self_attn.q_proj`; `${name}.weight`, `${name}.qweight`, … */
  readonly name: string;
  readonly in: number;
  readonly out: number;
  /** A `${name}.bias` tensor exists and is added. */
  readonly bias: boolean;
  readonly format: LinearFormat;
  /** Rank of each of the model's adapters here, 0 where one leaves it alone; missing where all do. */
  readonly adapterRanks?: readonly number[];
}

/** RMS norm: x / sqrt(mean(x²) + eps) · weight. */
export interface NormSpec {
  /** Full tensor name of the weight `[size]`. */
  readonly tensor: string;
  readonly size: number;
  readonly eps: number;
}

export interface AttentionSpec {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** A query at position p sees keys p − window + 1 … p; `null`: all before it. */
  readonly window: number | null;
  readonly q: LinearSpec;
  readonly k: LinearSpec;
  readonly v: LinearSpec;
  readonly o: LinearSpec;
  /** RMS norms over each head's headDim before RoPE (Qwen3), or `null`. */
  readonly qNorm: NormSpec | null;
  readonly kNorm: NormSpec | null;
}

/** down(silu(gate(x)) · up(x)). */
export interface GatedMlpSpec {
  readonly kind: "gated";
  readonly gate: LinearSpec;
  readonly up: LinearSpec;
  readonly down: LinearSpec;
}

/** Mixture of experts: planned (every expert counted), not run. */
export interface MoeMlpSpec {
  readonly kind: "moe";
  readonly router: LinearSpec;
  /** A shared expert, which every token passes, is the last one. */
  readonly experts: readonly GatedMlpSpec[];
  /** Weighs the shared expert (one output); missing where there is none. */
  readonly sharedGate?: LinearSpec;
}

export interface LayerSpec {
  readonly index: number;
  readonly inputNorm: NormSpec;
  readonly attention: AttentionSpec;
  readonly postAttentionNorm: NormSpec;
  readonly mlp: GatedMlpSpec | MoeMlpSpec;
}

/** Rotary position embedding, rotate-half form. `rope.ts` turns it into frequencies. */
export type RopeSpec = { readonly theta: number } & (
  | { readonly kind: "default" }
  | { readonly kind: "linear"; readonly factor: number }
  /** ExLlama's alpha: base = theta · alpha^(d/(d−2)). */
  | { readonly kind: "ntk"; readonly alpha: number }
  | { readonly kind: "dynamic"; readonly factor: number; readonly originalContext: number }
  | {
      readonly kind: "llama3";
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalContext: number;
    }
  | {
      readonly kind: "yarn";
      readonly factor: number;
      readonly originalContext: number;
      readonly betaFast: number;
      readonly betaSlow: number;
      /** Multiplies cos and sin. */
      readonly attentionFactor: number;
      readonly truncate: boolean;
    }
);

export interface ModelSpec {
  /** Key of the file under architectures/: `llama`, `mistral`, `qwen2`, `qwen3`, … */
  readonly architecture: string;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly layers: readonly LayerSpec[];
  /** `[vocabSize, hiddenSize]`. */
  readonly embedding: { readonly tensor: string; readonly dtype: "f16" | "bf16" | "f32" };
  readonly finalNorm: NormSpec;
  /** When `tiedEmbeddings`, its weight is the embedding's tensor (`head.name + ".weight"` names it all the same). */
  readonly head: LinearSpec;
  readonly tiedEmbeddings: boolean;
  readonly rope: RopeSpec;
  /** Longest sequence the model is made for, after its RoPE scaling; `null` where the config names none. */
  readonly contextLimit: number | null;
  /** From config.json, overridden by generation_config.json. */
  readonly bosId: number | null;
  readonly eosIds: readonly number[];
  /** Why this model can be planned but not run (mixture of experts), or `null`. */
  readonly planOnly: string | null;
  /** Loaded beside the weights; missing where there are none. */
  readonly adapters?: readonly AdapterSpec[];
}

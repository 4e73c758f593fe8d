// Models that exist only as shapes: enough to plan for, no weights. Sizes are those of the
// published Llama models, quantised with GPTQ.

import type { GatedMlpSpec, GptqFormat, LayerSpec, LinearFormat, LinearSpec, ModelSpec } from "../../src/model/spec.js";

export interface Shape {
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** One value for all layers, or one per layer. */
  readonly intermediate: number | readonly number[];
  readonly vocab: number;
  readonly format?: LinearFormat;
  /** Per layer; default: none sees less than everything. */
  readonly windows?: readonly (number | null)[];
  readonly tied?: boolean;
  readonly contextLimit?: number | null;
  /** Mixture of so many experts per layer. */
  readonly experts?: number;
}

export const gptq4: GptqFormat = { kind: "gptq", bits: 4, groupSize: 128, zeros: "v1", gIdx: false, scaleDtype: "f16" };
export const plain16: LinearFormat = { kind: "plain", dtype: "f16" };

export const llama7b: Shape = {
  layers: 32,
  hidden: 4096,
  heads: 32,
  kvHeads: 32,
  headDim: 128,
  intermediate: 11008,
  vocab: 32000,
};
export const llama13b: Shape = {
  layers: 40,
  hidden: 5120,
  heads: 40,
  kvHeads: 40,
  headDim: 128,
  intermediate: 13824,
  vocab: 32000,
};
export const llama70b: Shape = {
  layers: 80,
  hidden: 8192,
  heads: 64,
  kvHeads: 8,
  headDim: 128,
  intermediate: 28672,
  vocab: 32000,
};
export const llama3_8b: Shape = {
  layers: 32,
  hidden: 4096,
  heads: 32,
  kvHeads: 8,
  headDim: 128,
  intermediate: 14336,
  vocab: 128256,
};

/** A ModelSpec of this shape; GPTQ 4-bit g128 and no context limit unless it says otherwise. */
export function makeSpec(shape: Shape): ModelSpec {
  const { hidden, vocab } = shape;
  const layers = Array.from({ length: shape.layers }, (_, index) => makeLayer(shape, index));
  return {
    architecture: "llama",
    vocabSize: vocab,
    hiddenSize: hidden,
    layers,
    embedding: { tensor: "model.embed_tokens.weight", dtype: "f16" },
    finalNorm: { tensor: "model.norm.weight", size: hidden, eps: 1e-5 },
    head: { name: "lm_head", in: hidden, out: vocab, bias: false, format: plain16 },
    tiedEmbeddings: shape.tied ?? false,
    rope: { kind: "default", theta: 10000 },
    contextLimit: shape.contextLimit ?? null,
    bosId: 1,
    eosIds: [2],
    planOnly: shape.experts ? "mixture of experts" : null,
  };
}

function makeLayer(shape: Shape, index: number): LayerSpec {
  const { hidden, heads, kvHeads, headDim, format = gptq4 } = shape;
  const name = `model.layers.${index}`;
  const linear = (part: string, inputs: number, out: number): LinearSpec => ({
    name: `${name}.${part}`,
    in: inputs,
    out,
    bias: false,
    format,
  });
  const norm = (part: string) => ({ tensor: `${name}.${part}.weight`, size: hidden, eps: 1e-5 });
  const intermediate = typeof shape.intermediate === "number" ? shape.intermediate : shape.intermediate[index]!;
  const gated = (part: string): GatedMlpSpec => ({
    kind: "gated",
    gate: linear(`${part}.gate_proj`, hidden, intermediate),
    up: linear(`${part}.up_proj`, hidden, intermediate),
    down: linear(`${part}.down_proj`, intermediate, hidden),
  });
  return {
    index,
    inputNorm: norm("input_layernorm"),
    attention: {
      heads,
      kvHeads,
      headDim,
      window: shape.windows?.[index] ?? null,
      q: linear("self_attn.q_proj", hidden, heads * headDim),
      k: linear("self_attn.k_proj", hidden, kvHeads * headDim),
      v: linear("self_attn.v_proj", hidden, kvHeads * headDim),
      o: linear("self_attn.o_proj", heads * headDim, hidden),
      qNorm: null,
      kNorm: null,
    },
    postAttentionNorm: norm("post_attention_layernorm"),
    mlp: shape.experts
      ? {
          kind: "moe",
          router: { ...linear("block_sparse_moe.gate", hidden, shape.experts), format: plain16 },
          experts: Array.from({ length: shape.experts }, (_, expert) => gated(`block_sparse_moe.experts.${expert}`)),
        }
      : gated("mlp"),
  };
}

import { describe, expect, it } from "vitest";
import type { CheckpointHeaders, TensorInfo } from "../checkpoint/checkpoint.js";
import { countParameters, describeQuantization } from "./describe.js";
import { readModel } from "./read.js";
import type { MoeMlpSpec } from "./spec.js";

const [hidden, heads, kvHeads, headDim, vocabulary] = [64, 4, 2, 16, 100];

/** A mixture of experts as far as headers show it. */
class Headers implements CheckpointHeaders {
  readonly source = "experts";
  readonly tensors = new Map<string, TensorInfo>();
  readonly configs;

  constructor(config: object) {
    this.configs = {
      config: {
        hidden_size: hidden,
        num_attention_heads: heads,
        num_key_value_heads: kvHeads,
        head_dim: headDim,
        vocab_size: vocabulary,
        num_hidden_layers: 2,
        ...config,
      },
      generation: null,
      quantize: null,
    };
    this.add("model.embed_tokens.weight", vocabulary, hidden);
    this.add("lm_head.weight", vocabulary, hidden);
    this.add("model.norm.weight", hidden);
    for (const layer of ["model.layers.0", "model.layers.1"]) {
      this.add(`${layer}.input_layernorm.weight`, hidden);
      this.add(`${layer}.post_attention_layernorm.weight`, hidden);
      this.add(`${layer}.self_attn.q_proj.weight`, heads * headDim, hidden);
      this.add(`${layer}.self_attn.k_proj.weight`, kvHeads * headDim, hidden);
      this.add(`${layer}.self_attn.v_proj.weight`, kvHeads * headDim, hidden);
      this.add(`${layer}.self_attn.o_proj.weight`, hidden, heads * headDim);
    }
  }

  add(name: string, ...shape: number[]): this {
    const bytes = 2 * shape.reduce((product, size) => product * size, 1);
    this.tensors.set(name, { name, dtype: "BF16", shape, file: "model.safetensors", start: 0, bytes });
    return this;
  }

  gated(name: string, size: number, [gate, up, down] = ["gate_proj", "up_proj", "down_proj"]): this {
    return this.add(`${name}.${gate}.weight`, size, hidden)
      .add(`${name}.${up}.weight`, size, hidden)
      .add(`${name}.${down}.weight`, hidden, size);
  }
}

function mixtral(): Headers {
  const headers = new Headers({ model_type: "mixtral", intermediate_size: 96, num_local_experts: 4, num_experts_per_tok: 2 });
  for (const layer of [0, 1]) {
    headers.add(`model.layers.${layer}.block_sparse_moe.gate.weight`, 4, hidden);
    for (let expert = 0; expert < 4; expert++)
      headers.gated(`model.layers.${layer}.block_sparse_moe.experts.${expert}`, 96, ["w1", "w3", "w2"]);
  }
  return headers;
}

describe("a mixture of experts", () => {
  it("is planned with all its experts, and not run", () => {
    const spec = readModel(mixtral());
    expect(spec.planOnly).toMatch(/mixtral is a mixture of experts/);
    const mlp = spec.layers[1]!.mlp as MoeMlpSpec;
    expect(mlp.router).toMatchObject({ in: hidden, out: 4 });
    expect(mlp.experts).toHaveLength(4);
    expect(mlp.experts[3]).toMatchObject({
      gate: { in: hidden, out: 96 },
      down: { name: "model.layers.1.block_sparse_moe.experts.3.w2", in: 96 },
    });
    expect(describeQuantization(spec, false)).toBe("bf16");
  });

  it("counts every weight as a parameter", () => {
    const headers = mixtral();
    const elements = [...headers.tensors.values()].reduce((sum, { bytes }) => sum + bytes / 2, 0);
    expect(countParameters(readModel(headers))).toBe(elements);
  });

  it("may have a shared expert with its gate, and layers without experts", () => {
    const headers = new Headers({
      model_type: "qwen2_moe",
      intermediate_size: 96,
      moe_intermediate_size: 32,
      shared_expert_intermediate_size: 48,
      num_experts: 3,
      num_experts_per_tok: 2,
      decoder_sparse_step: 2,
    });
    for (const layer of [0, 1])
      for (const part of ["q", "k", "v"])
        headers.add(`model.layers.${layer}.self_attn.${part}_proj.bias`, (part === "q" ? heads : kvHeads) * headDim);
    headers.gated("model.layers.0.mlp", 96).add("model.layers.1.mlp.gate.weight", 3, hidden);
    for (let expert = 0; expert < 3; expert++) headers.gated(`model.layers.1.mlp.experts.${expert}`, 32);
    headers.gated("model.layers.1.mlp.shared_expert", 48).add("model.layers.1.mlp.shared_expert_gate.weight", 1, hidden);
    const spec = readModel(headers);
    expect(spec.layers.map(({ mlp }) => mlp.kind)).toEqual(["gated", "moe"]);
    const mlp = spec.layers[1]!.mlp as MoeMlpSpec;
    expect(mlp.experts.map(({ gate }) => gate.out)).toEqual([32, 32, 32, 48]);
    expect(mlp.sharedGate).toMatchObject({ in: hidden, out: 1 });
  });

  it("may leave single layers without experts", () => {
    const headers = new Headers({
      model_type: "qwen3_moe",
      intermediate_size: 96,
      moe_intermediate_size: 32,
      num_experts: 2,
      num_experts_per_tok: 1,
      mlp_only_layers: [1],
    });
    for (const layer of [0, 1])
      for (const part of ["q", "k"]) headers.add(`model.layers.${layer}.self_attn.${part}_norm.weight`, headDim);
    headers.add("model.layers.0.mlp.gate.weight", 2, hidden).gated("model.layers.1.mlp", 96);
    for (let expert = 0; expert < 2; expert++) headers.gated(`model.layers.0.mlp.experts.${expert}`, 32);
    expect(readModel(headers).layers.map(({ mlp }) => mlp.kind)).toEqual(["moe", "gated"]);
  });

  it.each<[string, object, RegExp]>([
    ["no experts", { num_local_experts: 0 }, /num_local_experts is 0/],
    ["more than any model has", { num_local_experts: 1e6 }, /num_local_experts/],
    ["more for each token than there are", { num_experts_per_tok: 5 }, /5 experts per token are more than the 4/],
  ])("is refused with %s", (_, config, message) => {
    const headers = mixtral();
    Object.assign(headers.configs.config, config);
    expect(() => readModel(headers)).toThrow(
      expect.objectContaining({ code: "MODEL_CONFIG", message: expect.stringMatching(message) }),
    );
  });
});

// Checkpoints with one thing wrong, and those that look wrong and are not.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { buildSynthetic, gptqWeights, type SyntheticModel, smallLlama } from "../../test/support/synthetic-checkpoint.js";
import type { CheckpointHeaders, TensorInfo } from "../checkpoint/checkpoint.js";
import { ExllamaError } from "../errors.js";
import { readModel } from "./read.js";

/** Headers that can be spoiled. */
interface Draft {
  config: Record<string, unknown>;
  generation: unknown;
  quantize: unknown;
  readonly tensors: Map<string, TensorInfo>;
}

/** Made once for each variant: quantising random weights takes a while. */
const made = new Map<string, Draft>();

function draft(variant: Partial<SyntheticModel> = {}): Draft {
  const key = JSON.stringify(variant);
  const base = made.get(key) ?? build(variant);
  made.set(key, base);
  return { ...base, config: { ...base.config }, tensors: new Map(base.tensors) };
}

function build(variant: Partial<SyntheticModel>): Draft {
  const { config, quantizeConfig, tensors } = buildSynthetic({ ...smallLlama, layers: 1, ...variant });
  const infos = tensors.map(({ name, dtype, shape, data }): [string, TensorInfo] => [
    name,
    { name, dtype, shape, file: "model.safetensors", start: 0, bytes: data.length },
  ]);
  return { config, generation: null, quantize: quantizeConfig, tensors: new Map(infos) };
}

function headers({ config, generation, quantize, tensors }: Draft): CheckpointHeaders {
  return { source: "draft", configs: { config, generation, quantize }, tensors };
}

function read(spoil: (draft: Draft) => void, variant: Partial<SyntheticModel> = {}) {
  const spoiled = draft(variant);
  spoil(spoiled);
  return readModel(headers(spoiled));
}

const gptq: Partial<SyntheticModel> = { weights: { ...gptqWeights, order: "sequential" } };
const q = "model.layers.0.self_attn.q_proj";

function change(tensors: Draft["tensors"], name: string, values: Partial<TensorInfo>): void {
  tensors.set(name, { ...tensors.get(name)!, ...values });
}

function add(tensors: Draft["tensors"], name: string, shape: number[], dtype: TensorInfo["dtype"] = "F16"): void {
  tensors.set(name, { name, dtype, shape, file: "model.safetensors", start: 0, bytes: 0 });
}

function quantization({ config }: Draft, values: object): void {
  config.quantization_config = { ...(config.quantization_config as object), ...values };
}

type Case = [string, (draft: Draft) => void, string, RegExp, Partial<SyntheticModel>?];

describe("readModel refuses", () => {
  it.each<Case>([
    [
      "no model type",
      ({ config }) => Object.assign(config, { model_type: null, architectures: null }),
      "MODEL_CONFIG",
      /neither model_type nor/,
    ],
    [
      "another family",
      ({ config }) => Object.assign(config, { model_type: "gemma2" }),
      "MODEL_UNSUPPORTED",
      /"gemma2" are not supported: its norms/,
    ],
    [
      "a misspelt type",
      ({ config }) => Object.assign(config, { model_type: "lama" }),
      "MODEL_UNSUPPORTED",
      /did you mean llama\?/,
    ],
    [
      "an unheard-of type",
      ({ config }) => Object.assign(config, { model_type: "zzz" }),
      "MODEL_UNSUPPORTED",
      /"zzz" are not supported$/,
    ],
    [
      "a classifier",
      ({ config }) => Object.assign(config, { architectures: ["LlamaForSequenceClassification"] }),
      "MODEL_UNSUPPORTED",
      /not a language model/,
    ],
    [
      "another activation",
      ({ config }) => Object.assign(config, { hidden_act: "gelu" }),
      "MODEL_UNSUPPORTED",
      /hidden_act is "gelu"/,
    ],
    [
      "soft-capped logits",
      ({ config }) => Object.assign(config, { final_logit_softcapping: 30 }),
      "MODEL_UNSUPPORTED",
      /softcapping is 30/,
    ],
    [
      "scaled logits",
      ({ config }) => Object.assign(config, { logit_scale: 0.0625 }),
      "MODEL_UNSUPPORTED",
      /logit_scale is 0\.0625/,
    ],
    [
      "scaled embeddings",
      ({ config }) => Object.assign(config, { embedding_multiplier: 12 }),
      "MODEL_UNSUPPORTED",
      /embedding_multiplier is 12/,
    ],
    [
      "layers of another kind",
      ({ config }) => Object.assign(config, { layer_types: ["chunked_attention"] }),
      "MODEL_UNSUPPORTED",
      /chunked_attention/,
    ],
    [
      "windows that Llama has not",
      ({ config }) => Object.assign(config, { layer_types: ["sliding_attention"] }),
      "MODEL_UNSUPPORTED",
      /sliding_attention/,
    ],
    ["too few layer types", ({ config }) => Object.assign(config, { layer_types: [] }), "MODEL_CONFIG", /a list of 1 names/],
    [
      "windows that are switched off",
      ({ config }) => Object.assign(config, { layer_types: ["sliding_attention"] }),
      "MODEL_CONFIG",
      /use_sliding_window is not true/,
      { architecture: "qwen2" },
    ],
    [
      "a window of 0",
      ({ config }) => Object.assign(config, { sliding_window: 0 }),
      "MODEL_CONFIG",
      /sliding_window is 0/,
      { architecture: "mistral" },
    ],
  ])("%s", (_, spoil, code, message, variant) => {
    expect(() => read(spoil, variant)).toThrow(expect.objectContaining({ code, message: expect.stringMatching(message) }));
  });

  it.each<[string, unknown]>([
    ["num_hidden_layers", 0],
    ["num_hidden_layers", 1e9],
    ["num_hidden_layers", 1.5],
    ["num_hidden_layers", "1"],
    ["hidden_size", 0],
    ["hidden_size", 2 ** 40],
    ["hidden_size", undefined],
    ["num_attention_heads", 0],
    ["num_attention_heads", -4],
    ["num_key_value_heads", 0],
    ["num_key_value_heads", 3],
    ["head_dim", 0],
    ["head_dim", 33],
    ["head_dim", 1e6],
    ["intermediate_size", []],
    ["vocab_size", Number.MAX_SAFE_INTEGER],
    ["rms_norm_eps", -1],
    ["rms_norm_eps", "small"],
    ["attention_bias", "no"],
    ["tie_word_embeddings", 1],
    ["bos_token_id", 320],
    ["bos_token_id", -1],
    ["eos_token_id", [2, "3"]],
    ["eos_token_id", 1.5],
  ])("%s of %j, before anything is allocated for it", (key, value) => {
    expect(() => read(({ config }) => Object.assign(config, { [key]: value }))).toThrow(
      expect.objectContaining({ code: "MODEL_CONFIG", message: expect.stringMatching(/^config\.json/) }),
    );
  });

  it.each<unknown>([null, [], "llama", 4])("a config that is %j", (config) => {
    expect(() => readModel({ ...headers(draft()), configs: { config, generation: null, quantize: null } })).toThrow(
      expect.objectContaining({ code: "MODEL_CONFIG" }),
    );
  });

  it.each<Case>([
    ["a missing tensor", ({ tensors }) => tensors.delete(`${q}.weight`), "TENSOR_MISSING", /q_proj\.weight is missing/],
    ["no tensors at all", ({ tensors }) => tensors.clear(), "TENSOR_MISSING", /embed_tokens/],
    ["a missing head", ({ tensors }) => tensors.delete("lm_head.weight"), "TENSOR_MISSING", /lm_head\.weight/],
    ["a missing bias", ({ tensors }) => tensors.delete(`${q}.bias`), "TENSOR_MISSING", /q_proj\.bias/, { architecture: "qwen2" }],
    [
      "a missing head norm",
      ({ tensors }) => tensors.delete("model.layers.0.self_attn.k_norm.weight"),
      "TENSOR_MISSING",
      /k_norm/,
      { architecture: "qwen3" },
    ],
    ["fewer layers than said", ({ config }) => Object.assign(config, { num_hidden_layers: 2 }), "TENSOR_MISSING", /layers\.1\./],
    [
      "more layers than said",
      ({ tensors }) => add(tensors, "model.layers.1.input_layernorm.weight", [128]),
      "TENSOR_UNEXPECTED",
      /layers\.1\./,
    ],
    [
      "a weight of another shape",
      ({ tensors }) => change(tensors, `${q}.weight`, { shape: [128, 64] }),
      "TENSOR_SHAPE",
      /\[128, 64\]; config\.json needs \[128, 128\]/,
    ],
    [
      "a weight of another rank",
      ({ tensors }) => change(tensors, `${q}.weight`, { shape: [16384] }),
      "TENSOR_SHAPE",
      /\[16384\]/,
    ],
    ["another vocabulary", ({ config }) => Object.assign(config, { vocab_size: 321 }), "TENSOR_SHAPE", /embed_tokens/],
    [
      "8-bit floats",
      ({ tensors }) => change(tensors, `${q}.weight`, { dtype: "F8_E4M3" }),
      "TENSOR_DTYPE",
      /F8_E4M3; F16 or BF16 or F32/,
    ],
    [
      "whole numbers for a norm",
      ({ tensors }) => change(tensors, "model.norm.weight", { dtype: "I32" }),
      "TENSOR_DTYPE",
      /model\.norm\.weight/,
    ],
    ["a LoRA mixed in", ({ tensors }) => add(tensors, `${q}.lora_A.weight`, [8, 128]), "TENSOR_UNEXPECTED", /lora_A/],
    ["a bias that is not announced", ({ tensors }) => add(tensors, `${q}.bias`, [128]), "TENSOR_UNEXPECTED", /q_proj\.bias/],
    [
      "norms of another architecture",
      ({ tensors }) => add(tensors, "model.layers.0.self_attn.q_norm.weight", [32]),
      "TENSOR_UNEXPECTED",
      /q_norm/,
    ],
    ["scales beside plain weights", ({ tensors }) => add(tensors, `${q}.weight_scale`, []), "TENSOR_UNEXPECTED", /weight_scale/],
    [
      "GPTQ without a config, and shapes that do not show it",
      (spoiled) => {
        delete spoiled.config.quantization_config;
        change(spoiled.tensors, `${q}.scales`, { shape: [3, 128] });
      },
      "MODEL_CONFIG",
      /q_proj is quantised, but nothing says how/,
      gptq,
    ],
    ["GPTQ without scales", ({ tensors }) => tensors.delete(`${q}.scales`), "TENSOR_MISSING", /scales/, gptq],
    ["GPTQ without zeros", ({ tensors }) => tensors.delete(`${q}.qzeros`), "TENSOR_MISSING", /qzeros/, gptq],
    [
      "other bits than said",
      (spoiled) => quantization(spoiled, { bits: 8 }),
      "TENSOR_SHAPE",
      /qweight .* 8-bit GPTQ with groups of 32 needs \[32, 128\]/,
      gptq,
    ],
    [
      "other groups than said",
      (spoiled) => quantization(spoiled, { group_size: 64 }),
      "TENSOR_SHAPE",
      /scales .* needs \[2, 128\]/,
      gptq,
    ],
    [
      "zeros of another shape",
      ({ tensors }) => change(tensors, `${q}.qzeros`, { shape: [4, 128] }),
      "TENSOR_SHAPE",
      /qzeros/,
      gptq,
    ],
    ["a g_idx of another length", ({ tensors }) => change(tensors, `${q}.g_idx`, { shape: [64] }), "TENSOR_SHAPE", /g_idx/, gptq],
    ["a g_idx of another type", ({ tensors }) => change(tensors, `${q}.g_idx`, { dtype: "I64" }), "TENSOR_DTYPE", /g_idx/, gptq],
    [
      "weights of another type",
      ({ tensors }) => change(tensors, `${q}.qweight`, { dtype: "F32" }),
      "TENSOR_DTYPE",
      /qweight/,
      gptq,
    ],
    [
      "act-order without g_idx",
      (spoiled) => {
        quantization(spoiled, { desc_act: true });
        spoiled.tensors.delete(`${q}.g_idx`);
      },
      "TENSOR_MISSING",
      /g_idx/,
      gptq,
    ],
    [
      "sizes that cannot be packed",
      ({ config }) => Object.assign(config, { num_key_value_heads: 1, head_dim: 2, num_attention_heads: 3 }),
      "MODEL_UNSUPPORTED",
      /cannot pack/,
      gptq,
    ],
    [
      "both kinds of weight",
      ({ tensors }) => add(tensors, `${q}.weight`, [128, 128]),
      "TENSOR_UNEXPECTED",
      /q_proj\.weight/,
      gptq,
    ],
  ])("%s", (_, spoil, code, message, variant) => {
    expect(() => read(spoil, variant)).toThrow(expect.objectContaining({ code, message: expect.stringMatching(message) }));
  });

  it.each<[string, object | null, string, RegExp]>([
    ["AWQ", { quant_method: "awq", bits: 4 }, "MODEL_UNSUPPORTED", /"awq" is not supported: AWQ packs/],
    ["bitsandbytes", { quant_method: "bitsandbytes", load_in_4bit: true }, "MODEL_UNSUPPORTED", /bitsandbytes/],
    ["8-bit floats", { quant_method: "fbgemm_fp8" }, "MODEL_UNSUPPORTED", /8-bit floating-point/],
    ["an unheard-of method", { quant_method: "zzz" }, "MODEL_UNSUPPORTED", /"zzz" is not supported$/],
    ["no method", { quant_method: null, bits: null }, "MODEL_UNSUPPORTED", /names no quant_method/],
    ["Marlin's packing", { checkpoint_format: "marlin" }, "MODEL_UNSUPPORTED", /"marlin" is not supported/],
    ["Marlin's packing, older", { is_marlin_format: true }, "MODEL_UNSUPPORTED", /"marlin" is not supported/],
    [
      "two formats",
      { checkpoint_format: "gptq", format: "gptq_v2" },
      "MODEL_CONFIG",
      /two formats: .*"gptq" and format "gptq_v2"/,
    ],
    ["rotated weights", { rotation: "hadamard" }, "MODEL_UNSUPPORTED", /rotation is "hadamard"/],
    ["another word size", { pack_dtype: "int16" }, "MODEL_UNSUPPORTED", /pack_dtype is "int16"/],
    ["an adapter", { adapter: { name: "lora" } }, "MODEL_UNSUPPORTED", /has an adapter/],
    ["5 bits", { bits: 5 }, "MODEL_UNSUPPORTED", /5-bit/],
    ["no bits", { quant_method: "gptq", bits: null }, "MODEL_CONFIG", /no bits/],
    ["no group size", { group_size: null }, "MODEL_CONFIG", /no group_size/],
    ["a group size of 0", { group_size: 0 }, "MODEL_CONFIG", /group_size is 0/],
    ["a group size of −2", { group_size: -2 }, "MODEL_CONFIG", /group_size is -2/],
    ["rules that are no rules", { dynamic: { "+:x": 3 } }, "MODEL_CONFIG", /an object is needed/],
  ])("quantisation with %s", (_, values, code, message) => {
    expect(() => read((spoiled) => quantization(spoiled, values!), gptq)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    );
  });
});

describe("readModel takes", () => {
  it.each<[string, (draft: Draft) => void, Partial<SyntheticModel>?]>([
    ["saved rotary tables", ({ tensors }) => add(tensors, "model.layers.0.self_attn.rotary_emb.inv_freq", [16], "F32")],
    [
      "keys it has no use for",
      ({ config }) => Object.assign(config, { pretraining_tp: 2, use_cache: false, torch_dtype: "float64" }),
    ],
    [
      "features that are switched off",
      ({ config }) => Object.assign(config, { logit_scale: 1, attention_chunk_size: null, use_mrope: false }),
    ],
    ["a class name alone", ({ config }) => delete config.model_type],
    ["layer types that say what is so anyway", ({ config }) => Object.assign(config, { layer_types: ["full_attention"] })],
  ])("%s", (_, spoil, variant) => {
    expect(read(spoil, variant).layers).toHaveLength(1);
  });

  it("a missing head where the embeddings serve as one", () => {
    const spec = read(() => {}, { tied: true });
    expect(spec).toMatchObject({ tiedEmbeddings: true, head: { name: "lm_head", in: 128, out: 320, format: { kind: "plain" } } });
  });

  it("a head of its own in spite of tie_word_embeddings, as transformers 5 does where the two differ", () => {
    expect(read(({ config }) => Object.assign(config, { tie_word_embeddings: true })).tiedEmbeddings).toBe(false);
  });

  it("biases that a quantiser wrote", () => {
    const spec = read(({ tensors }) => add(tensors, `${q}.bias`, [128]), gptq);
    expect([spec.layers[0]!.attention.q.bias, spec.layers[0]!.attention.k.bias]).toEqual([true, false]);
  });

  it("GPTQ from before there were configs for it, by its shapes", () => {
    const spec = read(({ config }) => delete config.quantization_config, gptq);
    expect(spec.layers[0]!.mlp).toMatchObject({ down: { format: { bits: 4, groupSize: 32, zeros: "v1", gIdx: true } } });
  });

  it("linears that a quantiser left alone, and others that it treated differently", () => {
    const spec = read((spoiled) => {
      quantization(spoiled, { dynamic: { "-:.*q_proj": {}, "+:.*k_proj": { bits: 8, group_size: 64 } } });
      for (const part of ["qweight", "qzeros", "scales", "g_idx"]) spoiled.tensors.delete(`${q}.${part}`);
      add(spoiled.tensors, `${q}.weight`, [128, 128]);
      const k = "model.layers.0.self_attn.k_proj";
      change(spoiled.tensors, `${k}.qweight`, { shape: [32, 64] });
      change(spoiled.tensors, `${k}.qzeros`, { shape: [2, 16] });
      change(spoiled.tensors, `${k}.scales`, { shape: [2, 64] });
    }, gptq);
    expect(spec.layers[0]!.attention).toMatchObject({
      q: { format: { kind: "plain" } },
      k: { format: { kind: "gptq", bits: 8, groupSize: 64 } },
      v: { format: { kind: "gptq", bits: 4, groupSize: 32 } },
    });
  });

  it("group sizes that the shapes cannot tell apart, never", () => {
    // 128 rows in groups of 65 or 100 are both two groups.
    const spoil = (spoiled: Draft) => {
      quantization(spoiled, { group_size: 100, dynamic: { "+:.*q_proj": { group_size: 65 } } });
      for (const [name, { shape }] of spoiled.tensors)
        if (name.endsWith(".scales")) change(spoiled.tensors, name, { shape: [2, shape[1]!] });
    };
    expect(() => read(spoil, gptq)).toThrow(
      expect.objectContaining({ code: "MODEL_UNSUPPORTED", message: expect.stringMatching(/100 or 65/) }),
    );
  });

  it.each<[string, unknown, object, object]>([
    ["from config.json", null, {}, { bosId: 1, eosIds: [2] }],
    ["rather from generation_config.json", { bos_token_id: 7, eos_token_id: [3, 4, 3] }, {}, { bosId: 7, eosIds: [3, 4] }],
    ["from both", { eos_token_id: 9 }, {}, { bosId: 1, eosIds: [9] }],
    ["null in one, from the other", { eos_token_id: null }, {}, { bosId: 1, eosIds: [2] }],
    ["none where null says so", null, { bos_token_id: null, eos_token_id: null }, { bosId: null, eosIds: [] }],
    [
      "the architecture's where nothing is said",
      null,
      { bos_token_id: undefined, eos_token_id: undefined },
      { bosId: 1, eosIds: [2] },
    ],
  ])("first and last ids %s", (_, generation, config, expected) => {
    const spec = read((spoiled) => {
      spoiled.generation = generation;
      Object.assign(spoiled.config, config);
      for (const key of ["bos_token_id", "eos_token_id"]) if (spoiled.config[key] === undefined) delete spoiled.config[key];
    });
    expect(spec).toMatchObject(expected);
  });
});

describe("hostile configs and headers", () => {
  const bases = [
    draft(),
    draft(gptq),
    draft({ architecture: "qwen3", window: 32 }),
    draft({ architecture: "mistral", window: 32 }),
  ];
  const KEYS = [
    ...new Set(bases.flatMap(({ config }) => Object.keys(config))),
    "rope_scaling",
    "rope_theta",
    "layer_types",
    "sliding_window",
    "partial_rotary_factor",
    "original_max_position_embeddings",
    "__proto__",
  ];
  const value = fc.oneof(
    fc.jsonValue({ maxDepth: 2 }),
    fc.constantFrom<unknown>(0, -1, 1e9, 2 ** 53, 1e308, 0.5, "", [], {}, null, true, ["sliding_attention"]),
    fc.record(
      { rope_type: fc.constantFrom("yarn", "llama3", "dynamic", "linear", "default"), factor: fc.anything() },
      { requiredKeys: [] },
    ),
    fc.record(
      {
        quant_method: fc.constant("gptq"),
        bits: fc.nat(9),
        group_size: fc.integer({ min: -2, max: 200 }),
        dynamic: fc.jsonValue(),
      },
      { requiredKeys: [] },
    ),
  );
  const shape = fc.array(fc.oneof(fc.nat(200), fc.maxSafeInteger().map(Math.abs)), { maxLength: 3 });
  const dtype = fc.constantFrom<TensorInfo["dtype"]>("F16", "F32", "I32", "F64", "F8_E4M3");

  it("end in nothing but a typed error", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...bases),
        fc.array(fc.tuple(fc.constantFrom(...KEYS), value), { maxLength: 3 }),
        fc.array(fc.tuple(fc.nat(), fc.option(fc.tuple(shape, dtype))), { maxLength: 2 }),
        fc.oneof(fc.constant(null), fc.jsonValue()),
        (base, configChanges, tensorChanges, generation) => {
          const spoiled: Draft = {
            config: { ...base.config },
            generation,
            quantize: base.quantize,
            tensors: new Map(base.tensors),
          };
          for (const [key, changed] of configChanges)
            Object.defineProperty(spoiled.config, key, { value: changed, enumerable: true, configurable: true, writable: true });
          const names = [...spoiled.tensors.keys()];
          for (const [at, changed] of tensorChanges) {
            const name = names[at % names.length]!;
            if (changed) change(spoiled.tensors, name, { shape: changed[0], dtype: changed[1] });
            else spoiled.tensors.delete(name);
          }
          try {
            readModel(headers(spoiled));
          } catch (error) {
            expect(error).toBeInstanceOf(ExllamaError);
            expect((error as Error).message.length).toBeLessThan(1000);
          }
        },
      ),
      { numRuns: 4000 },
    );
  });
});

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readAdapterConfig } from "./config.js";
import { AdapterConfigError, UnsupportedAdapterError } from "./errors.js";

const plain = { peft_type: "LORA", r: 8, lora_alpha: 16, target_modules: ["q_proj"], bias: "none", fan_in_fan_out: false };
const read = (fields: Record<string, unknown>) => readAdapterConfig({ ...plain, ...fields }, "adapter_config.json");

const layer3q = "model.layers.3.self_attn.q_proj";

describe("readAdapterConfig", () => {
  it.each([
    ["alpha / r", {}, 8, 2],
    ["alpha / sqrt(r) with rslora", { use_rslora: true }, 16, 4],
    ["PEFT's alpha of 8 where there is none", { lora_alpha: undefined }, 8, 1],
    ["an alpha that is a fraction, and negative", { lora_alpha: -0.5 }, 8, -0.0625],
    ["an alpha of its own for a module", { alpha_pattern: { q_proj: 32 } }, 8, 4],
    ["the first pattern that fits", { alpha_pattern: { "^model.layers.3.self_attn.q_proj": 1, q_proj: 32 } }, 8, 0.125],
    ["no pattern that fits half a name", { alpha_pattern: { proj: 32 } }, 8, 2],
  ])("folds in %s", (_, fields, rank, scale) => {
    expect(read(fields).scale(layer3q, rank)).toBe(scale);
  });

  it("gives modules ranks of their own", () => {
    const { rank } = read({ rank_pattern: { "layers.3.self_attn.q_proj": 4 } });
    expect([rank(layer3q), rank("model.layers.13.self_attn.q_proj")]).toEqual([4, 8]);
  });

  it.each([
    ["another kind", { peft_type: "LOHA" }, /"LOHA", not LORA/],
    ["no kind", { peft_type: undefined }, /of no named kind/],
    ["DoRA", { use_dora: true }, /DoRA/],
    ["transposed factors", { fan_in_fan_out: true }, /fan_in_fan_out/],
    ["whole modules", { modules_to_save: ["lm_head"] }, /modules_to_save/],
    ["repeated layers", { layer_replication: [[0, 4]] }, /layer_replication/],
    ["changed embeddings", { trainable_token_indices: { embed_tokens: [1] } }, /trainable_token_indices/],
    ["base weights that were changed too", { init_lora_weights: "pissa_niter_4" }, /pissa_niter_4.*base weights/],
    ["a stranger's expression", { rank_pattern: { "(a+)+$": 4 } }, /expression "\(a\+\)\+\$"/],
  ])("refuses %s by name", (_, fields, message) => {
    expect(() => read(fields)).toThrow(UnsupportedAdapterError);
    expect(() => read(fields)).toThrow(message);
  });

  it.each([
    ["a rank of 0", { r: 0 }],
    ["a rank beyond the limit", { r: 5000 }],
    ["a rank that is text", { r: "8" }],
    ["an alpha that is none", { lora_alpha: "big" }],
    ["an alpha without measure", { lora_alpha: 1e300 }],
    ["targets that are no names", { target_modules: [1] }],
    ["a flag that is none", { use_rslora: "yes" }],
    ["a pattern that is none", { alpha_pattern: [1] }],
  ])("refuses %s", (_, fields) => {
    expect(() => read(fields)).toThrow(AdapterConfigError);
  });

  it.each([null, [], "LORA", 3])("refuses %j", (value) => {
    expect(() => readAdapterConfig(value, "adapter_config.json")).toThrow(AdapterConfigError);
  });

  it("leaves alone what only concerned training", () => {
    const fields = {
      lora_dropout: 0.1,
      init_lora_weights: "gaussian",
      layers_to_transform: null,
      inference_mode: true,
      use_dora: false,
    };
    expect(read(fields).targets).toEqual(["q_proj"]);
    expect(read({ target_modules: "all-linear" }).targets).toBeNull();
  });
});

describe("any JSON at all", () => {
  const names = [
    "peft_type",
    "r",
    "lora_alpha",
    "target_modules",
    "rank_pattern",
    "alpha_pattern",
    "use_rslora",
    "init_lora_weights",
  ];
  const fields = fc.dictionary(fc.oneof(fc.constantFrom(...names), fc.string({ maxLength: 8 })), fc.jsonValue({ maxDepth: 2 }));

  it("is a configuration, or refused as one that is none", () => {
    const values = fc.oneof(
      fc.jsonValue(),
      fields,
      fields.map((some) => ({ ...plain, ...some })),
    );
    fc.assert(
      fc.property(values, (value) => {
        try {
          const { rank, scale } = readAdapterConfig(value, "adapter_config.json");
          expect(rank(layer3q)).toBeGreaterThanOrEqual(1);
          expect(Number.isFinite(scale(layer3q, 8))).toBe(true);
        } catch (error) {
          expect(error instanceof AdapterConfigError || error instanceof UnsupportedAdapterError, String(error)).toBe(true);
        }
      }),
      { numRuns: 500 },
    );
  });
});

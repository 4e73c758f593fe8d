import { describe, expect, it } from "vitest";
import { ConfigValues } from "./config-values.js";
import { type RopeOverrides, readRope } from "./rope-config.js";

const read = (config: object, overrides: RopeOverrides = {}) =>
  readRope(new ConfigValues({ max_position_embeddings: 4096, ...config }, "config.json"), 128, 10_000, overrides);

describe("readRope", () => {
  const yarn = { kind: "yarn", betaFast: 32, betaSlow: 1, truncate: true };
  it.each<[string, object, object, number | null]>([
    ["nothing", {}, { kind: "default", theta: 10_000 }, 4096],
    ["nothing at all", { max_position_embeddings: null }, { kind: "default", theta: 10_000 }, null],
    ["transformers 4, a base", { rope_theta: 1e6, rope_scaling: null }, { kind: "default", theta: 1e6 }, 4096],
    [
      "transformers 5, a base",
      { rope_parameters: { rope_theta: 5e5, rope_type: "default" } },
      { kind: "default", theta: 5e5 },
      4096,
    ],
    ["a base without a type", { rope_parameters: { rope_theta: 5e5 } }, { kind: "default", theta: 5e5 }, 4096],
    [
      "linear, older spelling",
      { rope_scaling: { type: "linear", factor: 4 } },
      { kind: "linear", theta: 10_000, factor: 4 },
      4096,
    ],
    [
      "linear, with the original context",
      { rope_scaling: { rope_type: "linear", factor: 4, original_max_position_embeddings: 4096 } },
      { kind: "linear", theta: 10_000, factor: 4 },
      16384,
    ],
    [
      "dynamic",
      { rope_scaling: { type: "dynamic", factor: 2 } },
      { kind: "dynamic", theta: 10_000, factor: 2, originalContext: 4096 },
      8192,
    ],
    [
      "llama3",
      {
        max_position_embeddings: 131072,
        rope_theta: 5e5,
        rope_scaling: {
          rope_type: "llama3",
          factor: 8,
          low_freq_factor: 1,
          high_freq_factor: 4,
          original_max_position_embeddings: 8192,
        },
      },
      { kind: "llama3", theta: 5e5, factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalContext: 8192 },
      131072,
    ],
    [
      "yarn as Qwen writes it",
      {
        max_position_embeddings: 32768,
        rope_scaling: { type: "yarn", rope_type: "yarn", factor: 4, original_max_position_embeddings: 32768 },
      },
      { ...yarn, theta: 10_000, factor: 4, originalContext: 32768, attentionFactor: 0.1 * Math.log(4) + 1 },
      131072,
    ],
    [
      "yarn without an original context",
      { rope_parameters: { rope_type: "yarn", factor: 2, rope_theta: 10_000 } },
      { ...yarn, theta: 10_000, factor: 2, originalContext: 4096, attentionFactor: 0.1 * Math.log(2) + 1 },
      8192,
    ],
    [
      "yarn without a factor",
      { rope_parameters: { rope_type: "yarn", factor: null, original_max_position_embeddings: 1024 } },
      { ...yarn, theta: 10_000, factor: 4, originalContext: 1024, attentionFactor: 0.1 * Math.log(4) + 1 },
      4096,
    ],
    [
      "yarn with everything",
      {
        rope_parameters: {
          rope_type: "yarn",
          rope_theta: 10_000,
          factor: 4,
          original_max_position_embeddings: 2048,
          attention_factor: 0.9,
          beta_fast: 16,
          beta_slow: 2,
          truncate: false,
        },
      },
      {
        kind: "yarn",
        theta: 10_000,
        factor: 4,
        originalContext: 2048,
        betaFast: 16,
        betaSlow: 2,
        truncate: false,
        attentionFactor: 0.9,
      },
      8192,
    ],
    [
      "yarn with two mscales",
      { rope_scaling: { type: "yarn", factor: 40, original_max_position_embeddings: 4096, mscale: 0.75, mscale_all_dim: 1.2 } },
      {
        ...yarn,
        theta: 10_000,
        factor: 40,
        originalContext: 4096,
        attentionFactor: (0.1 * 0.75 * Math.log(40) + 1) / (0.1 * 1.2 * Math.log(40) + 1),
      },
      163840,
    ],
    [
      "yarn with an original context beside it",
      { original_max_position_embeddings: 1024, rope_scaling: { type: "yarn", factor: 2 } },
      { ...yarn, theta: 10_000, factor: 2, originalContext: 1024, attentionFactor: 0.1 * Math.log(2) + 1 },
      4096,
    ],
  ])("reads %s", (_, config, rope, contextLimit) => {
    expect(read(config)).toEqual({ rope, contextLimit });
  });

  it.each<[string, object, string, RegExp]>([
    ["an unknown type", { rope_scaling: { type: "longrope" } }, "MODEL_UNSUPPORTED", /RoPE of type "longrope"/],
    ["an inherited type", { rope_scaling: { type: "constructor" } }, "MODEL_UNSUPPORTED", /"constructor"/],
    ["a factor without a type", { rope_scaling: { factor: 2 } }, "MODEL_CONFIG", /no rope_type/],
    ["two types", { rope_scaling: { type: "linear", rope_type: "yarn", factor: 2 } }, "MODEL_CONFIG", /two types/],
    [
      "two sections that differ",
      { rope_scaling: { type: "linear" }, rope_parameters: { rope_theta: 1e4 } },
      "MODEL_CONFIG",
      /differ/,
    ],
    ["two bases", { rope_theta: 1e4, rope_parameters: { rope_theta: 1e6 } }, "MODEL_CONFIG", /two RoPE bases/],
    ["no factor", { rope_scaling: { type: "linear" } }, "MODEL_CONFIG", /no factor/],
    ["a factor of 0", { rope_scaling: { type: "linear", factor: 0 } }, "MODEL_CONFIG", /factor is 0/],
    ["a factor of text", { rope_scaling: { type: "linear", factor: "4" } }, "MODEL_CONFIG", /factor is "4"/],
    ["a key of another type", { rope_scaling: { type: "linear", factor: 2, beta_fast: 8 } }, "MODEL_UNSUPPORTED", /no beta_fast/],
    ["sections for images", { rope_scaling: { type: "default", mrope_section: [1] } }, "MODEL_UNSUPPORTED", /no mrope_section/],
    [
      "one RoPE per kind of layer",
      { rope_parameters: { full_attention: { rope_type: "default" }, sliding_attention: { rope_type: "default" } } },
      "MODEL_UNSUPPORTED",
      /no full_attention, sliding_attention/,
    ],
    ["half of each head", { partial_rotary_factor: 0.5 }, "MODEL_UNSUPPORTED", /partial_rotary_factor is 0\.5/],
    [
      "half of each head, inside",
      { rope_parameters: { partial_rotary_factor: 0.5 } },
      "MODEL_UNSUPPORTED",
      /partial_rotary_factor/,
    ],
    [
      "llama3 with its ends swapped",
      { rope_scaling: { type: "llama3", factor: 8, low_freq_factor: 4, high_freq_factor: 1 } },
      "MODEL_CONFIG",
      /not above/,
    ],
    [
      "dynamic without a context",
      { max_position_embeddings: null, rope_scaling: { type: "dynamic", factor: 2 } },
      "MODEL_CONFIG",
      /no max_position_embeddings/,
    ],
    [
      "yarn with its ends swapped",
      { rope_scaling: { type: "yarn", factor: 2, beta_fast: 1, beta_slow: 32 } },
      "MODEL_CONFIG",
      /less than beta_slow/,
    ],
    ["a section that is a list", { rope_scaling: [] }, "MODEL_CONFIG", /an object is needed/],
    ["a base of 0", { rope_theta: 0 }, "MODEL_CONFIG", /rope_theta is 0/],
    ["a context of 0", { max_position_embeddings: 0 }, "MODEL_CONFIG", /max_position_embeddings is 0/],
  ])("refuses %s", (_, config, code, message) => {
    expect(() => read(config)).toThrow(expect.objectContaining({ code, message: expect.stringMatching(message) }));
  });

  const llama3 = {
    max_position_embeddings: 131072,
    rope_scaling: { type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 },
  };
  it.each<[string, object, RopeOverrides, object, number]>([
    ["a scale", {}, { ropeScale: 2 }, { kind: "linear", theta: 10_000, factor: 2 }, 8192],
    ["an alpha", {}, { ropeAlpha: 2.5 }, { kind: "ntk", theta: 10_000, alpha: 2.5 }, 10240],
    ["both", {}, { ropeScale: 2, ropeAlpha: 2 }, { kind: "linear", theta: 10_000 * 2 ** (128 / 126), factor: 2 }, 16384],
    ["a base", {}, { ropeTheta: 1e6 }, { kind: "default", theta: 1e6 }, 4096],
    ["a base under the model's own scaling", llama3, { ropeTheta: 1e6 }, { kind: "llama3", theta: 1e6 }, 131072],
    ["a scale in place of the model's own", llama3, { ropeScale: 4 }, { kind: "linear", theta: 10_000, factor: 4 }, 32768],
  ])("lets the user ask for %s", (_, config, overrides, rope, contextLimit) => {
    expect(read(config, overrides)).toMatchObject({ rope, contextLimit });
  });

  it.each<RopeOverrides>([
    { ropeScale: 0 },
    { ropeScale: Number.NaN },
    { ropeAlpha: -1 },
    { ropeTheta: 1 },
    { ropeTheta: Infinity },
  ])("refuses the override %j", (overrides) => {
    expect(() => read({}, overrides)).toThrow(expect.objectContaining({ code: "USAGE" }));
  });
});

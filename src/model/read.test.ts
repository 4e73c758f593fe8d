import { describe, expect, it } from "vitest";
import { findFixture, fixture } from "../../test/support/fixtures.js";
import {
  gptqWeights,
  makeSynthetic,
  plainWeights,
  type SyntheticModel,
  smallLlama,
} from "../../test/support/synthetic-checkpoint.js";
import { openCheckpoint } from "../checkpoint/local.js";
import { readModel } from "./read.js";
import type { GptqFormat, LinearFormat, ModelSpec } from "./spec.js";

async function readFolder(folder: string): Promise<ModelSpec> {
  const checkpoint = await openCheckpoint(folder);
  try {
    return readModel(checkpoint);
  } finally {
    await checkpoint.close();
  }
}

describe("readModel on the fixtures", () => {
  const gptq = { kind: "gptq", groupSize: 128, zeros: "v1", gIdx: true, scaleDtype: "f16" };
  const plain = { kind: "plain", dtype: "f16" };
  const all: [string, object][] = [
    ["demo-gptq-4bit-g128", { ...gptq, bits: 4 }],
    ["demo-gptq-4bit-g128-act", { ...gptq, bits: 4 }],
    ["demo-gptq-8bit-g128", { ...gptq, bits: 8 }],
    ["demo-fp16", plain],
  ];
  // The larger ones are not in every checkout.
  it.each(all.filter(([name]) => findFixture(name)))("reads %s", async (name, format) => {
    const spec = await readFolder(findFixture(name)!);
    expect(spec).toMatchObject({
      architecture: "llama",
      vocabSize: 4096,
      hiddenSize: 256,
      tiedEmbeddings: false,
      contextLimit: 2048,
      rope: { kind: "default", theta: 10_000 },
      bosId: 1,
      eosIds: [2, 5],
      planOnly: null,
      head: { name: "lm_head", in: 256, out: 4096, format: plain },
    });
    expect(spec.layers).toHaveLength(8);
    expect(spec.layers[7]!.attention).toMatchObject({ heads: 4, kvHeads: 2, headDim: 64, window: null, qNorm: null });
    expect(spec.layers[7]!.attention.k).toEqual({
      name: "model.layers.7.self_attn.k_proj",
      in: 256,
      out: 128,
      bias: false,
      format,
    });
    expect(spec.layers[7]!.mlp).toMatchObject({ kind: "gated", down: { in: 768, out: 256, format } });
  });

  it.each([
    ["tiny/llama-mha", { heads: 4, kvHeads: 4, headDim: 32 }, { kind: "default", theta: 10_000 }, false],
    ["tiny/llama-gqa-tied", { heads: 8, kvHeads: 2, headDim: 16 }, { kind: "default", theta: 10_000 }, true],
    [
      "tiny/llama-rope-llama3",
      { heads: 4, kvHeads: 2, headDim: 32 },
      { kind: "llama3", theta: 500_000, factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalContext: 64 },
      false,
    ],
  ])("reads %s", async (name, attention, rope, tied) => {
    const spec = await readFolder(fixture(name));
    expect(spec.layers[0]!.attention).toMatchObject(attention);
    expect(spec).toMatchObject({ rope, tiedEmbeddings: tied, contextLimit: 512, eosIds: [2], vocabSize: 512 });
  });
});

describe("readModel on every kind of checkpoint", () => {
  const base = { ...smallLlama, layers: 3, hidden: 64, headDim: 16, intermediate: 96 };
  const variants: [string, Partial<SyntheticModel>][] = [
    ["llama", {}],
    ["llama without grouped heads", { kvHeads: 4 }],
    ["llama with biases everywhere", { attentionBias: true, mlpBias: true }],
    ["llama, tied", { tied: true }],
    ["llama with large heads", { headDim: 32 }],
    ["llama in shards", { shards: 4 }],
    ["mistral", { architecture: "mistral", window: 64 }],
    ["mistral without a window, large heads", { architecture: "mistral", headDim: 24 }],
    ["mistral without grouped heads", { architecture: "mistral", kvHeads: 4 }],
    ["qwen2", { architecture: "qwen2", tied: true }],
    ["qwen2 with windows above", { architecture: "qwen2", window: 32, firstWindowedLayer: 1 }],
    ["qwen3", { architecture: "qwen3", headDim: 32 }],
    ["qwen3 with biases and windows", { architecture: "qwen3", attentionBias: true, window: 32, firstWindowedLayer: 2 }],
    ["linear RoPE", { rope: { type: "linear", theta: 10_000, factor: 2 } }],
    ["dynamic RoPE", { rope: { type: "dynamic", theta: 10_000, factor: 2, maxPositions: 512 } }],
  ];
  const keys = ["transformers-4", "transformers-5"] as const;

  it.each(variants.flatMap(([name, variant]) => keys.map((key) => [name, key, variant] as const)))(
    "%s, %s keys",
    async (_, key, variant) => {
      const model: SyntheticModel = { ...base, keys: key, ...variant };
      using made = makeSynthetic(model);
      const spec = await readFolder(made.folder);
      expect(spec).toMatchObject({
        architecture: model.architecture,
        vocabSize: model.vocab,
        hiddenSize: model.hidden,
        tiedEmbeddings: model.tied,
        rope: { kind: model.rope.type, theta: model.rope.theta },
        bosId: 1,
        eosIds: [2],
        planOnly: null,
      });
      const qkvBias = model.attentionBias || model.architecture === "qwen2";
      spec.layers.forEach(({ attention, mlp }, index) => {
        const { heads, kvHeads, headDim } = model;
        expect(attention).toMatchObject({ heads, kvHeads, headDim, window: made.truth.layers[index]!.window });
        expect(attention.q).toMatchObject({ in: model.hidden, out: heads * headDim, bias: qkvBias });
        expect(attention.v).toMatchObject({ in: model.hidden, out: kvHeads * headDim, bias: qkvBias });
        expect(attention.o).toMatchObject({ in: heads * headDim, out: model.hidden, bias: model.attentionBias });
        expect(attention.qNorm?.size ?? null).toBe(model.architecture === "qwen3" ? headDim : null);
        expect(mlp).toMatchObject({ kind: "gated", down: { in: model.intermediate, out: model.hidden, bias: model.mlpBias } });
      });
    },
  );

  const gptq = (format: Partial<GptqFormat>): LinearFormat => ({
    kind: "gptq",
    bits: 4,
    groupSize: 32,
    zeros: "v1",
    gIdx: false,
    scaleDtype: "f16",
    ...format,
  });
  it.each<[string, Partial<SyntheticModel>, LinearFormat]>([
    ["f32", { weights: { ...plainWeights, dtype: "f32" } }, { kind: "plain", dtype: "f32" }],
    ["bf16", { weights: { ...plainWeights, dtype: "bf16" } }, { kind: "plain", dtype: "bf16" }],
    ["2 bits", { weights: { ...gptqWeights, bits: 2 } }, gptq({ bits: 2 })],
    ["3 bits, zeros as they are", { weights: { ...gptqWeights, bits: 3, zeros: "v2" } }, gptq({ bits: 3, zeros: "v2" })],
    ["8 bits, one group", { weights: { ...gptqWeights, bits: 8, groupSize: -1 } }, gptq({ bits: 8, groupSize: 64 })],
    ["groups that do not divide the input", { weights: { ...gptqWeights, groupSize: 40 } }, gptq({ groupSize: 40 })],
    ["groups larger than the input", { weights: { ...gptqWeights, groupSize: 1024 } }, gptq({ groupSize: 64 })],
    ["act-order", { weights: { ...gptqWeights, order: "act-order" } }, gptq({ gIdx: true })],
    ["a sequential g_idx", { weights: { ...gptqWeights, order: "sequential" } }, gptq({ gIdx: true })],
    ["f32 scales", { weights: { ...gptqWeights, scaleDtype: "f32" } }, gptq({ scaleDtype: "f32" })],
    ["quantize_config.json", { weights: gptqWeights, quantizationIn: "quantize_config.json", keys: "transformers-4" }, gptq({})],
  ])("weights: %s", async (_, variant, format) => {
    using made = makeSynthetic({ ...base, ...variant });
    const spec = await readFolder(made.folder);
    expect(spec.layers[0]!.attention.q.format).toEqual(format);
    expect(spec.head.format.kind).toBe("plain");
  });

  it("reads a quantised head", async () => {
    using made = makeSynthetic({ ...base, weights: gptqWeights, quantizedHead: true });
    expect((await readFolder(made.folder)).head.format).toEqual(gptq({}));
  });
});

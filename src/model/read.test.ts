import { describe, expect, it } from "vitest";
import { findFixture, fixture } from "../../test/support/fixtures.js";
import { openCheckpoint } from "../checkpoint/local.js";
import { readModel } from "./read.js";
import type { ModelSpec } from "./spec.js";

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
  it.each([
    ["demo-gptq-4bit-g128", { ...gptq, bits: 4 }],
    ["demo-gptq-4bit-g128-act", { ...gptq, bits: 4 }],
    ["demo-gptq-8bit-g128", { ...gptq, bits: 8 }],
    ["demo-fp16", plain],
  ])("reads %s", async (name, format) => {
    const folder = findFixture(name);
    if (!folder) return; // the larger ones are not in the tree
    const spec = await readFolder(folder);
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

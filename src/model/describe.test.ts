import { describe, expect, it } from "vitest";
import { fixture } from "../../test/support/fixtures.js";
import { openCheckpoint } from "../checkpoint/local.js";
import { countParameters, describeModel, describeQuantization } from "./describe.js";
import { readModel } from "./read.js";
import type { LinearFormat, ModelSpec } from "./spec.js";

async function describeFolder(name: string) {
  const checkpoint = await openCheckpoint(fixture(name));
  await checkpoint.close();
  const spec = readModel(checkpoint);
  return { ...describeModel(checkpoint, spec), elements: [...checkpoint.tensors.values()].map(({ shape }) => product(shape)) };
}

function product(sizes: readonly number[]): number {
  return sizes.reduce((all, size) => all * size, 1);
}

describe("describeModel", () => {
  it("counts the parameters of a plain checkpoint as its tensors have elements", async () => {
    for (const name of ["tiny/llama-mha", "tiny/llama-gqa-tied"]) {
      const { parameters, elements } = await describeFolder(name);
      expect(parameters).toBe(elements.reduce((sum, count) => sum + count, 0));
    }
  });

  it("counts those of a quantised one as if it were not", async () => {
    // The trained model has 8.39 million.
    const plain = await describeFolder("demo-gptq-4bit-g128");
    expect(plain).toMatchObject({
      architecture: "llama",
      parameters: 8_392_960,
      quantization: "GPTQ 4-bit g128",
      files: ["model.safetensors"],
    });
    expect((await describeFolder("demo-gptq-4bit-g128-act")).quantization).toBe("GPTQ 4-bit g128, act-order");
  });

  it("counts the bytes of the tensors", async () => {
    const { checkpointBytes, tensorCount } = await describeFolder("demo-gptq-4bit-g128");
    expect(checkpointBytes).toBe(7_570_552 - 8 - 25_200);
    expect(tensorCount).toBe(243);
  });
});

describe("describeQuantization", () => {
  const gptq: LinearFormat = { kind: "gptq", bits: 4, groupSize: 32, zeros: "v1", gIdx: true, scaleDtype: "f16" };
  const f16: LinearFormat = { kind: "plain", dtype: "f16" };
  const linear = (format: LinearFormat, size = 64) => ({ name: "x", in: 64, out: size, bias: false, format });
  const norm = { tensor: "n", size: 64, eps: 1e-6 };
  const spec = (q: LinearFormat, rest: LinearFormat, head: LinearFormat = f16): ModelSpec => ({
    architecture: "llama",
    vocabSize: 10,
    hiddenSize: 64,
    layers: [
      {
        index: 0,
        inputNorm: norm,
        postAttentionNorm: norm,
        attention: {
          heads: 1,
          kvHeads: 1,
          headDim: 64,
          window: null,
          q: linear(q),
          k: linear(rest),
          v: linear(rest),
          o: linear(rest),
          qNorm: norm,
          kNorm: norm,
        },
        mlp: { kind: "gated", gate: linear(rest), up: linear(rest), down: linear(rest) },
      },
    ],
    embedding: { tensor: "e", dtype: "f16" },
    finalNorm: norm,
    head: linear(head, 10),
    tiedEmbeddings: false,
    rope: { kind: "default", theta: 10_000 },
    contextLimit: null,
    bosId: null,
    eosIds: [],
    planOnly: null,
  });

  it.each<[LinearFormat, LinearFormat, LinearFormat, boolean, string]>([
    [f16, f16, f16, false, "f16"],
    [gptq, gptq, f16, false, "GPTQ 4-bit g32"],
    [gptq, gptq, f16, true, "GPTQ 4-bit g32, act-order"],
    [f16, f16, f16, true, "f16"],
    [{ ...gptq, groupSize: 64 }, { ...gptq, groupSize: 64 }, f16, false, "GPTQ 4-bit per column"],
    [{ ...gptq, bits: 8 }, gptq, f16, false, "GPTQ 4-bit g32 + GPTQ 8-bit g32"],
    [f16, gptq, { ...gptq, bits: 8 }, false, "GPTQ 4-bit g32 + f16, head GPTQ 8-bit g32"],
  ])("%#: %j, %j, %j", (q, rest, head, actOrder, words) => {
    expect(describeQuantization(spec(q, rest, head), actOrder)).toBe(words);
  });

  it("leaves tied embeddings to be counted once", () => {
    const untied = spec(f16, f16);
    expect(countParameters(untied) - countParameters({ ...untied, tiedEmbeddings: true })).toBe(640);
  });
});

import { describe, expect, it } from "vitest";
import { fixture } from "../../test/support/fixtures.js";
import { openCheckpoint } from "../checkpoint/local.js";
import { readModel } from "../model/read.js";
import { countParameters, describeQuantization } from "./describe.js";

describe("a model in a few words", () => {
  it.each([
    ["demo-gptq-4bit-g128", 8_392_960, "GPTQ 4-bit, groups of 128"],
    ["demo-gptq-4bit-g128-act", 8_392_960, "GPTQ 4-bit, groups of 128"],
    ["tiny/llama-gqa-tied", null, "f16"],
  ])("%s", async (name, parameters, quantization) => {
    const checkpoint = await openCheckpoint(fixture(name));
    const spec = readModel(checkpoint);
    // A plain checkpoint's own elements are its parameters.
    const elements = [...checkpoint.tensors.values()].reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
    await checkpoint.close();
    expect(countParameters(spec)).toBe(parameters ?? elements);
    expect(describeQuantization(spec)).toBe(quantization);
  });
});

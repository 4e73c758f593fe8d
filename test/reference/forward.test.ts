// The reference itself, held against golden files that PyTorch and Hugging Face transformers
// wrote in fp32: what agrees here may judge the backends.

import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { findFixture, fixture } from "../support/fixtures.js";
import { largestDifference } from "./compare.js";
import { ReferenceSequence, referenceLogits } from "./forward.js";
import { floatsOf, integersOf, readLlama, readTensors } from "./reader.js";

// f64 here against f32 there: what is left is the rounding of the golden files' own arithmetic.
const ROUNDING = 1e-4;

function rowsOf(values: Float64Array, width: number): Float64Array[] {
  return Array.from({ length: values.length / width }, (_, i) => values.subarray(i * width, (i + 1) * width));
}

describe("the reference forward pass", () => {
  it.each(["llama-mha", "llama-gqa-tied", "llama-rope-llama3"])("agrees with transformers on tiny/%s", (name) => {
    const model = readLlama(fixture(`tiny/${name}`));
    const golden = readTensors(join(fixture(`tiny/${name}`), "golden.safetensors"));
    const logits = referenceLogits(model, integersOf(golden.get("ids")));
    const wanted = rowsOf(floatsOf(golden.get("logits")), model.vocab);
    const got = [...integersOf(golden.get("positions"))].map((position) => logits[position]!);
    expect(largestDifference(got, wanted)).toBeLessThan(ROUNDING);
  });

  const demos = ["demo-gptq-4bit-g128", "demo-gptq-4bit-g128-act", "demo-gptq-8bit-g128", "demo-fp16"].filter(findFixture);
  it.each(demos)("agrees with transformers on %s", (name) => {
    const model = readLlama(fixture(name));
    const golden = readTensors(fixture(`${name}.golden.safetensors`));
    for (const prompt of ["prompt0", "prompt1", "prompt2"]) {
      const logits = referenceLogits(model, integersOf(golden.get(`${prompt}.ids`)));
      const wanted = rowsOf(floatsOf(golden.get(`${prompt}.logits_last8`)), model.vocab);
      expect(largestDifference(logits.slice(-wanted.length), wanted)).toBeLessThan(ROUNDING);
    }
  });

  it("gives the same logits whether a sequence is read at once or in pieces", () => {
    const model = readLlama(fixture("tiny/llama-gqa-tied"));
    const ids = Array.from({ length: 12 }, (_, i) => (i * 37) % 512);
    const sequence = new ReferenceSequence(model);
    const pieces = [ids.slice(0, 5), ids.slice(5, 6), ids.slice(6)].flatMap((piece) => sequence.feed(piece));
    expect(pieces).toEqual(referenceLogits(model, ids));
  });
});

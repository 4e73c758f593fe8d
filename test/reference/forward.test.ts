// The reference itself, held against golden files that PyTorch and Hugging Face transformers
// wrote in fp32: what agrees here may judge the backends.

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { findFixture, fixture } from "../support/fixtures.js";
import { largestDifference } from "./compare.js";
import { ReferenceSequence, referenceLogits } from "./forward.js";
import { floatsOf, integersOf, readModel, readTensors } from "./reader.js";

// f64 here against f32 there: what is left is the rounding of the golden files' own arithmetic.
const ROUNDING = 1e-4;

function rowsOf(values: Float64Array, width: number): Float64Array[] {
  return Array.from({ length: values.length / width }, (_, i) => values.subarray(i * width, (i + 1) * width));
}

/** `tiny/llama-mha`, …: the folders in a fixture folder. */
function modelsIn(folder: string): string[] {
  const entries = readdirSync(fixture(folder), { withFileTypes: true });
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => `${folder}/${name}`);
}

/** The most likely token, the lowest id among equals. */
function best(logits: Float64Array): number {
  return logits.indexOf(Math.max(...logits));
}

describe("the reference forward pass", () => {
  const small = ["tiny", "hf"].flatMap((folder) => modelsIn(folder));
  it.each(small)("agrees with transformers on %s", (name) => {
    const model = readModel(fixture(name));
    const golden = readTensors(join(fixture(name), "golden.safetensors"));
    const logits = referenceLogits(model, integersOf(golden.get("ids")));
    const wanted = rowsOf(floatsOf(golden.get("logits")), model.vocab);
    const got = [...integersOf(golden.get("positions"))].map((position) => logits[position]!);
    expect(largestDifference(got, wanted)).toBeLessThan(ROUNDING);
  });

  const demos = ["demo-gptq-4bit-g128", "demo-gptq-4bit-g128-act", "demo-gptq-8bit-g128", "demo-fp16"].filter(findFixture);
  it.each(demos)("agrees with transformers on %s", (name) => {
    const model = readModel(fixture(name));
    const golden = readTensors(fixture(`${name}.golden.safetensors`));
    for (const prompt of ["prompt0", "prompt1", "prompt2"]) {
      const logits = referenceLogits(model, integersOf(golden.get(`${prompt}.ids`)));
      const wanted = rowsOf(floatsOf(golden.get(`${prompt}.logits_last8`)), model.vocab);
      expect(largestDifference(logits.slice(-wanted.length), wanted)).toBeLessThan(ROUNDING);
    }
  });

  it.each(modelsIn("hf"))("decodes %s as transformers does with a KV cache", (name) => {
    const golden = readTensors(join(fixture(name), "golden.safetensors"));
    const greedy = integersOf(golden.get("greedy"));
    const sequence = new ReferenceSequence(readModel(fixture(name)));
    const got = [best(sequence.feed(integersOf(golden.get("ids")).subarray(0, 100)).at(-1)!)];
    while (got.length < greedy.length) got.push(best(sequence.feed([got.at(-1)!])[0]!));
    expect(got).toEqual([...greedy]);
  });

  it("gives the same logits whether a sequence is read at once or in pieces", () => {
    const model = readModel(fixture("tiny/llama-gqa-tied"));
    const ids = Array.from({ length: 12 }, (_, i) => (i * 37) % 512);
    const sequence = new ReferenceSequence(model);
    const pieces = [ids.slice(0, 5), ids.slice(5, 6), ids.slice(6)].flatMap((piece) => sequence.feed(piece));
    expect(pieces).toEqual(referenceLogits(model, ids));
  });
});

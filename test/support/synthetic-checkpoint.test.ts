// The made-up checkpoints, checked before they judge anything: their files mean the truth that
// is handed out with them, according to the reader that golden files have vouched for.

import { describe, expect, it } from "vitest";
import { deviation } from "../reference/compare.js";
import { referenceLogits } from "../reference/forward.js";
import type { ReferenceModel } from "../reference/model.js";
import { readModel } from "../reference/reader.js";
import { fromBrainBits, fromHalfBits, toBrainBits, toHalfBits } from "./element-types.js";
import { buildSynthetic, gptqWeights, makeSynthetic, plainWeights, smallLlama } from "./synthetic-checkpoint.js";
import type { WeightFormat } from "./synthetic-linear.js";

const formats: [string, WeightFormat][] = [
  ["plain f32", { ...plainWeights, dtype: "f32" }],
  ["plain bf16", { ...plainWeights, dtype: "bf16" }],
  ["2-bit", { ...gptqWeights, bits: 2 }],
  ["3-bit asymmetric v2", { ...gptqWeights, bits: 3, symmetric: false, zeros: "v2" }],
  ["4-bit group 40, f32 scales", { ...gptqWeights, groupSize: 40, scaleDtype: "f32" }],
  ["8-bit one group", { ...gptqWeights, bits: 8, groupSize: -1, symmetric: false }],
  ["4-bit act-order", { ...gptqWeights, order: "act-order" }],
  ["4-bit irregular groups", { ...gptqWeights, order: "irregular" }],
];

/** All its weights as bytes, in a fixed order. */
function numbersOf(model: ReferenceModel): Buffer {
  const linears = model.layers.flatMap(({ q, k, v, o, gate, up, down }) => [q, k, v, o, gate, up, down]);
  const norms = model.layers.flatMap(({ inputNorm, postAttentionNorm }) => [inputNorm, postAttentionNorm]);
  const arrays = [...norms, model.finalNorm, model.embedding, ...[...linears, model.head].map(({ weight }) => weight)];
  return Buffer.concat(arrays.map(({ buffer, byteOffset, byteLength }) => Buffer.from(buffer, byteOffset, byteLength)));
}

describe("a synthetic checkpoint", () => {
  it.each(formats)("of %s weights holds in its file what its truth says", (_, weights) => {
    using made = makeSynthetic({ ...smallLlama, layers: 1, weights });
    expect(numbersOf(readModel(made.folder)).equals(numbersOf(made.truth))).toBe(true);
  });

  it.each(formats)("of %s weights has logits of a trained model's size", (_, weights) => {
    const ids = Array.from({ length: 20 }, (_, i) => (i * 31 + 7) % smallLlama.vocab);
    for (const tied of [false, true]) {
      const spread = deviation(referenceLogits(buildSynthetic({ ...smallLlama, weights, tied }).truth, ids));
      expect(spread).toBeGreaterThan(1);
      expect(spread).toBeLessThan(3.5);
    }
  });

  it("is the same for the same seed and another for another", () => {
    const contents = (seed: number) => Buffer.concat(buildSynthetic({ ...smallLlama, seed }).tensors.map(({ data }) => data));
    expect(contents(5).equals(contents(5))).toBe(true);
    expect(contents(5).equals(contents(6))).toBe(false);
  });
});

describe("the element types", () => {
  it("keep every half and every bfloat16 as it is", () => {
    const all = Array.from({ length: 65536 }, (_, bits) => bits);
    const changed = (to: (value: number) => number, from: (bits: number) => number) =>
      all.filter((bits) => !Number.isNaN(from(bits)) && to(from(bits)) !== bits);
    expect(changed(toHalfBits, fromHalfBits)).toEqual([]);
    expect(changed(toBrainBits, fromBrainBits)).toEqual([]);
  });

  it.each([
    [2049, 2048],
    [2051, 2052],
    [65519, 65504],
    [65520, Number.POSITIVE_INFINITY],
    [2 ** -25, 0],
    [3 * 2 ** -25, 2 ** -23],
    [0.1, 0.0999755859375],
  ])("round %d to the half %d", (value, half) => {
    expect(fromHalfBits(toHalfBits(value))).toBe(half);
  });
});

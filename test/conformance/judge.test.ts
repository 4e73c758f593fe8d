// The judges judged: each mistake that a backend could make with a checkpoint is noticed, also
// where it hides in the noise of quantised activations.

import { describe, expect, it } from "vitest";
import { deviation } from "../reference/compare.js";
import { referenceLogits } from "../reference/forward.js";
import { Random } from "../support/random.js";
import { buildSynthetic } from "../support/synthetic-checkpoint.js";
import { judgeExact, judgeQuantized } from "./judge.js";
import { misreadingsOf } from "./misreadings.js";
import { syntheticCases } from "./synthetic-cases.js";

const ids = Array.from({ length: 40 }, (_, i) => (i * 31 + 7) % 300);

/** Logits with as much noise as a backend with int8 activations has, in standard deviations. */
function noisy(rows: readonly Float64Array[], size: number): Float64Array[] {
  const random = new Random(3);
  const spread = deviation(rows) * size;
  return rows.map((row) => row.map((value) => value + random.normal() * spread));
}

const NAMES = [
  "4-bit, asymmetric, zeros v1, group 64",
  "8-bit, asymmetric, zeros v2, act-order",
  "a g_idx of unequal groups",
  "groups of 40, the last one short",
  "llama with all biases",
  "mistral with a window of 33, 4-bit",
  "qwen3, 4-bit, act-order",
  "rope yarn",
];

describe("the judges", () => {
  it.each(NAMES)("accept the truth and notice every misreading of %s", (name) => {
    const { model } = syntheticCases.find((one) => one.name === name)!;
    const files = buildSynthetic(model);
    const { truth } = files;
    const wanted = referenceLogits(truth, ids);
    const misreadings = misreadingsOf(model, files);
    expect(misreadings.length).toBeGreaterThan(0);
    expect(judgeQuantized(noisy(wanted, 0.05), wanted, ids, misreadings)).toBeNull();
    expect(judgeExact(noisy(wanted, 1e-4), wanted)).toBeNull();
    for (const misreading of misreadings) {
      const mistaken = referenceLogits(misreading.model, ids);
      expect(judgeQuantized(noisy(mistaken, 0.05), wanted, ids, misreadings), misreading.name).not.toBeNull();
      expect(judgeExact(mistaken, wanted), misreading.name).not.toBeNull();
    }
  });

  it("notice numbers that are none", () => {
    const { truth } = buildSynthetic(syntheticCases[0]!.model);
    const rows = referenceLogits(truth, ids);
    rows[3]![5] = Number.NaN;
    expect(judgeExact(rows, referenceLogits(truth, ids))).not.toBeNull();
    expect(judgeQuantized(rows, referenceLogits(truth, ids), ids, [])).not.toBeNull();
  });
});

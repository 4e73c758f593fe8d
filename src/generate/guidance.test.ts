import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { logSoftmaxAt } from "../sampling/logprobs.js";
import { mixGuidance } from "./guidance.js";

const row = fc.array(fc.float({ min: -30, max: 30, noNaN: true }), { minLength: 5, maxLength: 5 });
const rows = fc.tuple(row, row).map((pair) => pair.map((values) => Float32Array.from(values)) as [Float32Array, Float32Array]);

function logSoftmax(logits: Float32Array): number[] {
  return Array.from(logits, (_, id) => logSoftmaxAt(logits, id));
}

describe("mixGuidance", () => {
  it.each([
    ["0: the negative prompt alone", 0, (_: number[], negative: number[]) => negative],
    ["1: the prompt alone", 1, (prompt: number[]) => prompt],
    ["0.5: the middle", 0.5, (prompt: number[], negative: number[]) => prompt.map((value, id) => (value + negative[id]!) / 2)],
    [
      "2: away from the negative prompt",
      2,
      (prompt: number[], negative: number[]) => prompt.map((value, id) => 2 * value - negative[id]!),
    ],
  ] as const)("mixes log-probabilities with a scale of %s", (_, scale, expected) => {
    fc.assert(
      fc.property(rows, ([prompt, negative]) => {
        const wanted = expected(logSoftmax(prompt), logSoftmax(negative));
        mixGuidance(prompt, negative, scale).forEach((value, id) => {
          expect(value).toBeCloseTo(wanted[id]!, 4);
        });
      }),
    );
  });

  it("does not care how far either row is shifted", () => {
    const prompt = Float32Array.of(1, 4, -2);
    const negative = Float32Array.of(0.5, 3, 2);
    const shifted = mixGuidance(
      prompt.map((value) => value + 8),
      negative.map((value) => value - 16),
      1.5,
    );
    mixGuidance(prompt, negative, 1.5).forEach((value, id) => {
      expect(shifted[id]).toBeCloseTo(value, 5);
    });
  });

  it("keeps an impossible id impossible, and makes none infinitely likely", () => {
    const mixed = mixGuidance(Float32Array.of(1, -Infinity, 2), Float32Array.of(1, 2, -Infinity), 3);
    expect(mixed[1]).toBe(-Infinity);
    expect(Number.isFinite(mixed[0]!) && Number.isFinite(mixed[2]!)).toBe(true);
    expect(mixed[2]).toBeGreaterThan(mixed[0]!);
  });

  it("refuses rows that are no logits", () => {
    expect(() => mixGuidance(Float32Array.of(1, Number.NaN), Float32Array.of(1, 2), 1)).toThrow(/NaN/);
  });
});

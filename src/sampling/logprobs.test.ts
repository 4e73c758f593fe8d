import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { LogitsError } from "./errors.js";
import { logSoftmaxAt, topLogprobs } from "./logprobs.js";

const anyLogits = fc
  .array(fc.oneof(fc.integer({ min: -3, max: 3 }), fc.double({ min: -80, max: 80, noNaN: true })), {
    minLength: 1,
    maxLength: 60,
  })
  .map((values) => Float32Array.from(values));

describe("logSoftmaxAt", () => {
  it("gives log-probabilities that sum to one", () => {
    fc.assert(
      fc.property(anyLogits, (logits) => {
        const sum = Array.from(logits, (_, id) => Math.exp(logSoftmaxAt(logits, id))).reduce((a, b) => a + b, 0);
        expect(sum).toBeCloseTo(1, 9);
      }),
    );
  });

  it("does not overflow", () => {
    expect(logSoftmaxAt(Float32Array.of(3e38, 3e38), 1)).toBeCloseTo(-Math.log(2), 9);
    expect(logSoftmaxAt(Float32Array.of(0, -Infinity), 1)).toBe(-Infinity);
  });

  it("refuses NaN", () => {
    expect(() => logSoftmaxAt(Float32Array.of(0, Number.NaN), 0)).toThrow(LogitsError);
  });
});

describe("topLogprobs", () => {
  it("equals a full sort, lowest id first among equals", () => {
    fc.assert(
      fc.property(anyLogits, fc.integer({ min: 0, max: 70 }), (logits, count) => {
        const sorted = Array.from(logits, (_, id) => ({ id, logprob: logSoftmaxAt(logits, id) }));
        sorted.sort((a, b) => logits[b.id]! - logits[a.id]! || a.id - b.id);
        expect(topLogprobs(logits, count)).toEqual(sorted.slice(0, count));
      }),
    );
  });
});

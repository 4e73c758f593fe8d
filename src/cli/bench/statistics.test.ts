import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { spreadOf } from "./statistics.js";

describe("spreadOf", () => {
  it.each([
    [[5], { mean: 5, deviation: 0, median: 5 }],
    [[2, 4], { mean: 3, deviation: Math.SQRT2, median: 3 }],
    [[9, 1, 2], { mean: 4, deviation: Math.sqrt(19), median: 2 }],
    [[4, 1, 3, 2], { mean: 2.5, deviation: Math.sqrt(5 / 3), median: 2.5 }],
  ])("of %j", (samples, expected) => {
    const { mean, deviation, median } = spreadOf(samples);
    expect(mean).toBeCloseTo(expected.mean, 12);
    expect(deviation).toBeCloseTo(expected.deviation, 12);
    expect(median).toBeCloseTo(expected.median, 12);
  });

  it("keeps samples in their order, and mean and median between the least and the most of them", () => {
    const some = fc.array(fc.double({ min: 0, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(some, (samples) => {
        const { mean, median, samples: kept } = spreadOf(samples);
        expect(kept).toEqual(samples);
        for (const value of [mean, median]) {
          expect(value).toBeGreaterThanOrEqual(Math.min(...samples) * (1 - 1e-9));
          expect(value).toBeLessThanOrEqual(Math.max(...samples) * (1 + 1e-9));
        }
      }),
    );
  });
});

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Rate } from "./rate.js";

describe("Rate", () => {
  it("is the mean of the last ten seconds", () => {
    const rate = new Rate();
    for (let second = 0; second < 30; second++) rate.add(50, second * 1000 + 500);
    expect(rate.perSecond(29_900)).toBe(50);
    expect(rate.perSecond(34_900)).toBe(25);
    expect(rate.perSecond(60_000)).toBe(0);
  });

  it("counts exactly what came within the window, whenever it came", () => {
    const counts = fc.array(fc.record({ after: fc.nat({ max: 15_000 }), count: fc.nat({ max: 100 }) }), { maxLength: 40 });
    fc.assert(
      fc.property(counts, fc.nat({ max: 30_000 }), (steps, last) => {
        const rate = new Rate();
        let now = 0;
        const all = steps.map(({ after, count }) => {
          now += after;
          rate.add(count, now);
          return { second: Math.floor(now / 1000), count };
        });
        now += last;
        const from = Math.floor(now / 1000) - 9;
        const expected = all.filter(({ second }) => second >= from).reduce((sum, { count }) => sum + count, 0);
        expect(rate.perSecond(now) * 10).toBeCloseTo(expected, 6);
      }),
    );
  });
});

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { selectBest } from "./candidates.js";

describe("selectBest", () => {
  // Small whole numbers: many equal keys, and sums without rounding.
  const anyItems = fc.array(fc.record({ key: fc.integer({ min: 0, max: 6 }), weight: fc.integer({ min: 0, max: 4 }) }), {
    minLength: 1,
    maxLength: 50,
  });

  it.each([
    ["by count", false],
    ["by weight", true],
  ])("brings the smallest set that reaches the goal to the front, %s", (_, weighted) => {
    fc.assert(
      fc.property(anyItems, fc.integer({ min: 1, max: 60 }), fc.infiniteStream(fc.nat()), (items, goal, random) => {
        const key = Float64Array.from(items, (item) => item.key);
        const weights = weighted ? Float64Array.from(items, (item) => item.weight) : null;
        const best = items.map((_, id) => id).sort((a, b) => key[b]! - key[a]! || a - b);
        let sum = 0;
        const end = best.findIndex((id) => {
          sum += weights?.[id] ?? 1;
          return sum >= goal;
        });
        const expected = end < 0 ? best : best.slice(0, end + 1);

        const shuffled = Int32Array.from(
          items.map((_, id) => ({ id, place: random.next().value as number })).sort((a, b) => a.place - b.place),
          ({ id }) => id,
        );
        const kept = selectBest(shuffled, items.length, key, weights, goal);
        expect(Array.from(shuffled.subarray(0, kept)).sort((a, b) => a - b)).toEqual(expected.sort((a, b) => a - b));
        expect(new Set(shuffled).size).toBe(items.length);
      }),
    );
  });
});

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type BruteRule, bruteForce } from "../../test/support/brute-force.js";
import { place } from "./placement.js";
import type { PlacementEntry, PlacementProblem } from "./placement-problem.js";

const RULES: readonly BruteRule[] = ["even", "fewest", "fill", "closest"];

/** Any costs at all, small so that ties are frequent: the search may not rest on costs growing with layers. */
const problems: fc.Arbitrary<PlacementProblem> = fc
  .record({ layerCount: fc.integer({ min: 1, max: 6 }), devices: fc.integer({ min: 1, max: 5 }) })
  .chain(({ layerCount, devices }) =>
    fc.record({
      layerCount: fc.constant(layerCount),
      costs: fc
        .array(fc.oneof({ weight: 20, arbitrary: fc.integer({ min: 1, max: 20 }) }, fc.constant(Number.POSITIVE_INFINITY)), {
          minLength: (layerCount + 1) ** 2,
          maxLength: (layerCount + 1) ** 2,
        })
        .map((values) => Float64Array.from(values)),
      entries: entriesOf(devices, fc.integer({ min: 0, max: 30 })),
      draft: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 10 })),
    }),
  );

/** Costs as models have them: what a layer needs, a scratch for every device, a head. */
const models: fc.Arbitrary<PlacementProblem> = fc
  .record({
    layers: fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 7 }),
    scratch: fc.integer({ min: 0, max: 10 }),
    embedding: fc.integer({ min: 0, max: 20 }),
    head: fc.integer({ min: 0, max: 30 }),
    entries: fc.integer({ min: 1, max: 5 }).chain((devices) => entriesOf(devices, fc.integer({ min: 0, max: 200 }))),
    draft: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 30 })),
  })
  .map(({ layers, scratch, embedding, head, entries, draft }) => {
    const all = layers.length;
    const costs = new Float64Array((all + 1) ** 2);
    for (let i = 0; i < all; i++)
      for (let j = i + 1; j <= all; j++) {
        const sum = layers.slice(i, j).reduce((a, b) => a + b, scratch);
        costs[i * (all + 1) + j] = sum + (i === 0 ? embedding : 0) + (j === all ? head : 0);
      }
    return { layerCount: all, costs, entries, draft };
  });

function entriesOf(devices: number, caps: fc.Arbitrary<number>): fc.Arbitrary<PlacementEntry[]> {
  const cards = fc.array(fc.constantFrom("a", "b", "c", "d", "e"), { minLength: devices, maxLength: devices });
  const list = fc.array(fc.record({ cap: caps, baseline: fc.integer({ min: 0, max: 6 }) }), {
    minLength: devices,
    maxLength: devices,
  });
  return fc.tuple(cards, list, fc.boolean()).map(([ids, entries, shared]) =>
    entries.map(({ cap, baseline }, index) => {
      const card = shared ? ids[index]! : String(index);
      const first = shared ? (ids as string[]).indexOf(card) : index;
      return { cap, baseline: entries[first]?.baseline ?? baseline, card };
    }),
  );
}

describe("place", () => {
  for (const rule of RULES) {
    it(`equals brute force on random costs: ${rule}`, () => {
      fc.assert(
        fc.property(problems, (problem) => {
          expect(place(problem, rule)).toEqual(bruteForce(problem, rule));
        }),
        { numRuns: 1500 },
      );
    });

    it(`equals brute force on random models: ${rule}`, () => {
      fc.assert(
        fc.property(models, (problem) => {
          expect(place(problem, rule)).toEqual(bruteForce(problem, rule));
        }),
        { numRuns: 1500 },
      );
    });
  }

  it("keeps every device within its cap, and uses each used card's baseline once", () => {
    fc.assert(
      fc.property(models, fc.constantFrom("even", "fewest", "fill"), (problem, rule) => {
        const placement = place(problem, rule);
        for (const [index, use] of placement?.use.entries() ?? []) expect(use).toBeLessThanOrEqual(problem.entries[index]!.cap);
      }),
    );
  });

  it("tells shares apart that differ by a byte on devices of terabytes", () => {
    const cap = 2 ** 43;
    const costs = Float64Array.from([0, 2 ** 42, 2 ** 43, 0, 0, 2 ** 42 + 1, 0, 0, 0]);
    const entries = [
      { cap: cap + 2, baseline: 0, card: "a" },
      { cap, baseline: 0, card: "b" },
      { cap: cap + 2, baseline: 0, card: "c" },
    ];
    // a: 2^42 of cap + 2; then 2^42 + 1 on c is half exactly, on b more than half.
    expect(place({ entries, layerCount: 2, costs, draft: 0 }, "even")?.counts).toEqual([1, 0, 1]);
  });

  it("refuses more interleaved shared cards than it can keep apart", () => {
    const cards = Array.from({ length: 12 }, (_, index) => `card${index}`);
    const entries = [...cards, ...cards].map((card) => ({ cap: 10, baseline: 1, card }));
    const costs = Float64Array.from([0, 1, 0, 0]);
    expect(() => place({ entries, layerCount: 1, costs, draft: 0 }, "even")).toThrow(/too many cards are listed more than once/);
  });
});

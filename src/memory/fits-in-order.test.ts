import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { llama7b, makeSpec } from "../../test/support/shapes.js";
import { cudaPacking } from "../backend/cuda/packing.js";
import { Completions } from "./completions.js";
import { fitsInOrder } from "./fits-in-order.js";
import type { PlacementEntry } from "./placement-problem.js";
import { MiB } from "./size.js";
import { StageCosts } from "./stage-costs.js";

describe("fitsInOrder", () => {
  const specs = [1, 2, 5, 9].map((layers) => makeSpec({ ...llama7b, layers }));
  const parts = specs.map((spec) => new StageCosts(spec, cudaPacking));
  const entry = fc.record({
    cap: fc.integer({ min: 0, max: 1200 }).map((size) => size * MiB),
    baseline: fc.integer({ min: 0, max: 300 }).map((size) => size * MiB),
  });

  it("says what a look at all placements says", () => {
    let fitting = 0;
    fc.assert(
      fc.property(
        fc.array(entry, { minLength: 1, maxLength: 6 }),
        fc.nat(specs.length - 1),
        fc.integer({ min: 1, max: 40 }),
        (some, which, pages) => {
          const entries: PlacementEntry[] = some.map((each, index) => ({ ...each, card: `card ${index}` }));
          const context = pages * 256;
          const run = { context, cacheTokens: context, prefillChunk: 256, maxSequences: 1, cacheType: "f16" as const };
          const costs = parts[which]!.of(run);
          const { layerCount } = parts[which]!;
          const all = new Completions({ entries, layerCount, costs: costs.table(), draft: 0 }, "even").possible;
          expect(fitsInOrder(entries, layerCount, (first, count) => costs.stage(first, count))).toBe(all);
          fitting += Number(all);
        },
      ),
      { numRuns: 2000 },
    );
    expect(fitting).toBeGreaterThan(100);
  });

  it("is for packings and models whose runs take no less than what they contain", () => {
    expect(parts.every(({ growing }) => growing)).toBe(true);
    const spec = specs[2]!;
    const other = { ...spec.layers[1]!, mlp: makeSpec({ ...llama7b, intermediate: 5632 }).layers[0]!.mlp };
    const mixed = { ...spec, layers: spec.layers.map((layer, i) => (i === 1 ? other : layer)) };
    expect(new StageCosts(mixed, cudaPacking).growing).toBe(false);
    expect(new StageCosts(spec, { ...cudaPacking, maxArena: 2 ** 32 }).growing).toBe(false);
  });
});

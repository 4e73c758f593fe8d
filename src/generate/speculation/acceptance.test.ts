import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { yieldedIds } from "./acceptance.js";

describe("yieldedIds", () => {
  it.each([
    ["nothing was proposed", [], [4], [4]],
    ["everything stands", [4, 5], [4, 5, 6], [4, 5, 6]],
    ["the first is wrong", [9, 5], [4, 5, 6], [4]],
    ["what comes after a wrong one does not count", [4, 9, 6], [4, 5, 6, 7], [4, 5]],
  ])("when %s", (_, proposed, chosen, yielded) => {
    expect(yieldedIds(proposed, chosen)).toEqual(yielded);
  });

  it("yields what decoding one by one would, whatever is proposed", () => {
    // A model whose choice depends on everything before it.
    const next = (ids: readonly number[]) => ids.reduce((sum, id) => (sum * 31 + id + 1) % 5, 3);
    const proposals = fc.array(fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 }), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(proposals, (all) => {
        const fast = [1];
        const plain = [1];
        for (const proposed of all) {
          const chosen = Array.from({ length: proposed.length + 1 }, (_, i) => next([...fast, ...proposed.slice(0, i)]));
          fast.push(...yieldedIds(proposed, chosen));
        }
        while (plain.length < fast.length) plain.push(next(plain));
        expect(fast).toEqual(plain);
      }),
    );
  });
});

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type NgramBounds, NgramIndex } from "./ngram-index.js";

function indexOf(ids: readonly number[], bounds?: NgramBounds): NgramIndex {
  const index = new NgramIndex(bounds);
  index.append(ids);
  return index;
}

/** The same by looking everywhere. */
function slowProposal(ids: readonly number[], { shortest, longest }: NgramBounds, count: number): number[] {
  for (let length = Math.min(longest, ids.length - 1); length >= shortest; length--) {
    const run = ids.slice(-length);
    for (let end = ids.length - 1; end >= length; end--) {
      if (!run.every((id, i) => ids[end - length + i] === id)) continue;
      const text = [...ids];
      for (let i = 0; i < count; i++) text.push(text[end + i]!);
      return text.slice(ids.length);
    }
  }
  return [];
}

describe("NgramIndex", () => {
  it.each([
    ["what followed last time", [1, 2, 3, 9, 8, 7, 1, 2, 3], 3, [9, 8, 7]],
    ["what followed the latest occurrence", [1, 2, 3, 5, 1, 2, 3, 6, 1, 2, 3], 1, [6]],
    ["what followed the longest run", [4, 1, 2, 3, 5, 0, 1, 2, 3, 6, 4, 1, 2, 3], 1, [5]],
    ["a period, again and again", [7, 1, 2, 1, 2, 1, 2], 5, [1, 2, 1, 2, 1]],
    ["one id for ever", [5, 5, 5, 5], 3, [5, 5, 5]],
    ["nothing for a run that is too short", [1, 2, 9, 1, 2], 3, []],
    ["nothing for a text that repeats nothing", [1, 2, 3, 4, 5, 6], 3, []],
    ["nothing for an empty text", [], 3, []],
  ])("proposes %s", (_, ids, count, proposed) => {
    expect(indexOf(ids).propose(count)).toEqual(proposed);
  });

  it("finds what a search through the whole text finds, however the text came", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 60 }),
        fc.integer({ min: 1, max: 3 }),
        fc.integer({ min: 0, max: 4 }),
        fc.integer({ min: 0, max: 60 }),
        (ids, shortest, more, cut) => {
          const bounds = { shortest, longest: shortest + more };
          const index = indexOf(ids.slice(0, cut), bounds);
          index.append(ids.slice(cut));
          expect(index.length).toBe(ids.length);
          expect(index.propose(7)).toEqual(slowProposal(ids, bounds, 7));
        },
      ),
      { numRuns: 500 },
    );
  });

  it("tells runs of one hash apart", () => {
    // 0x811c9dc5 ^ a, times the factor, ^ b … : equal after two ids when b ^ d = (a' ^ c') of the products.
    const product = (id: number) => Math.imul(0x811c9dc5 ^ id, 0x01000193);
    const [a, c, b] = [1, 2, 3];
    const d = (product(a) ^ product(c) ^ b) >>> 0;
    const index = indexOf([a, b, 77, 5, c, d], { shortest: 2, longest: 2 });
    expect(index.propose(1)).toEqual([]);
  });
});

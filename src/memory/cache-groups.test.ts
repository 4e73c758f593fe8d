import { describe, expect, it } from "vitest";
import { llama7b, makeSpec } from "../../test/support/shapes.js";
import { cacheGroups } from "./cache-groups.js";
import type { RunShape } from "./packing.js";

const run: RunShape = { context: 8192, cacheTokens: 8192, cacheType: "f16", maxSequences: 1, prefillChunk: 512 };
const windowed = (...windows: (number | null)[]) => makeSpec({ ...llama7b, layers: windows.length, windows });

describe("cacheGroups", () => {
  it("puts layers of the same reach together, the whole context first", () => {
    const groups = cacheGroups(windowed(1024, null, 1024, null), run);
    expect(groups.map(({ window, layers }) => ({ window, layers }))).toEqual([
      { window: null, layers: [1, 3] },
      { window: 1024, layers: [0, 2] },
    ]);
  });

  it.each([
    // window, chunk, context, pages a sequence holds
    [1024, 512, 8192, 6], // ceil((1024 + 512) / 256)
    [1024, 1, 8192, 5], // a window of 1024 touches five pages unless it begins on a border
    [1, 1, 8192, 1],
    [4096, 512, 2048, 8], // never more than the whole context
  ])("a window of %d with a chunk of %d in a context of %d holds %d pages", (window, prefillChunk, context, pages) => {
    const [group] = cacheGroups(windowed(window), { ...run, context, cacheTokens: 8192, prefillChunk });
    expect(group).toMatchObject({ window, pagesPerSequence: pages, pages });
  });

  it("gives every sequence its window, but never more than the pool", () => {
    const pages = (maxSequences: number) => cacheGroups(windowed(1024), { ...run, maxSequences })[0]!.pages;
    expect([1, 2, 5, 6, 100].map(pages)).toEqual([6, 12, 30, 32, 32]);
  });

  it("takes contexts that are no multiple of a page", () => {
    const [group] = cacheGroups(windowed(null), { ...run, context: 300, cacheTokens: 1024 });
    expect(group).toMatchObject({ pagesPerSequence: 2, pages: 4 });
  });
});

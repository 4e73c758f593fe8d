import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { SessionBlock } from "./document.js";
import { append, branchOf, removeFrom, removeOne, show, siblingsOf } from "./tree.js";

const block = (id: string, parent: string | null): SessionBlock => ({
  id,
  parent,
  author: "user",
  text: id,
  created: "2026-01-01T00:00:00.000Z",
});

/** a → b → c, and beside b: d → e. */
const tree = {
  blocks: [block("a", null), block("b", "a"), block("c", "b"), block("d", "a"), block("e", "d")],
  leaf: "e" as string | null,
  firstKept: null as string | null,
};
const ids = (content: typeof tree) => branchOf(content).map(({ id }) => id);

describe("branches", () => {
  it("go from the first block to the leaf", () => {
    expect(ids(tree)).toEqual(["a", "d", "e"]);
    expect(ids({ ...tree, leaf: null })).toEqual([]);
  });

  it("are shown by any block on them, to their newest end", () => {
    expect(ids(show(tree, "b"))).toEqual(["a", "b", "c"]);
    expect(ids(show(tree, "a"))).toEqual(["a", "d", "e"]);
  });

  it("part where blocks have the same parent", () => {
    expect(siblingsOf(tree, block("b", "a")).map(({ id }) => id)).toEqual(["b", "d"]);
    expect(ids(append({ ...tree, leaf: "a" }, block("f", "a")))).toEqual(["a", "f"]);
  });
});

describe("deleting", () => {
  it("of one block lets what followed it follow what stood before it", () => {
    expect(ids(removeOne(tree, "d"))).toEqual(["a", "e"]);
    expect(ids(removeOne(tree, "a"))).toEqual(["d", "e"]);
    expect(ids(removeOne(tree, "e"))).toEqual(["a", "d"]);
  });

  it("from a block on takes every branch through it, and shows the one beside it", () => {
    const left = removeFrom(tree, "d");
    expect(left.blocks.map(({ id }) => id)).toEqual(["a", "b", "c"]);
    expect(ids(left)).toEqual(["a", "b", "c"]);
    expect(removeFrom(tree, "a")).toMatchObject({ blocks: [], leaf: null });
  });

  it("forgets the first block that the model saw when that is gone", () => {
    expect(removeOne({ ...tree, firstKept: "d" }, "d").firstKept).toBeNull();
    expect(removeOne({ ...tree, firstKept: "a" }, "d").firstKept).toBe("a");
  });

  it("leaves a tree, whatever is deleted", () => {
    const steps = fc.array(fc.tuple(fc.boolean(), fc.nat(9)), { maxLength: 12 });
    const parents = fc.array(fc.nat(100), { minLength: 1, maxLength: 10 });
    fc.assert(
      fc.property(parents, steps, (from, deletions) => {
        const blocks = from.map((at, index) => block(`${index}`, index === 0 ? null : `${at % index}`));
        let content = { blocks, leaf: `${blocks.length - 1}` as string | null, firstKept: null as string | null };
        for (const [whole, id] of deletions) content = whole ? removeFrom(content, `${id}`) : removeOne(content, `${id}`);
        const seen = new Set<string>();
        for (const { id, parent } of content.blocks) {
          expect(parent === null || seen.has(parent)).toBe(true);
          seen.add(id);
        }
        expect(content.leaf === null ? content.blocks.length === 0 : seen.has(content.leaf)).toBe(true);
      }),
    );
  });
});

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readContent, type SessionContent } from "../../../src/server/sessions/document.js";
import { sessionContent } from "../../../test/support/session-content.js";
import { merge } from "./merge.js";
import { append, change, removeFrom, removeOne } from "./tree.js";

const base = sessionContent();
const added = (content: SessionContent, id: string) =>
  append(content, { id, parent: content.leaf, author: "user", text: id, created: "2026-01-01T00:00:00.000Z" });
const idsOf = ({ blocks }: SessionContent) => blocks.map(({ id }) => id);

describe("merge", () => {
  it("keeps what each has changed alone", () => {
    const merged = merge(base, { ...base, title: "mine" }, added({ ...base, text: "theirs" }, "c"));
    expect(merged).toMatchObject({ title: "mine", text: "theirs", leaf: "c" });
    expect(idsOf(merged)).toEqual(["a", "b", "c"]);
  });

  it("keeps the blocks that both have added, on two branches", () => {
    const merged = merge(base, added(base, "mine"), added(base, "theirs"));
    expect(merged.blocks.filter(({ parent }) => parent === "b").map(({ id }) => id)).toEqual(["theirs", "mine"]);
    expect(merged.leaf).toBe("mine");
  });

  it("deletes what one has deleted and the other left alone, not what the other has changed", () => {
    const theirs = change(base, "b", { text: "changed" });
    expect(idsOf(merge(base, removeOne(base, "b"), base))).toEqual(["a"]);
    expect(merge(base, removeOne(base, "b"), theirs).blocks.at(-1)).toMatchObject({ id: "b", text: "changed" });
  });

  it("hangs a new block of the other from what is left of its branch", () => {
    const merged = merge(base, removeFrom(base, "a"), added(base, "c"));
    expect(merged.blocks).toMatchObject([{ id: "c", parent: null }]);
  });

  it("always gives a session that the server takes, and loses no block that either has made", () => {
    const edits = fc.array(fc.tuple(fc.constantFrom("add", "one", "from", "text"), fc.nat(5)), { maxLength: 6 });
    const apply = (name: string, steps: readonly (readonly [string, number])[]) =>
      steps.reduce<SessionContent>((content, [kind, at], step) => {
        const block = content.blocks[at % Math.max(1, content.blocks.length)];
        if (kind === "add" || !block) return added(content, `${name}${step}`);
        if (kind === "one") return removeOne(content, block.id);
        return kind === "from" ? removeFrom(content, block.id) : change(content, block.id, { text: `${name}${step}` });
      }, base);
    fc.assert(
      fc.property(edits, edits, (mine, theirs) => {
        const [left, right] = [apply("mine", mine), apply("theirs", theirs)];
        const merged = readContent(merge(base, left, right));
        const made = [...idsOf(left), ...idsOf(right)].filter((id) => !idsOf(base).includes(id));
        expect(idsOf(merged)).toEqual(expect.arrayContaining(made));
      }),
    );
  });
});

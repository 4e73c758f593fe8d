import { describe, expect, it } from "vitest";
import { sessionContent } from "../../../test/support/session-content.js";
import type { SessionBlock } from "./document.js";
import { lighter } from "./lighter.js";

const block = (n: number): SessionBlock => ({
  id: `${n}`,
  parent: n === 0 ? null : `${n - 1}`,
  author: "assistant",
  text: "word",
  created: "2026-01-01T00:00:00.000Z",
  probabilities: Array.from({ length: 100 }, () => ["word", -1, [["other", -2]]]),
});

describe("lighter", () => {
  const content = sessionContent({ blocks: [0, 1, 2, 3].map(block), leaf: "3" });

  it("leaves a session as it is while it is small", () => expect(lighter(content)).toBe(content));

  it("lets go of the oldest probabilities, of no text", () => {
    const size = JSON.stringify(content.blocks[0]!.probabilities).length;
    const kept = lighter(content, 3 * size);
    expect(kept.blocks.map(({ probabilities }) => probabilities !== undefined)).toEqual([false, false, false, true]);
    expect(kept.blocks.map(({ text }) => text)).toEqual(content.blocks.map(({ text }) => text));
    expect(lighter(kept, 3 * size)).toBe(kept);
  });
});

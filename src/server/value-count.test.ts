import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hasMoreValues } from "./value-count.js";

describe("hasMoreValues", () => {
  it.each<[string, unknown, boolean]>([
    ["a million ids", { prompt: Array(1e6).fill(1) }, false],
    ["a long text", { prompt: "x".repeat(1e6) }, false],
    ["a few thousand messages", { messages: Array(2000).fill({ role: "user", content: "x" }) }, false],
    ["a hundred thousand texts", { input: Array(1e5).fill("x") }, true],
    ["a hundred thousand objects", { messages: Array(1e5).fill({}) }, true],
    ["a hundred thousand lists", { prompt: Array(1e5).fill([1]) }, true],
    ["a hundred thousand keys", Object.fromEntries(Array.from({ length: 1e5 }, (_, i) => [`k${i}`, 1])), true],
    ["a value as deep as a body can be", JSON.parse("[".repeat(1e5) + "]".repeat(1e5)), true],
    ["nothing", null, false],
  ])("of %s", (_what, value, expected) => expect(hasMoreValues(value, 10_000)).toBe(expected));

  it("is never true of what has fewer characters than that", () => {
    fc.assert(fc.property(fc.json(), (text) => !hasMoreValues(JSON.parse(text), text.length + 1)));
  });
});

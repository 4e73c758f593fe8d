import { describe, expect, it } from "vitest";
import { sessionContent } from "../../../test/support/session-content.js";
import type { SessionBlock, SessionContent } from "../session/document.js";
import { fitBranch, fitText } from "./fit.js";

/** A token a word. */
const count = async (text: string) => text.split(/\s+/).filter(Boolean).length;

function branch(turns: number): SessionBlock[] {
  const text = "word ".repeat(42).trim();
  return Array.from({ length: turns }, (_, n) => ({
    id: `${n}`,
    parent: n === 0 ? null : `${n - 1}`,
    author: n % 2 === 0 ? "user" : "assistant",
    text,
    created: "2026-01-01T00:00:00.000Z",
  }));
}

/** With `user:` and what the template puts around it, a turn costs 51. */
const content = (changes: Partial<SessionContent> = {}): SessionContent =>
  sessionContent({ prompt: { text: "Be kind", pinned: true }, blocks: [], leaf: null, ...changes });

describe("fitBranch", () => {
  it("sends everything while it fits, and counts no token where bytes say so already", async () => {
    const seen = await fitBranch(content(), branch(3), 4096, () => Promise.reject(new Error("counted")));
    expect(seen).toMatchObject({ withPrompt: true, firstKept: null });
    expect(seen.blocks).toHaveLength(3);
  });

  it("leaves a quarter out at once, and keeps what is pinned", async () => {
    const seen = await fitBranch(content(), branch(20), 1024, count);
    // 1024 − 256 for the answer; three quarters of it are 576: ten for the prompt, eleven turns of 51.
    expect(seen.blocks).toHaveLength(11);
    expect(seen).toMatchObject({ withPrompt: true, firstKept: "9" });
  });

  it("begins at the same block for the next turns", async () => {
    const next = await fitBranch(content({ firstKept: "9" }), branch(22), 1024, count);
    expect(next.firstKept).toBe("9");
    const later = await fitBranch(content({ firstKept: "9" }), branch(28), 1024, count);
    expect(later.blocks).toHaveLength(11);
  });

  it("lets a prompt that is not pinned roll away with the beginning", async () => {
    const rolling = content({ prompt: { text: "Be kind", pinned: false } });
    expect((await fitBranch(rolling, branch(3), 1024, count)).withPrompt).toBe(true);
    expect((await fitBranch(rolling, branch(20), 1024, count)).withPrompt).toBe(false);
  });

  it("never leaves out the newest block", async () => {
    expect((await fitBranch(content(), branch(4), 16, count)).blocks.map(({ id }) => id)).toEqual(["3"]);
  });
});

describe("fitText", () => {
  const words = (from: number, to: number) => Array.from({ length: to - from }, (_, n) => `w${from + n}`).join(" ");

  it("sends a short text whole, its prompt before it", async () => {
    expect(await fitText(content({ text: "Once" }), 1024, count)).toBe("Be kind\n\nOnce");
  });

  it("cuts a long text at the front, at a word, and seldom at another place", async () => {
    const first = await fitText(content({ text: words(0, 3000) }), 1024, count);
    const next = await fitText(content({ text: words(0, 3003) }), 1024, count);
    expect(first).toMatch(/^Be kind\n\nw\d+ w\d+ .* w2999$/s);
    expect(await count(first)).toBeLessThanOrEqual(768);
    expect(next.split(" ")[2]).toBe(first.split(" ")[2]);
  });

  it("gives the end even of a text without a single space", async () => {
    const text = await fitText(content({ text: "x".repeat(50_000) }), 1024, async (all) => all.length);
    expect(text.length).toBeGreaterThan(0);
    expect(text.length).toBeLessThanOrEqual(768);
  });
});

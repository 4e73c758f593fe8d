import { describe, expect, it } from "vitest";
import { checkProfile, profileOptions } from "./profile.js";

const steps = (batch: readonly number[], depths: readonly number[]) =>
  batch.flatMap((rows) => depths.map((depth) => ({ rows, depth })));

describe("a profile's plan", () => {
  it.each([
    [{}, steps([1], [0]), { ctx: 256, maxSequences: 1, cacheTokens: 256 }],
    [{}, steps([1, 8], [0, 1920, 8064]), { ctx: 8192, maxSequences: 8, cacheTokens: 8 * 8192 }],
    // A page more for the token that the step writes.
    [{}, steps([3], [255, 256]), { ctx: 512, maxSequences: 3, cacheTokens: 3 * 512 }],
    [{ ctx: 2048 }, steps([1], [0]), { ctx: 2048, maxSequences: 1, cacheTokens: 2048 }],
    [{ ctx: "max" as const }, steps([2], [300]), { ctx: "max", maxSequences: 2, cacheTokens: 1024 }],
    [{ ctx: 512, maxSequences: 4, cacheTokens: 700 }, steps([2], [0]), { ctx: 512, maxSequences: 4, cacheTokens: 700 }],
  ])("of %j holds every step that is asked for", (options, requests, wanted) => {
    expect(profileOptions(options, requests)).toEqual(wanted);
  });

  it("that was asked for otherwise is refused in words", () => {
    const run = { context: 1024, cacheTokens: 2048, maxSequences: 4, prefillChunk: 512 };
    expect(() => checkProfile(steps([4], [511]), run)).not.toThrow();
    expect(() => checkProfile(steps([4], [512]), run)).toThrow(
      "a step of 4 sequences that hold 512 tokens needs a cache of 3072 tokens, not 2048",
    );
    expect(() => checkProfile(steps([5], [0]), run)).toThrow(/is more than 4 at once/);
    expect(() => checkProfile(steps([1], [1024]), run)).toThrow(
      /1 sequence that holds 1024 tokens is beyond the context of 1024/,
    );
    expect(() => checkProfile(steps([0], [0]), run)).toThrow(/is none/);
    const prompt = (depth: number) => [{ rows: 1, depth, prompt: true }];
    expect(() => checkProfile(prompt(512), run)).not.toThrow();
    expect(() => checkProfile(prompt(513), run)).toThrow(/a prompt of 513 tokens/);
    expect(() => checkProfile(prompt(0), run)).toThrow(/a prompt of 0 tokens/);
  });
});

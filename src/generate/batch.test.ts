import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { composeBatch } from "./batch.js";
import type { Sequence } from "./sequence.js";

/** A sequence as composeBatch sees it; its pages allow chunks of at most `chunk` tokens. */
function waitingFor(
  remaining: number,
  { paused = false, chunk = Number.POSITIVE_INFINITY, fed = 10, decoding = false, page = null as number | null } = {},
): Sequence {
  const chunkEnd = (wanted: number) => Math.min(wanted, fed + chunk);
  return { job: { paused }, fed, remaining, decoding, chunkEnd, pageKey: page, nextPageKey: page } as unknown as Sequence;
}

const tokensOf = (running: readonly Sequence[], prefillChunk: number) => {
  const parts = composeBatch(running, prefillChunk);
  return running.map((sequence) => {
    const part = parts.find((candidate) => candidate.sequence === sequence);
    return part ? part.end - sequence.fed : 0;
  });
};

describe("composeBatch", () => {
  it.each<[string, number[], number, number[]]>([
    ["everyone who decodes takes part", [1, 1, 1], 8, [1, 1, 1]],
    ["a prompt gets what decoding leaves", [1, 100, 1], 8, [1, 6, 1]],
    ["the oldest prompt gets half, and the rest goes to those that need least", [100, 3, 50, 2], 10, [5, 3, 0, 2]],
    ["of prompts alike the older comes first", [100, 100], 8, [8, 0]],
    ["an old short prompt is finished first", [5, 100], 8, [5, 3]],
    ["what others do not need is the oldest's", [100, 1, 2], 10, [7, 1, 2]],
    ["a chunk smaller than the batch starves no prompt", [1, 1, 1, 100], 2, [1, 1, 1, 1]],
    ["one token each is always allowed", [100, 100, 100], 1, [1, 1, 1]],
    ["nothing to do", [], 8, []],
  ])("%s", (_, remaining, prefillChunk, tokens) => {
    expect(
      tokensOf(
        remaining.map((count) => waitingFor(count)),
        prefillChunk,
      ),
    ).toEqual(tokens);
  });

  it("feeds what speculation has appended before any prompt, and as much of it as fits", () => {
    const speculating = () => waitingFor(5, { decoding: true });
    expect(tokensOf([waitingFor(100), speculating(), speculating()], 16)).toEqual([6, 5, 5]);
    expect(tokensOf([waitingFor(100), speculating(), speculating()], 7)).toEqual([0, 5, 2]);
    expect(tokensOf([speculating(), speculating(), waitingFor(1)], 2)).toEqual([1, 1, 1]);
  });

  it("lets those wait that would compute a page which another is computing", () => {
    const follower = waitingFor(40, { page: 7 });
    expect(tokensOf([waitingFor(50, { page: 7 }), follower, waitingFor(3, { page: 8 })], 100)).toEqual([50, 0, 3]);
    expect(tokensOf([waitingFor(50, { page: 7, paused: true }), follower], 100)).toEqual([0, 40]);
    expect(tokensOf([waitingFor(50, { page: 7, fed: 5 }), follower], 100)).toEqual([50, 40]); // it is behind
  });

  it("leaves out paused sequences", () => {
    expect(tokensOf([waitingFor(1, { paused: true }), waitingFor(50, { paused: true }), waitingFor(50)], 8)).toEqual([0, 0, 8]);
  });

  it("ends a chunk where the pages say, and gives the rest to others", () => {
    expect(tokensOf([waitingFor(100, { chunk: 3 }), waitingFor(100)], 8)).toEqual([3, 5]);
  });

  it("keeps the plan's limit and always makes progress", () => {
    const anySequence = fc.record({
      remaining: fc.integer({ min: 1, max: 40 }),
      paused: fc.boolean(),
      chunk: fc.integer({ min: 1, max: 30 }),
    });
    fc.assert(
      fc.property(fc.array(anySequence, { maxLength: 8 }), fc.integer({ min: 1, max: 30 }), (wanted, prefillChunk) => {
        const tokens = tokensOf(
          wanted.map(({ remaining, ...rest }) => waitingFor(remaining, rest)),
          prefillChunk,
        );
        const parts = tokens.filter((count) => count > 0).length;
        const total = tokens.reduce((sum, count) => sum + count, 0);
        expect(total).toBeLessThanOrEqual(Math.max(prefillChunk, parts));
        expect(total > 0).toBe(wanted.some(({ paused }) => !paused));
        for (const [i, { remaining, paused }] of wanted.entries()) {
          expect(tokens[i]).toBeLessThanOrEqual(paused ? 0 : remaining);
          if (!paused && remaining === 1) expect(tokens[i]).toBe(1);
          const oldest = wanted.findIndex((other) => !other.paused && other.remaining > 1);
          const most = Math.ceil((prefillChunk - wanted.filter((other) => !other.paused && other.remaining === 1).length) / 2);
          if (i === oldest) expect(tokens[i]).toBeGreaterThanOrEqual(Math.min(remaining, wanted[i]!.chunk, Math.max(most, 0)));
        }
      }),
    );
  });
});

import { describe, expect, it } from "vitest";
import { UsageError } from "../../errors.js";
import { answerLength, checkFit, type DecodeRow, needsOf, rowName, rowsOf } from "./rows.js";

const lists = { prompt: [512], tokens: 128, depth: [0], batch: [1] };
const decode = (row: Partial<DecodeRow>): DecodeRow => ({ kind: "decode", tokens: 128, depth: 0, batch: 1, ...row });

describe("rows of a benchmark", () => {
  it.each([
    [lists, ["pp 512", "tg 128 @ 0"]],
    [{ ...lists, prompt: [0] }, ["tg 128 @ 0"]],
    [{ ...lists, tokens: 0 }, ["pp 512"]],
    [
      { prompt: [64, 128], tokens: 8, depth: [0, 100], batch: [1, 4] },
      ["pp 64", "pp 128", "tg 8 @ 0", "tg 8 @ 100", "tg 8 @ 0 × 4", "tg 8 @ 100 × 4"],
    ],
  ])("of %j", (from, names) => {
    expect(rowsOf(from).map(rowName)).toEqual(names);
  });

  it.each([
    [{ ...lists, prompt: [0], tokens: 0 }, /nothing to measure/],
    [{ ...lists, tokens: 1 }, /one token is no decoding/],
    [{ ...lists, batch: [1, 0] }, /a batch of no sequences/],
  ])("refuse %j", (from, message) => {
    expect(() => rowsOf(from)).toThrow(UsageError);
    expect(() => rowsOf(from)).toThrow(message);
  });
});

describe("what rows need", () => {
  it("is the longest sequence, and whole pages of all that run at once", () => {
    const rows = rowsOf({ prompt: [512], tokens: 32, depth: [240], batch: [1, 8] });
    const answer = answerLength(decode({ tokens: 32, depth: 240, batch: 8 }), 2048);
    expect(answer).toBe(32 + 1 + 2);
    expect(needsOf(rows, 2048)).toEqual({ context: 513, cacheTokens: 8 * 512, maxSequences: 8 });
  });

  it("leaves a single sequence without tokens to wait for others in", () => {
    expect(answerLength(decode({ depth: 1920 }), 256)).toBe(128);
    expect(needsOf([decode({ depth: 1920 })], 256).context).toBe(2048);
  });

  it("counts a token for an empty sequence: a prompt cannot be empty", () => {
    expect(needsOf([decode({})], 256).context).toBe(129);
  });

  const run = { context: 2048, cacheTokens: 2048, maxSequences: 4, prefillChunk: 256 };
  it.each([
    [decode({ depth: 1921 }), run, /tg 128 @ 1921 does not fit the context of 2048: it needs 2049/],
    [{ kind: "prompt", tokens: 2048 } as const, run, /pp 2048 does not fit the context/],
    [decode({ depth: 600, batch: 3 }), run, /does not fit the cache of 2048: it needs 2304/],
    [decode({ batch: 5 }), { ...run, cacheTokens: 9999 }, /does not fit the sequences of 4: it needs 5/],
  ])("is compared with the plan: %j", (row, had, message) => {
    expect(() => checkFit([row], had)).toThrow(message);
    expect(() => checkFit([decode({ depth: 1920 })], run)).not.toThrow();
  });
});

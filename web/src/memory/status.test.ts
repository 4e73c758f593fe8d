import { describe, expect, it } from "vitest";
import type { LiveSample } from "../../../src/server/page/live-figures.js";
import { ratesOf } from "./status.js";

const sample = (time: number, generatedTokens: number, firstToken: LiveSample["firstToken"]): LiveSample => ({
  time,
  running: 1,
  waiting: 0,
  idle: 0,
  pages: { free: 1, total: 2 },
  promptTokens: 0,
  generatedTokens,
  firstToken,
  betweenTokens: { count: 0, seconds: 0 },
  devices: [],
});

describe("ratesOf", () => {
  it("gives tokens per second, and the average latency of what ended in between", () => {
    const rates = ratesOf([sample(0, 100, { count: 1, seconds: 1 }), sample(2000, 300, { count: 3, seconds: 1.5 })]);
    expect(rates).toMatchObject({ times: [2], generated: [100], prompt: [0], firstTokenMs: [250], betweenTokensMs: [null] });
  });

  it("goes on from 0 where an engine was started anew", () => {
    const rates = ratesOf([sample(0, 900, { count: 5, seconds: 5 }), sample(2000, 20, { count: 0, seconds: 0 })]);
    expect(rates).toMatchObject({ generated: [0], firstTokenMs: [null] });
  });

  it("says nothing of a single sample", () => {
    expect(ratesOf([sample(0, 1, { count: 0, seconds: 0 })]).times).toEqual([]);
  });
});

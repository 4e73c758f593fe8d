import { describe, expect, it } from "vitest";
import type { Model } from "../../index.js";
import { GiB } from "../../memory/size.js";
import { type BenchResult, benchJson, benchLines } from "./report.js";
import { spreadOf } from "./statistics.js";

const model = {
  info: { source: "synthetic:llama-7b:4:128", architecture: "llama", quantization: "GPTQ 4-bit g128", backend: "cuda" },
  plan: {
    context: 2048,
    run: { cacheType: "f16", cacheTokens: 4096, prefillChunk: 2048 },
    devices: [
      { total: 5 * GiB, scratch: 1000 },
      { total: GiB, scratch: 10 },
    ],
  },
} as unknown as Pick<Model, "info" | "plan">;

const result: BenchResult = {
  model,
  meters: { card: "NVIDIA H100", driver: "580.1" },
  loadMs: 1234,
  devices: [
    { id: "cuda:0", planned: 5 * GiB, measured: 4.75 * GiB },
    { id: "cuda:1", planned: GiB, measured: null },
  ],
  readRate: 3e12,
  rows: [
    {
      row: { kind: "prompt", tokens: 1920 },
      tokensPerSecond: spreadOf([45000, 47000]),
      ...{ held: null, stepBytes: null, bytesPerSecond: null, joulesPerToken: 0.0151 },
    },
    {
      row: { kind: "decode", tokens: 128, depth: 1920, batch: 8 },
      tokensPerSecond: spreadOf([500, 502]),
      ...{ held: 1984, stepBytes: 4e9, bytesPerSecond: 2.25e12, joulesPerToken: null },
    },
  ],
};

describe("a benchmark's report", () => {
  it("for people has a line for each row, and dashes where nothing was measured", () => {
    expect(benchLines(result)).toEqual([
      "synthetic:llama-7b:4:128 (llama, GPTQ 4-bit g128), NVIDIA H100, driver 580.1",
      "loaded in 1.2 s; context 2,048, f16 cache of 4,096 tokens, prompts 2,048 at a time",
      "cuda:0: 5.00 GiB planned, 4.75 GiB measured",
      "cuda:1: 1.00 GiB planned",
      "reading alone: 3000 GB/s",
      "",
      "                   tokens/s      ±  GB/s  of reading  J/token",
      "pp 1920              46,000  1,414     –           –   0.0151",
      "tg 128 @ 1920 × 8     501.0    1.4  2250        75 %        –",
    ]);
  });

  it("on the CPU says nothing of cards", () => {
    const lines = benchLines({ ...result, meters: { card: null, driver: null }, readRate: null }).join("\n");
    expect(lines).not.toMatch(/driver|reading alone|75 %/);
  });

  it("for programs has every sample, and shares of what reading alone reaches", () => {
    expect(JSON.parse(JSON.stringify(benchJson(result)))).toMatchObject({
      ...{ card: "NVIDIA H100", driver: "580.1", context: 2048, cache: "f16", memoryBytes: 6 * GiB, scratchBytes: 1010 },
      readRate: 3e12,
      rows: [
        { name: "pp 1920", kind: "prompt", tokens: 1920, shareOfReading: null, joulesPerToken: 0.0151 },
        {
          ...{ name: "tg 128 @ 1920 × 8", kind: "decode", tokens: 128, depth: 1920, batch: 8, shareOfReading: 0.75 },
          tokensPerSecond: { mean: 501, median: 501, samples: [500, 502] },
        },
      ],
    });
  });
});

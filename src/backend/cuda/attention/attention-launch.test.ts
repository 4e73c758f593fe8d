import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type AttentionShape,
  decodeLaunch,
  decodeSplits,
  headTiles,
  kernelDim,
  partialLayout,
  prefillLaunch,
} from "./attention-launch.js";

const LLAMA_7B = { heads: 32, kvHeads: 32, headDim: 128 };
const LLAMA_3_8B = { heads: 32, kvHeads: 8, headDim: 128 };
const TURING = { major: 7, minor: 5, multiprocessors: 68 };
const HOPPER = { major: 9, minor: 0, multiprocessors: 132 };
/** A Turing card's shared memory of a block: the least of all supported cards. */
const LEAST_SHARED = 65536;

const shapes = fc
  .record({
    kvHeads: fc.integer({ min: 1, max: 40 }),
    group: fc.integer({ min: 1, max: 36 }),
    cells: fc.integer({ min: 1, max: 32 }),
  })
  .map(({ kvHeads, group, cells }) => ({ heads: kvHeads * group, kvHeads, headDim: cells * 8 }));

describe("attention launches", () => {
  it.each([
    [8, 64],
    [64, 64],
    [72, 80],
    [80, 80],
    [104, 128],
    [136, 192],
    [256, 256],
  ])("heads of %i take the kernel for %i", (headDim, dim) => {
    expect(kernelDim(headDim, "f16")).toBe(dim);
  });

  it("quantised caches have no kernel of their own for heads of 80", () => {
    expect(kernelDim(80, "q8")).toBe(96);
    expect(kernelDim(64, "q4")).toBe(64);
  });

  it.each([0, 4, 100, 264])("refuses heads of %i", (headDim) => {
    expect(() => kernelDim(headDim, "f16")).toThrow(RangeError);
  });

  it("a prompt of a 7B model: blocks for each head and tile", () => {
    const launch = { grid: [32, 60, 1], block: 128 };
    expect(prefillLaunch(LLAMA_7B, 30, "f16", TURING)).toEqual({
      ...launch,
      family: "attention",
      name: "attention_prefill_d128",
      shared: 65536,
      tiles: null,
    });
    expect(prefillLaunch(LLAMA_7B, 30, "f16", HOPPER)).toMatchObject({
      family: "attention_wgmma",
      grid: [132, 1, 1],
      block: 384,
      tiles: 30,
    });
    expect(prefillLaunch(LLAMA_7B, 1, "f16", HOPPER).grid).toEqual([32, 1, 1]);
    // CodePrefill::kShared of kernels/attention_quantized.cu.
    expect(prefillLaunch(LLAMA_7B, 30, "q8", HOPPER)).toEqual({
      ...launch,
      family: "attention_quantized",
      name: "attention_prefill_q8_d128",
      shared: 2 * (16384 + 8192 + 128),
      tiles: null,
    });
  });

  it("one token of each of two sequences: query heads share their KV head's block", () => {
    // Rings (kStages * kStage of kernels/attention_step.cuh for each warp), sixteen padded queries, the newest key and value.
    const heads80 = 16 * 88 * 2 + 2 * (10 * 16 + 16);
    const heads96of4 = 16 * 104 * 2 + 2 * (3 * 16 + 16);
    expect(decodeLaunch({ heads: 72, kvHeads: 2, headDim: 80 }, 2, "f16", HOPPER)).toMatchObject({
      name: "attention_decode_d80",
      grid: [expect.any(Number), 6, 2],
      block: 128,
      shared: 4 * 3 * 2 * (16 * 11 * 16) + heads80,
    });
    expect(decodeLaunch({ heads: 72, kvHeads: 2, headDim: 80 }, 2, "q4", TURING)).toMatchObject({
      name: "attention_decode_q4_d96",
      grid: [expect.any(Number), 6, 2],
      block: 128,
      shared: 4 * 4 * 2 * (16 * 48 + 16 * 6) + heads96of4,
    });
    // Twice the keys at a time, a stage more.
    expect(decodeLaunch({ heads: 72, kvHeads: 2, headDim: 80 }, 2, "q4", HOPPER).shared).toBe(
      4 * 5 * 2 * (32 * 48 + 32 * 6) + heads96of4,
    );
  });

  it("fit every supported card", () => {
    fc.assert(
      fc.property(shapes, fc.integer({ min: 1, max: 64 }), fc.constantFrom("f16", "q8", "q4"), (shape, rows, cache) => {
        expect(prefillLaunch(shape, rows, cache, TURING).shared).toBeLessThanOrEqual(LEAST_SHARED);
        expect(decodeLaunch(shape, rows, cache, TURING).shared).toBeLessThanOrEqual(LEAST_SHARED);
        // Two blocks on a multiprocessor of an H100.
        expect(decodeLaunch(shape, rows, cache, HOPPER).shared + 1024).toBeLessThanOrEqual(233472 / 2);
      }),
    );
  });
});

/** Parts by rows: where a number begins to hold, up to 256 rows. */
function runsOf(shape: AttentionShape): string {
  const runs: string[] = [];
  for (let rows = 1, last = 0; rows <= 256; rows++) {
    const splits = decodeSplits(shape, rows);
    if (splits !== last) runs.push(`${rows}: ${splits}`);
    last = splits;
  }
  return runs.join(", ");
}

describe("decodeSplits", () => {
  it.each([
    ["7B", LLAMA_7B, "1: 8, 2: 4, 3: 8, 4: 2, 5: 3, 6: 4, 7: 7, 8: 1"],
    ["13B", { heads: 40, kvHeads: 40, headDim: 128 }, "1: 6, 2: 3, 3: 2, 4: 3, 5: 5, 6: 1, 7: 7, 8: 4, 9: 1"],
    ["Llama-3-8B", LLAMA_3_8B, "1: 32, 2: 16, 3: 11, 4: 8, 5: 6, 6: 5, 7: 9, 8: 4, 9: 3, 12: 2, 17: 1"],
    ["70B", { heads: 64, kvHeads: 8, headDim: 128 }, "1: 32, 2: 16, 3: 11, 4: 8, 5: 6, 6: 5, 7: 9, 8: 4, 9: 3, 12: 2, 17: 1"],
    [
      "one KV head",
      { heads: 1, kvHeads: 1, headDim: 64 },
      "1: 32, 9: 29, 10: 26, 11: 24, 12: 22, 13: 20, 14: 18, 15: 17, 16: 16, 17: 15, 18: 14, 19: 13, 21: 12, 23: 11, 25: 10, 27: 9, 30: 8, 34: 7, 38: 6, 45: 5, 53: 4, 67: 3, 89: 2, 133: 1",
    ],
  ])("%s, from so many rows on: parts", (_, shape, runs) => {
    expect(runsOf(shape)).toBe(runs);
  });

  it("beyond 8 rows fills what is at work at once and no more, and never cuts more because there are more rows", () => {
    fc.assert(
      fc.property(shapes, fc.integer({ min: 9, max: 256 }), (shape, rows) => {
        const splits = decodeSplits(shape, rows);
        const blocks = headTiles(shape) * rows;
        expect(splits).toBeGreaterThanOrEqual(1);
        if (splits > 1) expect(blocks * splits).toBeLessThanOrEqual(264);
        if (splits < 32) expect(blocks * (splits + 1)).toBeGreaterThan(264);
        expect(splits).toBeLessThanOrEqual(decodeSplits(shape, rows - 1));
      }),
    );
  });

  it("has room for the parts of any number of tokens, and a counter for each of their blocks", () => {
    fc.assert(
      fc.property(shapes, fc.integer({ min: 1, max: 256 }), fc.integer({ min: 1, max: 256 }), (shape, most, some) => {
        const rows = Math.min(most, some);
        const { counters, bytes } = partialLayout(shape, most);
        expect(counters % 256).toBe(0);
        expect(counters).toBeGreaterThanOrEqual(headTiles(shape) * most * 4);
        expect(bytes - counters).toBeGreaterThanOrEqual(rows * shape.heads * decodeSplits(shape, rows) * (shape.headDim + 2) * 4);
      }),
    );
  });
});

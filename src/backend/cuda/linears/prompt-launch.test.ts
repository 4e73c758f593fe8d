import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { packageRoot } from "../../../paths.js";
import type { GemmCard } from "./gemm-launch.js";
import {
  fitsCut,
  fitsPrompt,
  PROMPT_CUTS,
  PROMPT_TOKENS,
  type PromptShape,
  promptLaunch,
  promptLaunchOf,
} from "./prompt-launch.js";

const H100: GemmCard = { multiprocessors: 132, major: 9, minor: 0 };
const A100: GemmCard = { multiprocessors: 108, major: 8, minor: 0 };

const shape = (rows: number, outputs: readonly number[], silu = false, inputs = 4096): PromptShape => ({
  ...{ rows, outputs, inputs, group: 128, silu },
});

describe("promptLaunch", () => {
  it.each([
    // 1,920 tokens are eight tiles of 240.
    [1920, [4096, 4096, 4096], false, "linear_prompt_q4_g128_t240", 132],
    [1920, [4096], false, "linear_prompt_q4_g128_t240", 132],
    [2048, [4096], false, "linear_prompt_q4_g128_t256", 132],
    // 172 blocks of 64 pairs.
    [1920, [11008, 11008], true, "linear_prompt_q4_g128_t240", 132],
  ])("%i tokens by %j outputs on an H100", (rows, outputs, silu, name, blocks) => {
    expect(promptLaunch(H100, shape(rows, outputs, silu))).toMatchObject({ name, grid: [blocks], block: 384 });
  });

  // µs on an H200 by tokens of a tile and parts (bench/NOTES.md): what is chosen is within 3 % of the best.
  it.each([
    [
      "7B o",
      160,
      4096,
      [4096],
      { "128/1": 34.7, "128/2": 25.4, "128/3": 33.8, "160/1": 36.5, "160/2": 22.2, "160/3": 18.1, "160/4": 28.2 },
    ],
    [
      "7B o",
      256,
      4096,
      [4096],
      { "128/1": 34.7, "128/2": 21.2, "128/3": 32.5, "256/1": 43.0, "256/2": 26.3, "256/3": 21.5, "256/4": 34.0 },
    ],
    [
      "7B down",
      256,
      11008,
      [4096],
      { "128/1": 86.3, "128/2": 47.5, "256/1": 107.2, "256/2": 59.0, "256/3": 43.5, "256/4": 69.6 },
    ],
    ["7B down", 512, 11008, [4096], { "128/1": 87.4, "128/2": 94.1, "256/1": 108.0, "256/2": 65.6, "256/3": 90.9 }],
    ["13B o", 160, 5120, [5120], { "128/1": 42.3, "128/2": 48.5, "160/1": 44.3, "160/2": 26.3, "160/3": 39.4, "160/4": 32.5 }],
    [
      "13B down",
      256,
      13824,
      [5120],
      { "128/1": 106.8, "128/2": 114.5, "256/1": 133.3, "256/2": 72.4, "256/3": 105.1, "256/4": 83.1 },
    ],
    ["8B q, k, v", 160, 4096, [4096, 1024, 1024], { "128/1": 38.8, "160/1": 35.2, "160/2": 21.8, "160/3": 33.7, "160/4": 30.1 }],
    ["70B down", 160, 28672, [8192], { "128/1": 259.2, "160/1": 228.8, "160/2": 126.9, "160/3": 184.7, "160/4": 210.3 }],
  ])("takes tiles and parts that are fast: %s of %i tokens", (_, rows, inputs, outputs, times: Record<string, number>) => {
    const { tokens, cluster } = promptLaunch(H100, shape(rows, outputs, false, inputs));
    expect(times[`${tokens}/${cluster}`]).toBeLessThanOrEqual(1.03 * Math.min(...Object.values(times)));
  });

  it("cuts k only where the kernel can: never for silu, never into more parts than there are steps", () => {
    const cuts = (inputs: number, silu: boolean) =>
      PROMPT_CUTS.filter((cut) => fitsCut(shape(160, [128, 128], silu, inputs), cut));
    expect(cuts(4096, false)).toEqual(PROMPT_CUTS);
    expect(cuts(4096, true)).toEqual([1]);
    expect(cuts(256, false)).toEqual([1, 2]);
    expect(() => promptLaunchOf(H100, shape(160, [128], false, 256), { tokens: 160, cut: 3 })).toThrow(RangeError);
    expect(promptLaunch(H100, shape(160, [128, 128], true)).cluster).toBe(1);
    expect(promptLaunch(H100, shape(160, [128], false, 128)).cluster).toBe(1);
  });

  it("takes the shared memory that the kernels say, and pieces that fill a tile", () => {
    const source = readFileSync(join(packageRoot, "kernels", "linear_prompt_tiles.cuh"), "utf8");
    for (const tokens of PROMPT_TOKENS) {
      const { shared, piece } = promptLaunchOf(H100, shape(1000, [512]), { tokens, cut: 1 });
      expect(source).toContain(`PromptTile<${tokens}>::kShared == ${shared}`);
      expect(shared).toBeLessThanOrEqual(232448);
      expect(tokens % piece).toBe(0);
    }
  });

  it("never asks for more blocks than there are multiprocessors or tiles", () => {
    const outputs = fc.array(
      fc.integer({ min: 1, max: 5000 }).map((n) => n * 8),
      { minLength: 1, maxLength: 3 },
    );
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 20000 }), outputs, (rows, all) => {
        const { grid, tokens, cluster } = promptLaunch(H100, shape(rows, all));
        const tiles = Math.ceil(rows / tokens) * all.reduce((sum, n) => sum + Math.ceil(n / 128), 0);
        expect(grid[0]).toBe(cluster === 1 ? Math.min(132, tiles) : cluster * tiles);
        expect(grid[0]).toBeLessThanOrEqual(132);
        expect(PROMPT_TOKENS).toContain(tokens);
      }),
    );
  });
});

describe("fitsPrompt", () => {
  it.each([
    [H100, 4096, [4096], true],
    [A100, 4096, [4096], false],
    [H100, 4160, [4096], false],
    [H100, 4096, [4100], false],
    [H100, 4096, [8, 8, 8, 8], false],
  ])("on %j: %i inputs, outputs %j: %s", (card, inputs, outputs, fits) => {
    expect(fitsPrompt(card, { inputs, outputs })).toBe(fits);
  });
});

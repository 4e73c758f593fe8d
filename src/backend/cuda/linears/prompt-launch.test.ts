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

  it("cuts k only where the kernel can: never for silu, never into more parts than there are steps", () => {
    const cuts = (inputs: number, silu: boolean) =>
      PROMPT_CUTS.filter((cut) => fitsCut(shape(160, [128, 128], silu, inputs), cut));
    expect(cuts(4096, false)).toEqual(PROMPT_CUTS);
    expect(cuts(4096, true)).toEqual([1]);
    expect(cuts(256, false)).toEqual([1, 2]);
    expect(promptLaunch(H100, shape(160, [128, 128], true)).cluster).toBe(1);
    expect(promptLaunch(H100, shape(160, [128], false, 128)).cluster).toBe(1);
  });

  it("takes the shared memory that the kernels say, and pieces that fill a tile", () => {
    const source = readFileSync(join(packageRoot, "kernels", "linear_prompt.cu"), "utf8");
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

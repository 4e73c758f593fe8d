import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type GemmCard, gemmLaunch, gemmSlabRows } from "./gemm-launch.js";

const H100: GemmCard = { multiprocessors: 132, major: 9, minor: 0 };
const A100: GemmCard = { multiprocessors: 108, major: 8, minor: 0 };
const B200: GemmCard = { multiprocessors: 148, major: 10, minor: 0 };

describe("gemmLaunch", () => {
  it.each([
    [1920, 4096, "linear_half_gemm_wgmma_n256", 132],
    [1920, 22016, "linear_half_gemm_wgmma_n256", 132],
    [512, 4096, "linear_half_gemm_wgmma_n128", 128],
    [256, 4096, "linear_half_gemm_wgmma_n64", 128],
    [48, 4096, "linear_half_gemm_wgmma_n64", 64],
    [1, 1, "linear_half_gemm_wgmma_n64", 1],
  ])("%i tokens by %i outputs on an H100: %s on %i blocks", (m, n, name, blocks) => {
    expect(gemmLaunch(H100, { m, n })).toMatchObject({ name, grid: [blocks, 1], block: 384 });
  });

  it.each([A100, B200])("uses Hopper's own kernel on no other card", (card) => {
    expect(gemmLaunch(card, { m: 300, n: 1000 })).toEqual({
      name: "linear_half_gemm",
      grid: [8, 3],
      block: 256,
      shared: 65536,
      boxRows: null,
    });
  });

  it("never asks for more blocks than there are multiprocessors or tiles, nor for boxes above the engine's 256 rows", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 20000 }), fc.integer({ min: 1, max: 40000 }), (m, n) => {
        const { grid, boxRows } = gemmLaunch(H100, { m, n });
        expect(grid[0]).toBeLessThanOrEqual(Math.min(132, Math.ceil(m / 128) * Math.ceil(n / (boxRows ?? 0))));
        expect(grid[0]).toBeGreaterThan(0);
        expect(boxRows).toBeLessThanOrEqual(256);
      }),
    );
  });
});

describe("gemmSlabRows", () => {
  it("fills a card in whole waves where the buffer allows", () => {
    expect(gemmSlabRows(H100, { m: 1920, n: 4096, k: 11008 }, 2272)).toBe(2048);
  });

  it("takes the whole of a product that fits", () => {
    expect(gemmSlabRows(H100, { m: 1920, n: 4096, k: 4096 }, 4096)).toBe(4096);
  });

  it.each([H100, A100])("stays within the buffer, in whole row tiles", (card) => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 8192 }),
        fc.integer({ min: 1, max: 2000 }),
        fc.integer({ min: 8, max: 4000 }),
        fc.integer({ min: 1, max: 500 }),
        (m, n, k, most) => {
          const rows = gemmSlabRows(card, { m, n: n * 16, k: k * 8 }, most * 16);
          expect(rows % 16).toBe(0);
          expect(rows).toBeGreaterThan(0);
          expect(rows).toBeLessThanOrEqual(most * 16);
        },
      ),
    );
  });
});

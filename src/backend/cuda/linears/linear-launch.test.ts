import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SUPERBLOCK } from "../weights/quantized-layout.js";
import { MOST_STREAMED_ROWS, type StreamingCard, type StreamShape, streamedRows, streamLaunch } from "./linear-launch.js";

const H100: StreamingCard = { multiprocessors: 132, major: 9, sharedPerBlock: 232448 };
const CARDS: readonly StreamingCard[] = [
  { multiprocessors: 40, major: 7, sharedPerBlock: 65536 },
  { multiprocessors: 108, major: 8, sharedPerBlock: 166912 },
  { multiprocessors: 84, major: 8, sharedPerBlock: 101376 },
  H100,
  { multiprocessors: 170, major: 12, sharedPerBlock: 101376 },
];

describe("streamLaunch", () => {
  it("fits every shape on every card", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...CARDS),
        fc.constantFrom(2, 3, 4, 8),
        fc.constantFrom(32, 64, 128),
        fc.integer({ min: 1, max: 2 * MOST_STREAMED_ROWS }),
        fc.integer({ min: 1, max: 32768 }),
        fc.integer({ min: 1, max: 160000 }),
        fc.constantFrom("one", "three", "silu"),
        (card, bits, group, rows, inputs, n, kind) => {
          const outputs = kind === "one" ? [n] : kind === "three" ? [n, 64, 64] : [n, n];
          const shape = { bits, group, rows, inputs, outputs, silu: kind === "silu" } as StreamShape;
          const some = streamedRows(shape, card);
          expect(some).toBeGreaterThanOrEqual(Math.min(rows, 4));
          expect(some).toBeLessThanOrEqual(rows);
          const launch = streamLaunch({ ...shape, rows: some }, card);
          expect(launch.shared).toBeLessThanOrEqual(card.sharedPerBlock);
          expect(launch.slab % SUPERBLOCK).toBe(0);
          expect(launch.slab).toBeGreaterThan(0);
          expect(launch.grid).toBeGreaterThan(0);
          expect(launch.stages).toBe(card.major >= 9 ? Math.max(2, launch.stages) : 0);
          expect(launch.block).toBe((some <= 8 ? 256 : 512) + (card.major >= 9 ? 32 : 0));
        },
      ),
    );
  });

  it.each([
    ["7B q, k, v", 4096, [4096, 4096, 4096], 1, 264],
    ["7B o", 4096, [4096], 1, 256],
    ["7B down, 8 tokens", 11008, [4096], 8, 132],
    ["a small one", 256, [64], 1, 4],
  ] as const)("%s: as many blocks as run at once, none without a tile", (_, inputs, outputs, rows, grid) => {
    expect(streamLaunch({ bits: 4, group: 128, rows, inputs, outputs }, H100)).toMatchObject({ grid });
  });

  it("refuses more rows than one launch takes", () => {
    const shape = { bits: 4, group: 128, rows: 17, inputs: 4096, outputs: [4096] } as const;
    expect(() => streamLaunch(shape, H100)).toThrow(RangeError);
    expect(streamedRows(shape, H100)).toBe(16);
  });

  it("takes at most half of the shared memory, for all of x, when one sequence decodes", () => {
    for (const inputs of [4096, 5120, 8192, 11008, 13824, 28672]) {
      const { shared, stages, slab } = streamLaunch({ bits: 4, group: 128, rows: 1, inputs, outputs: [4096] }, H100);
      expect(shared).toBeLessThanOrEqual(115712);
      expect(stages).toBeGreaterThanOrEqual(4);
      expect(slab).toBeGreaterThanOrEqual(inputs);
    }
  });
});

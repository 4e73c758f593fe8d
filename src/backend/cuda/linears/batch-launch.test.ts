import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type BatchCard, type BatchShape, batchLaunch, LEAST_BATCHED, MOST_BATCHED, mostPieceBytes } from "./batch-launch.js";

const CARDS: readonly BatchCard[] = [
  { multiprocessors: 108, sharedPerBlock: 166912 },
  { multiprocessors: 84, sharedPerBlock: 101376 },
  { multiprocessors: 132, sharedPerBlock: 232448 },
  { multiprocessors: 170, sharedPerBlock: 101376 },
];

const shapes = fc.record({
  bits: fc.constant(4 as const),
  group: fc.constantFrom(32 as const, 64 as const, 128 as const),
  rows: fc.integer({ min: 1, max: MOST_BATCHED }),
  inputs: fc.integer({ min: 1, max: 4096 }).map((cells) => cells * 8),
  outputs: fc.oneof(
    fc.tuple(fc.integer({ min: 1, max: 60000 })),
    fc.tuple(fc.integer({ min: 1, max: 9000 }), fc.integer({ min: 1, max: 2000 }), fc.integer({ min: 1, max: 2000 })),
  ),
});

describe("batchLaunch", () => {
  it("fits every card, deals out every slice, and stays within the plan", () => {
    fc.assert(
      fc.property(fc.constantFrom(...CARDS), shapes, fc.boolean(), (card, of, pair) => {
        const paired = pair && of.outputs.length === 1;
        const outputs = paired ? [of.outputs[0], of.outputs[0]] : of.outputs;
        const shape: BatchShape = { ...of, outputs, paired };
        const launch = batchLaunch(shape, card);
        // Cards with 99 KB may lack some: they take another way then.
        if (launch === null) expect(card.sharedPerBlock).toBeLessThan(128 * 1024);
        if (launch === null) return;
        expect(launch.shared).toBeLessThanOrEqual(card.sharedPerBlock);
        expect(launch.stages).toBeGreaterThanOrEqual(2);
        expect(launch.grid).toBeLessThanOrEqual(launch.units * launch.slices);
        expect(launch.pieceTokens).toBeGreaterThanOrEqual(shape.rows);
        expect(launch.pieceBytes).toBeLessThanOrEqual(mostPieceBytes(outputs, shape.rows));
      }),
    );
  });

  it("begins every piece at a place of its own", () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        const { grid, units, slices } = batchLaunch(shape, CARDS[2]!)!;
        const first = (block: number) => Math.floor((units * slices * block) / grid);
        // block_of_slice() of linear_batch.cuh
        const blockOf = (slice: number) => Math.floor(((slice + 1) * grid - 1) / (units * slices));
        const places = new Set<number>();
        let pieces = 0;
        for (let block = 0; block < grid; block++) {
          expect(first(block + 1)).toBeGreaterThan(first(block));
          const last = Math.floor((first(block + 1) - 1) / slices);
          for (let unit = Math.floor(first(block) / slices); unit <= last; unit++, pieces++) {
            places.add(block + unit);
            expect(blockOf(unit * slices)).toBeLessThanOrEqual(block);
            expect(blockOf((unit + 1) * slices - 1)).toBeGreaterThanOrEqual(block);
          }
        }
        expect(places.size).toBe(pieces);
        expect(Math.max(...places)).toBeLessThan(grid + units);
      }),
      { numRuns: 50 },
    );
  });

  it("has a kernel for every number of tokens up to the most", () => {
    const shape: BatchShape = { bits: 4, group: 128, rows: 1, inputs: 4096, outputs: [4096] };
    const names = [LEAST_BATCHED, 16, 17, 32, 33, 64, 65, 128].map((rows) => batchLaunch({ ...shape, rows }, CARDS[2]!)!.name);
    expect(names.map((name) => Number(name.split("_m")[1]))).toEqual([16, 16, 32, 32, 64, 64, 128, 128]);
    expect(batchLaunch({ ...shape, rows: MOST_BATCHED + 1 }, CARDS[2]!)).toBeNull();
  });

  it("is refused where a block has too little shared memory", () => {
    const card: BatchCard = { multiprocessors: 40, sharedPerBlock: 32768 };
    expect(batchLaunch({ bits: 4, group: 128, rows: 64, inputs: 4096, outputs: [4096] }, card)).toBeNull();
  });
});

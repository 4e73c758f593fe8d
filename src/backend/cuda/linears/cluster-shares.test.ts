// Who does what in kernels/linear_batch_cluster.cu: its arithmetic once more, for launches as they are made.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { BatchShape } from "./batch-launch.js";
import { type WgmmaBatchLaunch, wgmmaBatchLaunch } from "./batch-launch-wgmma.js";

const HOPPER = { multiprocessors: 132, major: 9, minor: 0 };
const WARPS = 8;
const UNIT_OUTPUTS = 128;
const TILE_ROWS = 16;
const MOST_CLUSTER = 8;

/** Slices of a unit that a block multiplies: linear_batch_cluster(). */
function partOf(slices: number, rank: number, blocks: number): readonly [first: number, last: number] {
  return [Math.floor((slices * rank) / blocks), Math.floor((slices * (rank + 1)) / blocks)];
}

/** BatchPlace. */
function placeOf({ outputs, paired }: BatchShape, unit: number, warp: number): { linear: number; row: number } {
  if (paired) return { linear: Math.floor(warp / 4), row: unit * (UNIT_OUTPUTS / 2) + (warp % 4) * TILE_ROWS };
  const units = outputs.map((n) => Math.ceil(n / UNIT_OUTPUTS));
  const [units0 = 0, units1 = 0] = units;
  const linear = unit < units0 ? 0 : unit < units0 + units1 ? 1 : 2;
  const before = [0, units0, units0 + units1][linear]!;
  return { linear, row: (unit - before) * UNIT_OUTPUTS + warp * TILE_ROWS };
}

/** ClusterFinish::share(): cells of eight tokens of a row tile that a warp makes results of, with the warps whose sums it reads. */
function cellsOf(shape: BatchShape, unit: number, rank: number, blocks: number, warp: number) {
  const tiles = shape.paired ? WARPS / 2 : WARPS;
  const ways = WARPS / tiles;
  const tile = warp % tiles;
  const { linear, row } = placeOf(shape, unit, tile);
  if (row >= shape.outputs[linear]!) return [];
  const eights = Math.ceil(shape.rows / 8);
  const read = shape.paired ? [tile, tile + tiles] : [tile];
  const cells = [];
  for (let j = rank * ways + Math.floor(warp / tiles); j < eights; j += blocks * ways)
    cells.push({ linear, row, eight: j, read: read.map((each) => placeOf(shape, unit, each)) });
  return cells;
}

const shapes = fc.record({
  bits: fc.constant(4 as const),
  group: fc.constantFrom(64 as const, 128 as const),
  rows: fc.integer({ min: 33, max: 128 }),
  inputs: fc.integer({ min: 1, max: 112 }).map((slices) => slices * 256),
  outputs: fc.oneof(
    fc.tuple(fc.integer({ min: 1, max: 600 }).map((n) => n * 8)),
    fc.tuple(...[200, 60, 60].map((max) => fc.integer({ min: 1, max }).map((n) => n * 8))),
  ),
  pair: fc.boolean(),
  cluster: fc.option(fc.integer({ min: 1, max: MOST_CLUSTER }), { nil: undefined }),
});

type Case = typeof shapes extends fc.Arbitrary<infer Value> ? Value : never;

/** A shape, and its launch by clusters: of the size that is chosen, or of any. `null`: runs are chosen. */
function launched({ pair, cluster, outputs, ...of }: Case): { shape: BatchShape; launch: WgmmaBatchLaunch } | null {
  const paired = pair && outputs.length === 1;
  const shape = { ...of, outputs: paired ? [outputs[0]!, outputs[0]!] : [...outputs], paired };
  const cut = cluster && { cluster: Math.min(cluster, of.inputs / 256) };
  const launch = wgmmaBatchLaunch(shape, HOPPER, true, cut || undefined)!;
  return launch.cluster ? { shape, launch } : null;
}

describe("blocks of a cluster", () => {
  it("multiply every slice of a unit once, in the order in which their sums are added, and each some", () => {
    fc.assert(
      fc.property(shapes, (of) => {
        const { shape, launch } = launched(of) ?? {};
        if (!shape || !launch) return;
        const slices = shape.inputs / 256;
        const parts = Array.from({ length: launch.cluster! }, (_, rank) => partOf(slices, rank, launch.cluster!));
        expect(parts[0]![0]).toBe(0);
        expect(parts.at(-1)![1]).toBe(slices);
        parts.forEach(([first, last], rank) => {
          expect(last).toBeGreaterThan(first);
          if (rank > 0) expect(first).toBe(parts[rank - 1]![1]);
        });
      }),
    );
  });

  it("make every result once, gate's with those sums of up's that are of the same outputs", () => {
    fc.assert(
      fc.property(shapes, (of) => {
        const { shape, launch } = launched(of) ?? {};
        if (!shape || !launch) return;
        const made = new Map<string, number>();
        for (let block = 0; block < launch.grid; block++) {
          const [unit, rank] = [Math.floor(block / launch.cluster!), block % launch.cluster!];
          for (let warp = 0; warp < WARPS; warp++)
            for (const { linear, row, eight, read } of cellsOf(shape, unit, rank, launch.cluster!, warp)) {
              const key = `${linear} ${row} ${eight}`;
              made.set(key, (made.get(key) ?? 0) + 1);
              expect(read[0]).toEqual({ linear, row });
              if (shape.paired) expect(read[1]).toEqual({ linear: 1, row });
            }
        }
        const results = shape.paired ? shape.outputs.slice(0, 1) : shape.outputs;
        const tiles = results.reduce((sum, n) => sum + Math.ceil(n / TILE_ROWS), 0);
        expect(made.size).toBe(tiles * Math.ceil(shape.rows / 8));
        expect([...made.values()].every((times) => times === 1)).toBe(true);
      }),
      { numRuns: 60 },
    );
  });
});

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type BatchShape, MOST_BATCHED } from "./batch-launch.js";
import { mostWgmmaPieceBytes, wgmmaBatchLaunch } from "./batch-launch-wgmma.js";

const HOPPER = { multiprocessors: 132, major: 9, minor: 0 };
const SHARED_OF_TWO_BLOCKS = 227 * 1024 + 1024;

const shapes = fc.record({
  bits: fc.constant(4 as const),
  group: fc.constantFrom(32 as const, 64 as const, 128 as const),
  rows: fc.integer({ min: 1, max: MOST_BATCHED }),
  inputs: fc.integer({ min: 1, max: 112 }).map((slices) => slices * 256),
  outputs: fc.oneof(
    fc.tuple(fc.integer({ min: 1, max: 7500 }).map((n) => n * 8)),
    fc.tuple(...[1000, 250, 250].map((max) => fc.integer({ min: 1, max }).map((n) => n * 8))),
  ),
});

describe("wgmmaBatchLaunch", () => {
  it.each([
    [8, 128, 63296],
    [16, 128, 90912],
    [32, 128, 110800],
    [64, 128, 105984],
    [128, 128, 209104],
    [32, 32, 99472],
  ] as const)("asks for the shared memory that the kernel of %i tokens and groups of %i takes", (rows, group, shared) => {
    const launch = wgmmaBatchLaunch({ bits: 4, group, rows, inputs: 4096, outputs: [4096] }, HOPPER)!;
    expect(launch.shared).toBe(shared); // static_assert in linear_batch_wgmma.cuh
    expect(launch.name).toBe(`linear_batch_wgmma_q4_g${group}_t${rows}`);
  });

  it("stays within the plan, and its blocks all run at once", () => {
    fc.assert(
      fc.property(shapes, fc.boolean(), fc.boolean(), (of, pair, ordered) => {
        const paired = pair && of.outputs.length === 1;
        const outputs = paired ? [of.outputs[0]!, of.outputs[0]!] : [...of.outputs];
        const launch = wgmmaBatchLaunch({ ...of, outputs, paired } as BatchShape, HOPPER, ordered && of.rows > 16)!;
        expect(launch.tokens).toBeGreaterThanOrEqual(of.rows);
        expect(launch.pieceBytes).toBeLessThanOrEqual(mostWgmmaPieceBytes(of.rows));
        expect(launch.grid % (launch.cluster ?? 1)).toBe(0);
        const blocks = Math.ceil(launch.grid / HOPPER.multiprocessors);
        expect(blocks * (launch.shared + 1024)).toBeLessThanOrEqual(SHARED_OF_TWO_BLOCKS);
        expect(launch.grid).toBeLessThanOrEqual(launch.units * (of.inputs / 256));
      }),
    );
  });

  it.each([
    ["all that run at once", 32, 4096, [12288], 264],
    ["a multiple of units where none gets more slices so", 16, 4096, [4096], 256],
    ["the fewest of these", 8, 4096, [4096], 256],
    ["the fewest that give no multiprocessor more", 8, 11008, [4096], 384],
    ["slices where there are few", 16, 4096, [384], 48],
  ])("starts as many blocks as %s", (_, rows, inputs, outputs, blocks) => {
    expect(wgmmaBatchLaunch({ bits: 4, group: 128, rows, inputs, outputs }, HOPPER)?.grid).toBe(blocks);
  });

  const down = (rows: number, group: 32 | 64 | 128) =>
    ({ bits: 4, group, rows, inputs: 11008, outputs: [4096], paired: false }) as const;

  it.each([
    [16, 128, undefined],
    [17, 128, 7],
    [17, 64, undefined],
    [64, 64, 7],
    [65, 32, 3],
    [128, 128, 3],
  ] as const)(
    "has %i tokens' slices, groups of %i, shared out by clusters of %s where x is in the order of codes",
    (rows, group, blocks) => {
      const launch = wgmmaBatchLaunch(down(rows, group), HOPPER, rows > 16)!;
      expect(launch.cluster).toBe(blocks);
      if (!blocks) return;
      expect(launch).toMatchObject({ family: "linear_batch_cluster", grid: 32 * blocks, pieceBytes: 0 });
      expect(launch.name).toBe(`linear_batch_cluster_q4_g${group}_t${launch.tokens}_ordered`);
      expect(wgmmaBatchLaunch(down(rows, group), HOPPER)?.family).toBe("linear_batch_wgmma");
    },
  );

  it.each([
    ["x in its own order", { cluster: 4 }, down(64, 128), false],
    ["a kernel that there is not", { cluster: 4 }, down(32, 64), true],
    ["more blocks than slices", { cluster: 4 }, { ...down(64, 128), inputs: 768 }, true],
    ["more blocks than there may be", { cluster: 9 }, down(64, 128), true],
  ] as const)("has no cluster for %s", (_, cut, shape, ordered) => {
    expect(wgmmaBatchLaunch(shape, HOPPER, ordered, cut)).toBeNull();
  });

  it("reads x in the order of codes from 17 tokens on", () => {
    const name = (rows: number) => wgmmaBatchLaunch({ bits: 4, group: 64, rows, inputs: 256, outputs: [64] }, HOPPER, true)?.name;
    expect([16, 17].map(name)).toEqual([undefined, "linear_batch_wgmma_q4_g64_t32_ordered"]);
  });

  it.each([
    ["another card", {}, { ...HOPPER, major: 10 }],
    ["8 bits", { bits: 8 as const }, HOPPER],
    ["inputs that are no multiple of 256", { inputs: 4224 }, HOPPER],
    ["outputs that are no multiple of 8", { outputs: [4100] }, HOPPER],
    ["too many tokens", { rows: MOST_BATCHED + 1 }, HOPPER],
  ])("leaves %s to others", (_, change, card) => {
    const shape: BatchShape = { bits: 4, group: 128, rows: 32, inputs: 4096, outputs: [4096], ...change };
    expect(wgmmaBatchLaunch(shape, card)).toBeNull();
  });
});

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type HalfRingShape, halfRingLaunch } from "./half-ring-launch.js";

const HOPPER = { multiprocessors: 132, major: 9, minor: 0, sharedPerBlock: 232448 };
const HEAD: HalfRingShape = { rows: 8, inputs: 4096, outputs: 32000 };

/** Groups of 16 rows of each block, as RingRange of linear_half_ring.cu deals them out. */
function groupsOf(outputs: number, grid: number): number[] {
  const groups = Math.ceil(outputs / 16);
  return Array.from({ length: grid }, (_, block) => Math.floor(groups / grid) + (block < groups % grid ? 1 : 0));
}

describe("halfRingLaunch", () => {
  it("asks for the shared memory that the kernel takes, a block for each multiprocessor", () => {
    // static_assert in linear_half_ring.cu
    expect(halfRingLaunch(HEAD, HOPPER)).toEqual({ name: "linear_half_ring_k4096", grid: 132, block: 352, shared: 206464 });
  });

  it("gives every block something, and no block more than one group more than another", () => {
    const shapes = fc.record({
      rows: fc.integer({ min: 2, max: 8 }),
      inputs: fc.constantFrom(2048, 3072, 4096, 5120, 8192),
      outputs: fc.integer({ min: 8192, max: 262144 }),
    });
    fc.assert(
      fc.property(shapes, fc.constantFrom(16, 78, 114, 132), (shape, multiprocessors) => {
        const groups = groupsOf(shape.outputs, halfRingLaunch(shape, { ...HOPPER, multiprocessors })!.grid);
        expect(groups.reduce((a, b) => a + b)).toBe(Math.ceil(shape.outputs / 16));
        expect(Math.min(...groups)).toBeGreaterThan(0);
        expect(Math.max(...groups) - Math.min(...groups)).toBeLessThanOrEqual(1);
      }),
    );
  });

  it.each<[string, Partial<HalfRingShape>, Partial<typeof HOPPER>]>([
    ["one token", { rows: 1 }, {}],
    ["more than eight", { rows: 9 }, {}],
    ["inputs without a kernel", { inputs: 3584 }, {}],
    ["few outputs", { outputs: 4000 }, {}],
    ["another card", {}, { major: 8 }],
    ["a card of which there is no image with it", {}, { major: 10 }],
    ["blocks with less shared memory", {}, { sharedPerBlock: 101376 }],
  ])("leaves %s to others", (_, shape, card) => {
    expect(halfRingLaunch({ ...HEAD, ...shape }, { ...HOPPER, ...card })).toBeNull();
  });
});

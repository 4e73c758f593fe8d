import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type HeadShape, headLaunch, headSlice, headSlices } from "./head-launch.js";

const HOPPER = { multiprocessors: 132, major: 9, minor: 0, sharedPerBlock: 232448 };
/** Of a multiprocessor, and what the driver keeps of it for each block. */
const MULTIPROCESSOR_SHARED = 228 * 1024;
const RESERVED = 1024;
/** Of choose_token, see kernels/built/families.json. */
const CHOOSE_SHARED = 16928;
/** Ahead of x in HeadShared of linear_head.cu. */
const AHEAD_OF_X = 512 + 2048;

const shapes = fc.record({
  inputs: fc.integer({ min: 1, max: 1024 }).map((octets) => 8 * octets),
  outputs: fc.integer({ min: 1, max: 262144 }),
});
/** Rows of a stage of the ring: HeadShape of linear_head.cu. */
const stageRows = (inputs: number) => (inputs <= 2048 ? 8 : inputs <= 4096 ? 4 : 2);

/** Rows of each block, as HeadRange of linear_head.cu deals them out. */
function rowsOf({ inputs, outputs }: HeadShape, grid: number): { first: number; count: number }[] {
  const slice = headSlice(inputs);
  const slices = Math.ceil(outputs / slice);
  const each = Math.floor(slices / grid);
  const more = slices % grid;
  return Array.from({ length: grid }, (_, block) => {
    const first = (block * each + Math.min(block, more)) * slice;
    return { first, count: Math.min((each + (block < more ? 1 : 0)) * slice, outputs - first) };
  });
}

describe("headLaunch", () => {
  it.each<[number, number, string, number]>([
    [32000, 4096, "linear_head_k4096", 6],
    [128256, 4096, "linear_head_k4096", 6],
    [32000, 5120, "linear_head_k6144", 9],
    [32000, 8192, "linear_head_k8192", 5],
    [151936, 896, "linear_head_k2048", 14],
    [259, 64, "linear_head_k2048", 16],
  ])("has for [%i, %i] %s, a ring of %i stages", (outputs, inputs, name, stages) => {
    expect(headLaunch({ outputs, inputs }, HOPPER)).toMatchObject({ name, stages, block: 320 });
  });

  it("fits in a block's shared memory, with room beside it for the kernel that follows", () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        const { shared, stages } = headLaunch(shape, HOPPER)!;
        const x = Math.ceil((shape.inputs * 2) / 128) * 128;
        expect(shared).toBe(AHEAD_OF_X + x + stages * stageRows(shape.inputs) * shape.inputs * 2);
        expect(shared).toBeLessThanOrEqual(HOPPER.sharedPerBlock);
        expect(shared + RESERVED + CHOOSE_SHARED + RESERVED).toBeLessThanOrEqual(MULTIPROCESSOR_SHARED);
      }),
    );
  });

  it("gives every block something, and deals out every row once, in whole slices", () => {
    fc.assert(
      fc.property(shapes, fc.constantFrom(16, 78, 114, 132), (shape, multiprocessors) => {
        const { grid } = headLaunch(shape, { ...HOPPER, multiprocessors })!;
        const rows = rowsOf(shape, grid);
        let next = 0;
        for (const { first, count } of rows) {
          expect(first).toBe(next);
          expect(first % headSlice(shape.inputs)).toBe(0);
          expect(count).toBeGreaterThan(0);
          next += count;
        }
        expect(next).toBe(shape.outputs);
      }),
    );
  });

  it("has the same slices on every card, and the same kernel", () => {
    const shape = { outputs: 32000, inputs: 4096 };
    const [large, small] = [132, 78].map((multiprocessors) => headLaunch(shape, { ...HOPPER, multiprocessors })!);
    expect(small!.name).toBe(large!.name);
    expect(headSlices(shape)).toBe(4000);
  });

  it.each<[string, Partial<HeadShape>, Partial<typeof HOPPER>]>([
    ["on older cards", {}, { major: 8 }],
    ["on newer cards", {}, { major: 10 }],
    ["where shared memory is scarce", {}, { sharedPerBlock: 101376 }],
    ["with more inputs than a thread has registers for", { inputs: 8200 }, {}],
    ["with rows that no copy of 16 bytes ends with", { inputs: 4092 }, {}],
  ])("is left to launches of their own %s", (_, shape, card) => {
    expect(headLaunch({ outputs: 32000, inputs: 4096, ...shape }, { ...HOPPER, ...card })).toBeNull();
  });
});

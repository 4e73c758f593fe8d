import { describe, expect, it } from "vitest";
import type { FloatKernels } from "./kernels.js";
import { NextWeights } from "./next-weights.js";

/** What was read, as [from, bytes] pairs. */
function recorder() {
  const read: [number, number][] = [];
  const kernels = { touch_lines: (from: number, bytes: number) => void read.push([from, bytes]) } as unknown as FloatKernels;
  return { read, kernels };
}

/** Waits so long that everything is read. */
function drain(next: NextWeights): void {
  while (next.read());
}

describe("NextWeights", () => {
  it("reads what it aims at in order, once, and nothing behind it", () => {
    const { read, kernels } = recorder();
    const next = new NextWeights();
    next.aim(kernels, 10_000, 15_000);
    drain(next);
    expect(read).toEqual([
      [10_000, 2048],
      [12_048, 2048],
      [14_096, 904],
    ]);
    drain(next);
    expect(read).toHaveLength(3);
  });

  it("goes on where an earlier wait ended", () => {
    const { read, kernels } = recorder();
    const next = new NextWeights();
    next.aim(kernels, 0, 1 << 20);
    next.read();
    next.read();
    expect(read.map(([from]) => from)).toEqual([0, 2048]);
  });

  it("leaves most of a long linear where it is: caches are small", () => {
    const { read, kernels } = recorder();
    const next = new NextWeights();
    next.aim(kernels, 0, 1 << 30);
    drain(next);
    expect(read.reduce((sum, [, bytes]) => sum + bytes, 0)).toBe(512 * 1024);
  });

  it("reads nothing before it aims, and nothing when cleared", () => {
    const { read, kernels } = recorder();
    const next = new NextWeights();
    expect(next.read()).toBe(false);
    next.aim(kernels, 0, 4096);
    next.clear();
    expect(next.read()).toBe(false);
    expect(read).toEqual([]);
  });
});

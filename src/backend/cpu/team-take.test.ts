import { readFileSync } from "node:fs";
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { distFile } from "../../paths.js";
import { instantiate, type Kernels } from "./kernels.js";

const CONTROL = 65536;
const memory = new WebAssembly.Memory({ initial: 2, maximum: 2, shared: true });
let kernels: Kernels;

beforeEach(() => {
  kernels ??= instantiate(
    { kernels: new WebAssembly.Module(readFileSync(distFile("wasm/kernels-simd.wasm"))), products: null },
    memory,
  );
  new Uint8Array(memory.buffer, CONTROL).fill(0);
});

/** What threads take, one portion after the other in this order, until nothing is left. */
function takeAll(threads: number, items: number, most: number, least: number, order: (turn: number) => number) {
  const portions: { thread: number; from: number; count: number }[] = [];
  for (let turn = 0; ; turn++) {
    const thread = order(turn);
    const taken = kernels.team_take(CONTROL, threads, thread, items, most, least);
    if (taken === 0) return portions;
    portions.push({ thread, from: taken >>> 6, count: taken & 63 });
  }
}

/** The next phase, in which shares are whole again. */
function nextPhase(): void {
  kernels.team_arrive(CONTROL, 1);
}

describe("team_take", () => {
  it("gives out every item once, whoever comes when", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 0, max: 3000 }),
        fc.integer({ min: 1, max: 63 }),
        fc.integer({ min: 1, max: 63 }),
        fc.array(fc.nat(8), { minLength: 1, maxLength: 40 }),
        (threads, items, a, b, turns) => {
          nextPhase();
          const [least, most] = a < b ? [a, b] : [b, a];
          const portions = takeAll(threads, items, most, least, (turn) => turns[turn % turns.length]! % threads);
          const taken = portions.flatMap(({ from, count }) => Array.from({ length: count }, (_, i) => from + i));
          expect(taken.sort((x, y) => x - y)).toEqual(Array.from({ length: items }, (_, i) => i));
          expect(Math.max(0, ...portions.map(({ count }) => count))).toBeLessThanOrEqual(most);
        },
      ),
    );
  });

  it("gives a thread its own share in order, small portions at its end", () => {
    nextPhase();
    const portions = takeAll(2, 128, 16, 8, (turn) => turn % 2);
    const of = (thread: number) =>
      portions.filter((portion) => portion.thread === thread).map(({ from, count }) => [from, count]);
    expect(of(0)).toEqual([
      [0, 16],
      [16, 16],
      [32, 16],
      [48, 8],
      [56, 8],
    ]);
    expect(of(1)).toEqual([
      [64, 16],
      [80, 16],
      [96, 16],
      [112, 8],
      [120, 8],
    ]);
  });

  it("takes the last items of a share that nobody has begun, half of what is left at most", () => {
    nextPhase();
    const portions = takeAll(2, 48, 16, 8, () => 0).slice(3); // after its own 24
    expect(portions.map(({ from, count }) => [from, count])).toEqual([
      [40, 8],
      [32, 8],
      [28, 4],
      [26, 2],
      [25, 1],
      [24, 1],
    ]);
  });
});

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { philox4x32, uniformAt } from "./philox.js";

describe("philox4x32", () => {
  // The known-answer vectors that Random123, the authors' library, publishes for philox4x32-10.
  it.each([
    [[0, 0, 0, 0], [0, 0], "6627e8d5 e169c58d bc57ac4c 9b00dbd8"],
    [[0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff], [0xffffffff, 0xffffffff], "408f276d 41c83b0e a20bc7c6 6d5451fd"],
    [[0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0], "d16cfe09 94fdcceb 5001e420 24126ea1"],
  ] as const)("counter %j, key %j", (counter, key, words) => {
    expect([...philox4x32(counter, key)].map((word) => word.toString(16).padStart(8, "0")).join(" ")).toBe(words);
  });

  it("equals the definition written with big integers", () => {
    const word = fc.integer({ min: 0, max: 0xffffffff });
    fc.assert(
      fc.property(fc.tuple(word, word, word, word), fc.tuple(word, word), (counter, key) => {
        expect([...philox4x32(counter, key)]).toEqual(bigPhilox(counter, key));
      }),
    );
  });
});

describe("uniformAt", () => {
  it("lies in [0, 1) and depends on seed and position alone", () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), fc.integer({ min: 0, max: 0xffffffff }), (seed, position) => {
        const u = uniformAt(seed, position);
        expect(u).toBeGreaterThanOrEqual(0);
        expect(u).toBeLessThan(1);
        expect(uniformAt(seed, position)).toBe(u);
      }),
    );
  });

  it("uses all 53 bits of the seed", () => {
    const draws = new Set(Array.from({ length: 53 }, (_, bit) => uniformAt(2 ** bit, 7)));
    expect(draws.size).toBe(53);
  });

  it("is uniform over positions", () => {
    const bins = new Array<number>(16).fill(0);
    for (let position = 0; position < 16_000; position++) bins[Math.floor(uniformAt(42, position) * 16)]!++;
    const chiSquare = bins.reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
    expect(chiSquare).toBeLessThan(37.7); // 15 degrees of freedom, p = 0.001
  });
});

function bigPhilox(counter: readonly number[], key: readonly number[]): number[] {
  const mask = 0xffffffffn;
  let [c0, c1, c2, c3] = counter.map(BigInt) as [bigint, bigint, bigint, bigint];
  let [k0, k1] = key.map(BigInt) as [bigint, bigint];
  for (let round = 0; round < 10; round++) {
    const p0 = 0xd2511f53n * c0;
    const p1 = 0xcd9e8d57n * c2;
    [c0, c1, c2, c3] = [(p1 >> 32n) ^ c1 ^ k0, p1 & mask, (p0 >> 32n) ^ c3 ^ k1, p0 & mask];
    k0 = (k0 + 0x9e3779b9n) & mask;
    k1 = (k1 + 0xbb67ae85n) & mask;
  }
  return [c0, c1, c2, c3].map(Number);
}

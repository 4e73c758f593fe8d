import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { actOrder } from "./act-order.js";

const GROUP = 8;
const SEQUENTIAL = { kind: "sequential" };

describe("act-order", () => {
  it("is nothing where inputs come in order", () => {
    expect(
      actOrder(
        "g",
        Int32Array.from({ length: 32 }, (_, i) => Math.floor(i / GROUP)),
        4,
        GROUP,
      ),
    ).toEqual(SEQUENTIAL);
    expect(actOrder("g", new Int32Array(20), 1, 20)).toEqual(SEQUENTIAL);
    expect(actOrder("g", Int32Array.of(0, 0, 0, 0, 1, 1), 2, 4)).toEqual(SEQUENTIAL); // the last group is shorter
  });

  it("sorts inputs by group, and knows the way back", () => {
    fc.assert(
      fc.property(
        fc.shuffledSubarray(
          Array.from({ length: 40 }, (_, i) => i),
          { minLength: 40 },
        ),
        (places) => {
          const gIdx = Int32Array.from(places, (place) => Math.floor(place / GROUP));
          const order = actOrder("g", gIdx, 5, GROUP);
          if (order.kind === "irregular") throw new Error("whole groups are not irregular");
          const sorted = order.kind === "sorted" ? order : null;
          const permutation = sorted?.permutation ?? Int32Array.from({ length: 40 }, (_, i) => i);
          expect([...permutation].map((input) => gIdx[input])).toEqual([...gIdx].sort((a, b) => a - b));
          permutation.forEach((input, place) => {
            if (sorted) expect(sorted.inverse[input]).toBe(place);
          });
          // Kernels read whole units of 32: what lies beyond the inputs stays there.
          if (sorted) expect([...sorted.inverse.subarray(40)]).toEqual(Array.from({ length: 24 }, (_, i) => 40 + i));
        },
      ),
    );
  });

  it("is irregular where groups have unequal lengths", () => {
    const gIdx = Int32Array.from({ length: 16 }, (_, i) => (i < 9 ? 0 : 1));
    expect(actOrder("x.g_idx", gIdx, 2, GROUP)).toEqual({ kind: "irregular" });
    expect(actOrder("x.g_idx", new Int32Array(16), 2, GROUP)).toEqual({ kind: "irregular" });
  });
});

import { describe, expect, it } from "vitest";
import { gptq4, llama7b, makeSpec, plain16 } from "../../../../test/support/shapes.js";
import { rowsAtOnceOf } from "./rows-at-once.js";

const HOPPER = { multiprocessors: 132, major: 9, minor: 0, sharedPerBlock: 232448 };
const spec = makeSpec({ ...llama7b, layers: 2 });

describe("rowsAtOnceOf", () => {
  it("keeps to a kernel's rows until enough sequences are there for the next one", () => {
    const of = rowsAtOnceOf(spec, [HOPPER])!;
    for (const rows of [1, 2, 7, 8, 16, 32, 64, 128, 256]) expect(of(rows), `${rows}`).toBe(rows);
    expect([9, 17, 33, 65, 129].map(of)).toEqual([8, 16, 32, 64, 128]);
    expect([14, 24, 48, 100, 200, 500].map(of)).toEqual([14, 24, 48, 100, 200, 500]);
  });

  it("never says more than there are, nor less for more of them", () => {
    const of = rowsAtOnceOf(spec, [HOPPER, HOPPER])!;
    const all = Array.from({ length: 600 }, (_, i) => of(i + 1));
    all.forEach((rows, i) => {
      expect(rows).toBeLessThanOrEqual(i + 1);
      expect(rows).toBeGreaterThanOrEqual(i === 0 ? 1 : all[i - 1]!);
    });
  });

  it.each([
    ["on another card", spec, [HOPPER, { ...HOPPER, major: 8 }]],
    ["with weights that are not quantised", makeSpec({ ...llama7b, layers: 2, format: plain16 }), [HOPPER]],
    ["with 8 bits", makeSpec({ ...llama7b, layers: 2, format: { ...gptq4, bits: 8 } }), [HOPPER]],
  ])("has nothing to say %s", (_, model, cards) => {
    expect(rowsAtOnceOf(model, cards)).toBeUndefined();
  });
});

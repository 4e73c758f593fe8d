import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { windowsOf } from "./perplexity-windows.js";

const upTo = (n: number): number[] => Array.from({ length: n }, (_, index) => index);

describe("windowsOf", () => {
  it("cuts the fixtures' way: 40,961 ids are 40 windows of 1,024 predictions", () => {
    const { windows, dropped } = windowsOf([upTo(40_961)], { window: 1024, minimum: 1024 });
    expect(windows).toHaveLength(40);
    expect(windows.every((ids) => ids.length === 1025)).toBe(true);
    expect(windows[1]![0]).toBe(1024);
    expect(dropped).toBe(0);
  });

  it.each([
    ["leaves a short last window out", [upTo(150)], { window: 100, minimum: 100 }, [101], 49],
    ["keeps it from the minimum on", [upTo(150)], { window: 100, minimum: 49 }, [101, 50], 0],
    ["keeps a lone short text", [upTo(30)], { window: 100, minimum: 100 }, [30], 0],
    ["leaves short texts among several out", [upTo(30), upTo(101)], { window: 100, minimum: 50 }, [101], 29],
    ["predicts nothing from one id", [[7]], { window: 100, minimum: 1 }, [], 0],
    ["stops at the limit", [upTo(1000)], { window: 100, minimum: 100, limit: 3 }, [101, 101, 101], 99],
  ])("%s", (_what, texts, options, lengths, dropped) => {
    const cut = windowsOf(texts, options);
    expect(cut.windows.map((ids) => ids.length)).toEqual(lengths);
    expect(cut.dropped).toBe(dropped);
  });

  it("predicts every id but each text's first exactly once, or drops it", () => {
    const texts = fc.array(fc.nat(50).map(upTo), { maxLength: 5 });
    fc.assert(
      fc.property(texts, fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 20 }), (all, window, minimum) => {
        const { windows, dropped } = windowsOf(all, { window, minimum });
        const predicted = windows.reduce((sum, ids) => sum + ids.length - 1, 0);
        expect(predicted + dropped).toBe(all.reduce((sum, ids) => sum + Math.max(0, ids.length - 1), 0));
        expect(windows.every((ids) => ids.length >= 2 && ids.length <= window + 1)).toBe(true);
      }),
    );
  });
});

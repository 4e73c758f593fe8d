import { describe, expect, it } from "vitest";
import { decodeWindow } from "./decode-window.js";

/** A token every `every` ms. */
const steady = (begin: number, every: number, tokens: number, late = 0) =>
  Array.from({ length: tokens }, (_, i) => ({ at: begin + i * every + late, ids: 1 }));

describe("decodeWindow", () => {
  it("of one sequence is from its first token to its last", () => {
    const window = decodeWindow([steady(100, 10, 11)])!;
    expect(window.tokensPerSecond).toBeCloseTo(100, 9);
    expect(window).toMatchObject({ milliseconds: 100, answered: 6 });
  });

  it("begins when all are decoding and ends with the first that ends", () => {
    // Slow while the other's prompt is computed, then at the speed that counts.
    const early = [...steady(0, 50, 4), ...steady(200, 10, 11)];
    const { tokensPerSecond, milliseconds, answered } = decodeWindow([early, steady(200, 10, 20)])!;
    expect(tokensPerSecond).toBeCloseTo(200, 9);
    expect(milliseconds).toBe(100);
    expect(answered).toBe((5 + 5 + 1 + 5) / 2);
  });

  it("is the same whichever of a message's sequences is noted first", () => {
    const rates = [-0.01, 0, 0.01].map((late) => decodeWindow([steady(0, 10, 31), steady(100, 10, 30, late)])!.tokensPerSecond);
    for (const rate of rates) expect(rate).toBeCloseTo(200, 6);
  });

  it("counts what all get where they take turns", () => {
    // Three sequences, two at a time, a step every 10 ms: each rests every third step.
    const turns = [0, 1, 2].map((rests) =>
      Array.from({ length: 31 }, (_, step) => ({ at: 100 + step * 10 + rests * 0.01, ids: 1 })).filter(
        (_, step) => step === 0 || step % 3 !== rests,
      ),
    );
    expect(decodeWindow(turns)!.tokensPerSecond).toBeCloseTo(200, 6);
    // For longer: the last one's time begins with a rest.
    const long = [0, 1].map((rests) =>
      steady(0, 10, 81).filter((_, step) => step === 0 || Math.floor((step - 1) / 16) % 2 !== rests),
    );
    expect(decodeWindow(long)!.tokensPerSecond).toBeCloseTo(100, 6);
  });

  it("counts ids that come joined", () => {
    const joined = [
      { at: 0, ids: 3 },
      { at: 20, ids: 2 },
      { at: 50, ids: 3 },
    ];
    expect(decodeWindow([joined])!.tokensPerSecond).toBeCloseTo(100, 9);
  });

  it.each([
    ["one token", [steady(0, 10, 1)]],
    ["no token", [[]]],
    ["sequences that follow each other", [steady(0, 10, 5), steady(100, 10, 5)]],
  ])("is none for %s", (_what, sequences) => {
    expect(decodeWindow(sequences)).toBe(null);
  });
});

import { describe, expect, it } from "vitest";

describe("toEqual of typed arrays", () => {
  it("holds for the same numbers of the same type, wherever they lie", () => {
    const shared = new Float32Array(new SharedArrayBuffer(16));
    shared.set([1, Number.NaN, -0], 1);
    expect(Float32Array.of(1, Number.NaN, -0)).toEqual(shared.subarray(1));
    expect([{ rows: [Uint8Array.of(1, 2)] }]).toEqual([{ rows: [Uint8Array.of(1, 2)] }]);
  });

  it.each([
    ["another number", Float32Array.of(1, 2), Float32Array.of(1, 2.0000002)],
    ["a zero of the other sign", Float32Array.of(0), Float32Array.of(-0)],
    ["another length", Float32Array.of(1, 2), Float32Array.of(1)],
    ["another type", Float32Array.of(1), Float64Array.of(1)],
    ["the same bytes of another type", Int32Array.of(1), Uint32Array.of(1)],
    ["a list", Float32Array.of(1), [1]],
  ])("fails for %s", (_, one, other) => {
    expect(one).not.toEqual(other);
    expect(() => expect([one]).toEqual([other])).toThrow();
  });
});

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { halfBits } from "./half.js";

/** The value of f16 bits, from the format's definition. */
function halfValue(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
}

describe("halfBits", () => {
  it("keeps every f16 value as it is", () => {
    for (let bits = 0; bits < 0x10000; bits++) {
      const value = halfValue(bits);
      if (Number.isNaN(value)) expect(halfValue(halfBits(value))).toBeNaN();
      else expect(halfBits(value)).toBe(bits);
    }
  });

  it("takes the nearer neighbour, and the even one of two equally near", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0x7bfe }), fc.double({ min: 0, max: 1, noNaN: true }), (low, part) => {
        const [below, above] = [halfValue(low), halfValue(low + 1)];
        const value = Math.fround(below + (above - below) * part);
        const wanted = value - below < above - value || (value - below === above - value && low % 2 === 0) ? low : low + 1;
        expect(halfBits(value)).toBe(wanted);
        expect(halfBits(-value)).toBe(wanted | 0x8000);
      }),
    );
  });
});

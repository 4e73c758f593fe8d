import { describe, expect, it } from "vitest";
import { hasRelaxedSimd, withRelaxedSimd } from "./relaxed-simd.js";

/** (f32x4, f32x4, f32x4) → f32x4: f32x4.relaxed_madd, called with 2 · 3 + 4 in every lane. */
const MODULE = Uint8Array.of(
  ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
  ...[0x01, 0x08, 0x01, 0x60, 0x03, 0x7d, 0x7d, 0x7d, 0x01, 0x7d],
  ...[0x03, 0x02, 0x01, 0x00],
  ...[0x07, 0x05, 0x01, 0x01, 0x66, 0x00, 0x00],
  ...[0x0a, 0x16, 0x01, 0x14, 0x00, 0x20, 0x00, 0xfd, 0x13, 0x20, 0x01, 0xfd, 0x13, 0x20, 0x02, 0xfd, 0x13],
  ...[0xfd, 0x85, 0x02, 0xfd, 0x1f, 0x00, 0x0b],
);

describe("relaxed SIMD", () => {
  it("leaves the process's flags as they were", () => {
    const before = WebAssembly.validate(MODULE);
    expect(hasRelaxedSimd()).toBe(true);
    expect(withRelaxedSimd(() => WebAssembly.validate(MODULE))).toBe(true);
    expect(WebAssembly.validate(MODULE)).toBe(before);
  });
  it("runs in what was compiled with it, though its functions are compiled later", () => {
    const module = withRelaxedSimd(() => new WebAssembly.Module(MODULE));
    const { f } = new WebAssembly.Instance(module).exports as { f: (a: number, b: number, c: number) => number };
    expect(f(2, 3, 4)).toBe(10);
  });
});

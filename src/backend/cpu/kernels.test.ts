import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { CacheType } from "../../memory/packing.js";
import { distFile } from "../../paths.js";
import { CACHE_KINDS, cacheTokenBytes } from "./cache-layout.js";
import { instantiate, type Kernels, ValueKind } from "./kernels.js";
import { hasRelaxedSimd, withRelaxedSimd } from "./relaxed-simd.js";
import { partialBytes } from "./scratch.js";

const memory = new WebAssembly.Memory({ initial: 80, maximum: 80, shared: true });
const f32 = new Float32Array(memory.buffer);
const u16 = new Uint16Array(memory.buffer);
const f64 = new Float64Array(memory.buffer);
const builds = hasRelaxedSimd() ? ["kernels-relaxed", "kernels-simd"] : ["kernels-simd"];

function wasm(name: string): Uint8Array {
  return readFileSync(distFile(`wasm/${name}.wasm`));
}

/** A repeatable number between −1 and 1. */
function noise(index: number): number {
  const x = Math.sin(index * 12.9898 + 4.1414) * 43758.5453;
  return (x - Math.floor(x)) * 2 - 1;
}

function write(at: number, values: ArrayLike<number>): number {
  f32.set(values, at / 4);
  return at;
}

function random(count: number, seed: number, scale = 1): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => noise(i + seed * 100_003) * scale);
}

function read(at: number, count: number): number[] {
  return [...f32.subarray(at / 4, at / 4 + count)];
}

function expectNear(got: readonly number[], wanted: readonly number[], tolerance: number): void {
  expect(got.length).toBe(wanted.length);
  got.forEach((value, i) => {
    expect(Math.abs(value - wanted[i]!), `value ${i}: ${value} for ${wanted[i]}`).toBeLessThanOrEqual(tolerance);
  });
}

/** The value of f16 bits, by the format's definition. */
function half(bits: number): number {
  const [sign, exponent, fraction] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

const [A, B, C, D, E, F, G] = [0x10000, 0x50000, 0x90000, 0xd0000, 0x110000, 0x190000, 0x210000] as const;

describe.each(builds)("%s", (name) => {
  const kernels: Kernels = instantiate(
    { kernels: withRelaxedSimd(() => new WebAssembly.Module(wasm(name))), products: null },
    memory,
  );

  it("multiplies matrices of any size, whatever is left over", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 1, max: 37 }),
        fc.integer({ min: 1, max: 19 }),
        (m, size, out) => {
          const [w, x, bias] = [random(out * size, 1), random(m * size, 2), random(out, 3)];
          kernels.f32_linear(write(A, w), write(B, bias), write(C, x), m, size, D, out, 0, out);
          const wanted = Array.from({ length: m * out }, (_, i) => {
            const [token, row] = [Math.floor(i / out), i % out];
            let sum = bias[row]!;
            for (let k = 0; k < size; k++) sum += w[row * size + k]! * x[token * size + k]!;
            return sum;
          });
          expectNear(read(D, m * out), wanted, 1e-5);
        },
      ),
    );
  });

  it.each([8, 30, 130])("adds and normalises rows of %i", (size) => {
    const [x, delta, weight] = [random(2 * size, 1), random(2 * size, 2), random(size, 3)];
    kernels.rms_norm(write(A, x), write(B, delta), write(C, weight), D, size, 1e-5, 0, 2);
    const sums = Array.from(x, (value, i) => Math.fround(value + delta[i]!));
    expectNear(read(A, 2 * size), sums, 0);
    const wanted = sums.map((value, i) => {
      const row = sums.slice(Math.floor(i / size) * size, (Math.floor(i / size) + 1) * size);
      return (value / Math.sqrt(row.reduce((sum, one) => sum + one * one, 0) / size + 1e-5)) * weight[i % size]!;
    });
    expectNear(read(D, 2 * size), wanted, 1e-6);
  });

  it.each([8, 128, 130])("gives the same bits where a row of %i is normalised in parts", (size) => {
    const [x, delta, weight] = [random(size, 1), random(size, 2), random(size, 3)];
    const half = (size >> 4) * 8;
    for (const at of [0, write(B, delta)]) {
      kernels.rms_norm(write(A, x), at, write(C, weight), D, size, 1e-5, 0, 1);
      const [sums, wanted] = [read(A, size), read(D, size)];
      const factor = kernels.norm_factor(write(A, x), at, size, 1e-5);
      kernels.norm_columns(A, at, C, E, factor, half, size);
      kernels.norm_columns(A, at, C, E, factor, 0, half);
      expect(read(E, size)).toEqual(wanted);
      expect(read(A, size)).toEqual([...x]);
      if (at === 0) continue;
      kernels.add_columns(A, B, 0, half);
      kernels.add_columns(A, B, half, size);
      expect(read(A, size)).toEqual(sums);
    }
  });

  it("computes silu(gate) · up over the whole range, to a relative 1e-6", () => {
    const gate = [-1e4, -100, -88, -87.4, -20, -1, -1e-6, 0, 1e-6, 0.5, 1, 20, 87, 100, 1e4, ...random(100, 5, 30)];
    const up = gate.map((_, i) => 1 + (i % 3));
    kernels.silu_mul(write(A, gate), write(B, up), gate.length, 1, 0, gate.length);
    read(A, gate.length).forEach((value, i) => {
      const wanted = (Math.fround(gate[i]!) / (1 + Math.exp(-Math.fround(gate[i]!)))) * up[i]!;
      expect(Math.abs(value - wanted)).toBeLessThanOrEqual(1e-6 * Math.abs(wanted) + 1e-33);
    });
  });

  it.each([1, 7, 4096])("sums %i exponentials in f64", (size) => {
    const x = random(size, 1, 20);
    kernels.log_softmax_sums(write(A, x), size, B);
    const largest = Math.max(...x);
    expect(f64[B / 8]).toBe(largest);
    const sum = x.reduce((total, value) => total + Math.exp(value - largest), 0);
    expect(Math.abs(f64[B / 8 + 1]! / sum - 1)).toBeLessThan(1e-6);
    const index = () => new DataView(memory.buffer).getInt32(B + 20, true);
    expect(index()).toBe(x.indexOf(largest));
    // The first of several, wherever it is; and NaN is nobody's.
    x.fill(largest, Math.floor(size / 3));
    kernels.log_softmax_sums(write(A, x), size, B);
    expect(index()).toBe(x.indexOf(largest));
    x[size - 1] = Number.NaN;
    kernels.log_softmax_sums(write(A, x), size, B);
    expect([f64[B / 8], index()]).toEqual([Number.NaN, -1]);
  });

  it("widens every f16 and bf16 exactly", () => {
    for (let i = 0; i < 65536; i++) u16[A / 2 + i] = i;
    kernels.widen_row(A, B, 65536, ValueKind.f16);
    read(B, 65536).forEach((value, bits) => {
      if (!Object.is(value, half(bits))) expect.fail(`${bits} became ${value}, not ${half(bits)}`);
    });
    kernels.widen_row(A, B, 65536, ValueKind.bf16);
    const word = new Uint32Array(1);
    read(B, 65536).forEach((value, bits) => {
      word[0] = bits << 16;
      const wanted = new Float32Array(word.buffer)[0]!;
      if (!Object.is(value, wanted)) expect.fail(`${bits} became ${value}, not ${wanted}`);
    });
  });

  it("stores keys and values as the nearest f16, the even one of two", () => {
    const bits = [0, 1, 2, 0x3ff, 0x400, 0x401, 0x3c00, 0x3c01, 0x7bfe, 0x7bff];
    const exact = bits.map(half);
    const between = bits.slice(0, -1).map((low, i) => ({ low, value: (half(low) + half(low + 1)) / 2, i }));
    const inputs = [...exact, ...exact.map((value) => -value), ...between.map(({ value }) => value), 65520, 65519.9, Number.NaN];
    const wanted = [
      ...bits,
      ...bits.map((one) => one | 0x8000),
      ...between.map(({ low }) => low + (low & 1)),
      0x7c00,
      0x7bff,
      0x7e00,
    ];
    expect(inputs.length % 2).toBe(0);
    kernels.store_key_value(write(A, inputs), write(B, inputs), C, D, inputs.length, 11, 1);
    const keys = inputs.map((_, d) => u16[C / 2 + 8 * inputs.length + d * 8 + 3]!);
    expect(keys).toEqual(wanted);
    expect([...u16.subarray(D / 2 + 11 * inputs.length, D / 2 + 12 * inputs.length)]).toEqual(wanted);
  });

  it.each([ValueKind.f32, ValueKind.f16, ValueKind.bf16])("finds the first infinity or NaN (kind %i)", (kind) => {
    const infinity = kind === ValueKind.f16 ? 0x7c00 : 0x7f80;
    const put = (index: number) => {
      if (kind === ValueKind.f32) f32[A / 4 + index] = Number.NaN;
      else u16[A / 2 + index] = infinity;
    };
    new Uint8Array(memory.buffer, A, 4096).fill(kind === ValueKind.f32 ? 0x3c : 0x3a);
    expect(kernels.first_non_finite(A, 1000, kind)).toBe(-1);
    for (const index of [999, 991, 500, 7, 0]) {
      put(index);
      expect(kernels.first_non_finite(A, 1000, kind)).toBe(index);
    }
  });

  it.each([64, 20, 6])("rotates and normalises heads of %i", (headDim) => {
    const half = headDim / 2;
    const [x, cos, sin, norm] = [random(3 * headDim, 1), random(half, 2), random(half, 3), random(headDim, 4)];
    kernels.rope_heads(write(A, x), 3, headDim, write(B, cos), write(C, sin), write(D, norm), 1e-6, 0.25);
    const wanted = Array.from(x, (_, i) => {
      const head = x.subarray(Math.floor(i / headDim) * headDim, (Math.floor(i / headDim) + 1) * headDim);
      const factor = 1 / Math.sqrt(head.reduce((sum, value) => sum + value * value, 0) / headDim + 1e-6);
      const normed = Array.from(head, (value, d) => value * factor * norm[d]!);
      const d = i % headDim;
      const turned = d < half ? -normed[d + half]! : normed[d - half]!;
      return (normed[d]! * cos[d % half]! + turned * sin[d % half]!) * 0.25;
    });
    expectNear(read(A, 3 * headDim), wanted, 1e-6);
  });

  /** Attention of a block by the definition, in f64, over keys and values as the cache holds them. */
  function attention(
    q: Float32Array,
    keys: number[][],
    values: number[][],
    row: number,
    headDim: number,
    lo: number,
    hi: number,
  ) {
    const scores = keys.slice(lo, hi).map((key) => key.reduce((sum, value, d) => sum + value * q[row * headDim + d]!, 0));
    const largest = Math.max(...scores);
    const weights = scores.map((score) => Math.exp(score - largest));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return Array.from({ length: headDim }, (_, d) =>
      weights.reduce((sum, weight, t) => sum + (weight / total) * values[lo + t]![d]!, 0),
    );
  }

  it.each([2, 6, 20, 64, 96, 128, 256])("turns heads of %i so that turning them again gives them back", (headDim) => {
    const x = random(3 * headDim, 7);
    kernels.rotate_heads(write(A, x), 3, headDim);
    const turned = read(A, 3 * headDim);
    const block = Math.min(128, headDim & -headDim);
    // Row r, column c of a Hadamard matrix: -1 to the number of bits that both have.
    const sign = (r: number, c: number) => ((r & c).toString(2).replaceAll("0", "").length % 2 === 0 ? 1 : -1);
    const wanted = turned.map((_, i) => {
      const [begin, row] = [i - (i % block), i % block];
      let sum = 0;
      for (let c = 0; c < block; c++) sum += sign(row, c) * x[begin + c]!;
      return sum / Math.sqrt(block);
    });
    expectNear(turned, wanted, 2e-6);
    kernels.rotate_heads(A, 3, headDim);
    expectNear(read(A, 3 * headDim), [...x], 2e-6);
  });

  it.each([
    { tokens: 1, group: 1, headDim: 64, first: 0, window: 0, cache: "f32" },
    { tokens: 1, group: 8, headDim: 64, first: 300, window: 0, cache: "f16" },
    { tokens: 5, group: 3, headDim: 32, first: 253, window: 0, cache: "f32" },
    { tokens: 16, group: 1, headDim: 128, first: 240, window: 100, cache: "f16" },
    { tokens: 2, group: 2, headDim: 20, first: 70, window: 9, cache: "f32" },
    { tokens: 3, group: 1, headDim: 6, first: 255, window: 0, cache: "f16" },
    { tokens: 8, group: 2, headDim: 32, first: 302, window: 50, cache: "f32" },
    { tokens: 1, group: 8, headDim: 64, first: 300, window: 0, cache: "q8" },
    { tokens: 16, group: 1, headDim: 128, first: 240, window: 100, cache: "q8" },
    { tokens: 3, group: 1, headDim: 6, first: 255, window: 0, cache: "q8" },
    { tokens: 1, group: 8, headDim: 64, first: 300, window: 0, cache: "q4" },
    { tokens: 5, group: 2, headDim: 80, first: 240, window: 100, cache: "q4" },
    { tokens: 3, group: 1, headDim: 6, first: 255, window: 0, cache: "q4" },
  ])("attends $tokens tokens from $first × $group heads of $headDim, window $window, $cache cache", (shape) => {
    const { tokens, group, headDim, first, window } = shape;
    const cache = shape.cache as CacheType;
    const kind = CACHE_KINDS[cache];
    const length = first + tokens;
    const page = 256 * cacheTokenBytes(headDim, cache);
    // What was never written must never count.
    u16.fill(0x7e00, E / 2, (E + 2 * page) / 2);
    u16.fill(0x7e00, F / 2, (F + 2 * page) / 2);
    const [keys, values] = [1, 2].map((seed) =>
      Array.from({ length }, (_, t) =>
        [...random(headDim, seed * 1000 + t)].map((v) => (cache === "f16" ? Math.round(v * 512) / 512 : v)),
      ),
    ) as [number[][], number[][]];
    for (let t = 0; t < length; t++) {
      const at = Math.floor(t / 256) * page;
      const places = [write(A, keys[t]!), write(B, values[t]!), E + at, F + at, headDim, t % 256] as const;
      if (cache === "q8") kernels.store_codes_8(...places);
      else if (cache === "q4") kernels.store_codes_4(...places, C);
      else kernels.store_key_value(...places, kind);
    }
    // What was stored, which is not what was given: within half a step of q8, and not far from it in q4.
    if (cache === "q8" || cache === "q4") {
      const far = (given: number[], stored: number[]) =>
        given.map((v, d) => Math.abs(v - stored[d]!) / Math.max(...given.map(Math.abs)));
      const [keyTile, valueTile] = [B, D];
      for (let t = 0; t < length; t++) {
        const at = Math.floor(t / 256) * page;
        if (cache === "q8") kernels.widen_keys_8(E + at, headDim, (t % 256) & ~7, 8, keyTile);
        else kernels.widen_keys_4(E + at, headDim, (t % 256) & ~7, 8, keyTile);
        if (cache === "q8") kernels.widen_values_8(F + at, headDim, t % 256, 1, valueTile);
        else kernels.widen_values_4(F + at, headDim, t % 256, 1, valueTile);
        const stored = [read(keyTile, headDim * 8).filter((_, i) => i % 8 === t % 8), read(valueTile, headDim)] as const;
        const errors = [...far(keys[t]!, stored[0]), ...far(values[t]!, stored[1])];
        expect(Math.max(...errors)).toBeLessThan(cache === "q8" ? 0.5 / 127 + 1e-3 : 0.2);
        [keys[t], values[t]] = stored;
      }
    }
    const q = random(tokens * group * headDim, 9);
    const rows = tokens * group;
    // The partials right behind the scores, as in a step: what is written too far is seen.
    const scratch = G - rows * 256 * 4 - 32 * headDim * 4;
    const [partials, sums] = [G, C];
    write(A, q);
    kernels.clear_partials(sums, rows, headDim);
    for (let p = 0; p * 256 < length; p++) {
      if (window && (p + 1) * 256 <= first - window + 1) continue;
      const args = [tokens, group, headDim, first - p * 256, window, E + p * page, F + p * page, kind] as const;
      kernels.attend_page(A, group * headDim, ...args, scratch, partials);
      kernels.merge_partials(sums, partials, rows, headDim);
    }
    expect(rows * partialBytes(headDim)).toBeLessThan(D - C);
    kernels.finish_attention(sums, D, group * headDim, tokens, group, headDim);
    const wanted = Array.from({ length: rows }, (_, row) => {
      const position = first + Math.floor(row / group);
      return attention(q, keys, values, row, headDim, window ? Math.max(0, position - window + 1) : 0, position + 1);
    });
    expectNear(read(D, rows * headDim), wanted.flat(), 2e-6);
  });
});

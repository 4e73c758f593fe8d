// The adapter kernels against plain arithmetic, for every tail of rows, ranks and columns.

import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { Random } from "../../../test/support/random.js";
import { withAdapters } from "../../model/adapter.js";
import type { LinearSpec } from "../../model/spec.js";
import { distFile } from "../../paths.js";
import { adapterRegions } from "./adapter-layout.js";
import { loadAdapters } from "./adapter-loading.js";
import { instantiate } from "./kernels.js";

const memory = new WebAssembly.Memory({ initial: 8, maximum: 65536, shared: true });
const kernels = instantiate(
  { kernels: new WebAssembly.Module(readFileSync(distFile("wasm/kernels-simd.wasm"))), products: null },
  memory,
);
const [A, B, UNITS, X, T, Y] = [65536, 131072, 196608, 200000, 210000, 220000] as const;

interface Shape {
  readonly in: number;
  readonly out: number;
  readonly ranks: readonly number[];
}

/** Loads random factors as the backend does: magnitudes as they may come, from tiny to large. */
async function load({ in: inputs, out, ranks }: Shape, exact: boolean, random: Random) {
  const spec = withAdapters(
    modelOf({ name: "q", in: inputs, out, bias: false, format: { kind: "plain", dtype: "f16" } }),
    ranks.map((rank, i) => ({ name: `${i}`, layers: [rank > 0 ? { q: rank } : {}] })),
  );
  const linear = spec.layers[0]!.attention.q;
  const sizes = new Map(adapterRegions(linear, exact ? 4 : 2).map(({ name, bytes }) => [name, bytes]));
  const place: Record<string, number> = { "adapters.a": A, "adapters.b": B, "adapters.units": UNITS };
  const regions = {
    get: (name: string) => {
      const part = name.slice("layers.0.attention.q.".length);
      return { area: "weights" as const, name, arena: 0, offset: place[part]!, bytes: sizes.get(part)! };
    },
  };
  const pairs = ranks.map((rank, i) => ({
    a: Float32Array.from(random.normals(rank * inputs, 10 ** (i - 3))),
    b: Float32Array.from(random.normals(out * rank, 10 ** (-2 * i))),
  }));
  const sources = pairs.map((pair, i) => ({ spec: spec.adapters![i]!, bytes: 0, read: async () => pair }));
  await loadAdapters({ spec, regions, memories: [memory] } as never, sources, exact);
  return pairs;
}

function modelOf(q: LinearSpec) {
  const other: LinearSpec = { ...q, name: "other" };
  const norm = { tensor: "norm", size: q.in, eps: 1e-5 };
  const attention = { heads: 1, kvHeads: 1, headDim: 2, window: null, q, k: other, v: other, o: other, qNorm: null, kNorm: null };
  const mlp = { kind: "gated", gate: other, up: other, down: other } as const;
  return {
    layers: [{ index: 0, inputNorm: norm, attention, postAttentionNorm: norm, mlp }],
  } as unknown as Parameters<typeof withAdapters>[0];
}

describe.each([
  ["f16", false],
  ["f32", true],
] as const)("adapter kernels, %s factors", (_, exact) => {
  it.each<Shape>([
    { in: 64, out: 32, ranks: [8] },
    { in: 13, out: 21, ranks: [3, 0, 6] },
    { in: 5, out: 3, ranks: [1, 9] },
    { in: 130, out: 50, ranks: [4, 4] },
  ])("%o", async (shape) => {
    const random = new Random(shape.in);
    const pairs = await load(shape, exact, random);
    const { buffer } = memory;
    const x = new Float32Array(buffer, X, shape.in);
    const y = new Float32Array(buffer, Y, shape.out + 16);
    const tiles = Math.ceil(shape.out / 16);
    const total = shape.ranks.reduce((sum, rank) => sum + rank, 0);
    const bytes = exact ? 4 : 2;
    let first = 0;
    for (const [index, rank] of shape.ranks.entries()) {
      if (rank === 0) continue;
      x.set(random.normals(shape.in, 1));
      const before = Float32Array.from(random.normals(shape.out + 16, 1));
      y.set(before);
      const unit = new Float32Array(buffer, UNITS, shape.ranks.length)[index]!;
      const half = exact ? 0 : 1;
      kernels.adapter_shrink(A + first * shape.in * bytes, X, shape.in, rank, 0.5 * unit, T, half);
      for (let tile = 0; tile < tiles; tile++)
        kernels.adapter_expand(B + first * 16 * bytes, total, rank, T, Y, shape.out, tile, tile + 1, half);
      const { a, b } = pairs[index]!;
      const dot = (r: number) => x.reduce((sum, value, i) => sum + value * a[r * shape.in + i]!, 0);
      const t = Array.from({ length: rank }, (_, r) => 0.5 * dot(r));
      const wanted = Array.from({ length: shape.out }, (_, row) =>
        t.reduce((sum, value, r) => sum + value * b[row * rank + r]!, 0),
      );
      // Each product may be off by what rounding its factors does; what was there before takes bits of the sum.
      const rounding = exact ? 1e-6 : 2 ** -10;
      const most = Array.from(
        { length: rank },
        (_, r) => 0.5 * x.reduce((sum, value, i) => sum + Math.abs(value * a[r * shape.in + i]!), 0),
      );
      wanted.forEach((value, row) => {
        const bound = rounding * most.reduce((sum, size, r) => sum + size * Math.abs(b[row * rank + r]!), 0) + 1e-6;
        expect(Math.abs(y[row]! - before[row]! - value), `adapter ${index}, row ${row}`).toBeLessThan(bound);
      });
      expect([...y.subarray(shape.out)], "nothing beyond the outputs").toEqual([...before.subarray(shape.out)]);
      first += rank;
    }
  });
});

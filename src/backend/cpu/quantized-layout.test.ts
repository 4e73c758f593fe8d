import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { GptqFormat, LinearSpec, PlainFormat } from "../../model/spec.js";
import { fitsBlocks, orderByGroup, sequentialOrder } from "../input-order.js";
import { activationBytes, MAX_BLOCK, quantizedLayout, quantizedRegions, segmentActivationBytes } from "./quantized-layout.js";
import { packingStagingBytes, stagingTables } from "./quantized-staging.js";

const gptq = (format: Partial<GptqFormat> = {}): GptqFormat => ({
  kind: "gptq",
  bits: 4,
  groupSize: 128,
  zeros: "v1",
  gIdx: false,
  scaleDtype: "f16",
  ...format,
});
const linear = (inputs: number, out: number, format: GptqFormat | PlainFormat, bias = false): LinearSpec => ({
  name: "l",
  in: inputs,
  out,
  bias,
  format,
});
const bitsPerWeight = (spec: LinearSpec) => (quantizedLayout(spec).weightBytes * 8) / spec.in / spec.out;

describe("quantizedLayout", () => {
  it.each([
    [gptq(), 4.1875],
    [gptq({ scaleDtype: "f32" }), 4.3125],
    [gptq({ groupSize: 64 }), 4.375],
    [gptq({ groupSize: 32 }), 4.75],
    [gptq({ groupSize: 4096 }), 4.1875],
    [gptq({ bits: 3 }), 4.1875],
    [gptq({ bits: 8 }), 8.3125],
    [{ kind: "plain", dtype: "bf16" } as const, 8.3125],
  ])("%j takes %d bits a weight", (format, bits) => {
    expect(bitsPerWeight(linear(4096, 4096, format))).toBeCloseTo(bits, 3);
  });

  it("takes little more where g_idx may need segments", () => {
    expect(bitsPerWeight(linear(4096, 4096, gptq({ gIdx: true })))).toBeLessThan(4.19);
  });

  it.each([
    [256, 128],
    [128, 128],
    [64, 64],
    [192, 64],
    [32, 32],
    [96, 32],
    [160, 32],
  ])("groups of %d are cut into blocks of %d", (groupSize, blockSize) => {
    expect(quantizedLayout(linear(1920, 16, gptq({ groupSize }))).blockSize).toBe(blockSize);
  });

  it.each([8, 16, 24, 40, 100, 200])("groups of %d are stored in segments", (groupSize) => {
    expect(quantizedLayout(linear(1920, 16, gptq({ groupSize }))).form).toBe("segments");
  });

  it.each([1920, 2000, 1e9])("a group of %d of 1920 inputs is one group in blocks", (groupSize) => {
    expect(quantizedLayout(linear(1920, 16, gptq({ groupSize })))).toMatchObject({ form: "records", groups: 1, blockSize: 128 });
  });

  it("reserves a permutation wherever there is a g_idx, and a bias padded to whole tiles", () => {
    expect(quantizedRegions(linear(256, 40, gptq({ gIdx: true }), true))).toEqual([
      { name: "weights", bytes: expect.any(Number) },
      { name: "permutation", bytes: 1024 },
      { name: "bias", bytes: 192 },
    ]);
  });

  it("reserves enough for segments, whatever g_idx says", () => {
    const shapes = fc.record({
      inputs: fc.integer({ min: 1, max: 80 }).map((n) => n * 8),
      groupSize: fc.integer({ min: 8, max: 300 }),
      bits: fc.constantFrom(4 as const, 8 as const),
      seed: fc.integer(),
      runs: fc.boolean(),
    });
    fc.assert(
      fc.property(shapes, ({ inputs, groupSize, bits, seed, runs }) => {
        const spec = linear(inputs, 16, gptq({ bits, groupSize, gIdx: true }));
        const layout = quantizedLayout(spec);
        let state = seed;
        const random = () => {
          state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
          return state / 0x80000000;
        };
        const gIdx = Int32Array.from({ length: inputs }, () => Math.floor(random() * layout.groups));
        if (runs) gIdx.sort();
        const order = orderByGroup("g_idx", gIdx, layout.groups);
        if (layout.form === "records") {
          expect(fitsBlocks(order, layout.blockSize)).toBe(true);
          return;
        }
        let count = 0;
        let bytes = 0;
        for (let group = 0; group < layout.groups; group++)
          for (let start = order.starts[group]!; start < order.starts[group + 1]!; start += MAX_BLOCK) {
            count++;
            bytes += segmentActivationBytes(layout, start, Math.min(MAX_BLOCK, order.starts[group + 1]! - start));
          }
        expect(count).toBeLessThanOrEqual(layout.maxSegments);
        expect(bytes).toBeLessThanOrEqual(activationBytes(spec, 1) - activationBytes(spec, 0));
      }),
    );
  });
});

describe("orderByGroup", () => {
  it("keeps inputs that come sorted, and sorts others by group, stable", () => {
    expect(orderByGroup("g", Int32Array.of(0, 0, 1, 2, 2), 3)).toEqual({ permutation: null, starts: Int32Array.of(0, 2, 3, 5) });
    expect(orderByGroup("g", Int32Array.of(2, 0, 2, 0, 0), 3)).toEqual({
      permutation: Int32Array.of(1, 3, 4, 0, 2),
      starts: Int32Array.of(0, 3, 3, 5),
    });
  });
  it("agrees with inputs that come in sequence", () => {
    const gIdx = Int32Array.from({ length: 10 }, (_, k) => Math.floor(k / 4));
    expect(orderByGroup("g", gIdx, 3)).toEqual(sequentialOrder(10, 3, 4));
  });
});

describe("packingStagingBytes", () => {
  it("is small beside the tensors, and holds the tables and a slab of each", () => {
    const head = linear(8192, 152064, gptq({ bits: 3, gIdx: true }));
    expect(packingStagingBytes(head)).toBe(stagingTables(head).slab + 3 * 152064 * 4);
    expect(packingStagingBytes(head)).toBeLessThan(2 * 2 ** 20);
    expect(packingStagingBytes(linear(28672, 8192, { kind: "plain", dtype: "f32" }))).toBeLessThan(2 * 2 ** 20);
  });
});

import { describe, expect, it } from "vitest";
import { gptq4, llama3_8b, llama7b, llama70b, makeSpec, plain16, type Shape } from "../../../../test/support/shapes.js";
import { layout } from "../../../memory/layout.js";
import type { CacheType } from "../../../memory/packing.js";
import { RegionIndex } from "../../../memory/regions.js";
import type { LayerSpec, LinearFormat } from "../../../model/spec.js";
import { cudaPacking } from "../packing.js";
import { chainScratch } from "./chain-launch.js";
import { chainLayout, chainShape, wholeLayer } from "./chain-shape.js";

const layersOf = (shape: Partial<Shape>) => makeSpec({ ...llama7b, layers: 2, ...shape }).layers as [LayerSpec, LayerSpec];
const withO = (layer: LayerSpec, format: LinearFormat): LayerSpec => ({
  ...layer,
  attention: { ...layer.attention, o: { ...layer.attention.o, format } },
});

describe("chainShape", () => {
  it("has the linears between two attentions, of one layer and of the next", () => {
    const [first, second] = layersOf(llama3_8b);
    const parts = { bits: 4, group: 128, hidden: 4096, attention: 4096, intermediate: 14336, next: [4096, 1024, 1024] };
    expect(chainShape(first, second)).toEqual(parts);
    expect(chainShape(first, null)).toEqual({ ...parts, next: [] });
    expect(chainShape(null, second)).toEqual({ ...parts, attention: 0, intermediate: 0 });
  });

  it("takes large groups, whose scales are repeated", () => {
    const [first, second] = layersOf({ format: { ...gptq4, groupSize: 1024 } });
    expect(chainShape(first, second)).toMatchObject({ group: 128 });
  });

  it.each<[string, Partial<Shape>]>([
    ["plain weights", { format: plain16 }],
    ["8 bits", { format: { ...gptq4, bits: 8 } }],
    ["groups of 32", { format: { ...gptq4, groupSize: 32 } }],
    ["odd sizes", { intermediate: 11072 }],
    ["experts", { experts: 4 }],
  ])("is null for %s", (_, shape) => {
    const [first, second] = layersOf(shape);
    expect(chainShape(first, second)).toBeNull();
    expect(chainShape(first, null)).toBeNull();
  });

  it("is null where linears are not alike, whole or in the part that has one of another kind", () => {
    const [first, second] = layersOf({});
    const other = withO(first, { ...gptq4, bits: 8 });
    expect(chainShape(other, second)).toBeNull();
    expect(chainShape(other, null)).toBeNull();
    expect(chainShape(null, other)).not.toBeNull();
  });
});

describe("wholeLayer", () => {
  const [layer] = layersOf(llama3_8b);

  it("has a layer's linears and its heads", () => {
    expect(wholeLayer(layer, "f16")).toEqual({ shape: chainShape(layer, layer), heads: { heads: 32, kvHeads: 8, headDim: 128 } });
  });

  it.each<[string, LayerSpec, CacheType]>([
    ["a quantised cache", layer, "q8"],
    ["heads of 96", layersOf({ headDim: 96 })[0], "f16"],
    ["more than 16 query heads to a KV head", layersOf({ heads: 32, kvHeads: 1 })[0], "f16"],
    ["linears of different kinds", withO(layer, plain16), "f16"],
  ])("is null for %s", (_, layer, cache) => {
    expect(wholeLayer(layer, cache)).toBeNull();
  });
});

describe("chainLayout", () => {
  const run = { context: 1024, cacheTokens: 1024, cacheType: "f16", maxSequences: 1, prefillChunk: 512 } as const;

  it("has room for every two layers in a row", () => {
    const spec = makeSpec({ ...llama70b, layers: 3 });
    const { bytes, ...at } = chainLayout(spec.layers, "f16")!;
    const size = {
      sums: at.gated - at.sums,
      gated: at.pieces - at.gated,
      pieces: at.epochs - at.pieces,
      epochs: at.heads - at.epochs,
      heads: at.gathered - at.heads,
      gathered: at.parts - at.gathered,
      parts: bytes - at.parts,
    };
    for (const layer of [null, ...spec.layers])
      for (const next of [null, ...spec.layers]) {
        const shape = layer || next ? chainShape(layer, next) : null;
        if (!shape) continue;
        const needed = chainScratch(
          shape,
          (layer ?? next)!.attention.headDim === 128 ? { heads: 64, kvHeads: 8, headDim: 128 } : null,
        );
        for (const part of Object.keys(size) as (keyof typeof size)[]) expect(size[part]).toBeGreaterThanOrEqual(needed[part]);
      }
    expect(Object.values(at).filter((offset) => offset % 256 !== 0)).toEqual([]);
  });

  it("is null where layers differ in width", () => {
    expect(chainLayout(makeSpec({ ...llama70b, layers: 2, intermediate: [28672, 8192] }).layers, "f16")).toBeNull();
  });

  it.each([
    ["7B", llama7b, 1024 * 1024],
    ["70B", { ...llama70b, layers: 4 }, 3072 * 1024],
  ])("is little: %s", (_, shape, most) => {
    expect(chainLayout(makeSpec(shape).layers, "f16")!.bytes).toBeLessThan(most);
  });

  it("is in the plan where a chain is possible, and only there", () => {
    const region = (format: LinearFormat, part = layersOf({ format })) => {
      const spec = { ...makeSpec({ ...llama7b, layers: 2, format }), layers: part };
      return new RegionIndex(layout(spec, { first: 0, count: 2 }, run, cudaPacking)).find("scratch.chain");
    };
    expect(region(gptq4)?.bytes).toBe(chainLayout(layersOf({}), "f16")!.bytes);
    // Only the contents show that inputs are in their own order after all.
    expect(region({ ...gptq4, gIdx: true })).not.toBeNull();
    expect(region(plain16)).toBeNull();
    const [first, second] = layersOf({});
    const eight = { ...gptq4, bits: 8 } as const;
    expect(region(gptq4, [withO(first, eight), withO(second, eight)])).not.toBeNull(); // q, k and v alone
  });
});

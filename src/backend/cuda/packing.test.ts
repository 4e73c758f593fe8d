import { describe, expect, it } from "vitest";
import { gptq4, llama3_8b, llama13b, makeSpec, type Shape } from "../../../test/support/shapes.js";
import { layout } from "../../memory/layout.js";
import type { RegionSize } from "../../memory/packing.js";
import { RegionIndex } from "../../memory/regions.js";
import { MiB } from "../../memory/size.js";
import type { GptqFormat } from "../../model/spec.js";
import { cudaPacking } from "./packing.js";

const run = { context: 4096, cacheTokens: 4096, cacheType: "f16", maxSequences: 2, prefillChunk: 512 } as const;
const sum = (regions: readonly RegionSize[]) => regions.reduce((all, { bytes }) => all + bytes, 0);

function layerBytes(shape: Partial<Shape>): number {
  const spec = makeSpec({ ...llama13b, layers: 1, ...shape });
  return sum(cudaPacking.layer(spec, spec.layers[0]!));
}

describe("cudaPacking", () => {
  it.each<[string, Partial<GptqFormat>, number]>([
    ["2 bits", { bits: 2 }, 2 + (16 + 2) / 128],
    ["3 bits", { bits: 3 }, 3 + (16 + 4) / 128],
    ["4 bits", {}, 4 + (16 + 4) / 128],
    ["8 bits", { bits: 8 }, 8 + (16 + 8) / 128],
    ["4 bits, g32", { groupSize: 32 }, 4 + (16 + 4) / 32],
  ])("takes for %s little more than codes, scales and zeros", (_, format, bits) => {
    const weights = 4 * 5120 ** 2 + 3 * 5120 * 13824;
    const stored = (layerBytes({ format: { ...gptq4, ...format } }) * 8) / weights;
    expect(stored).toBeGreaterThan(bits * 0.999);
    expect(stored).toBeLessThan(bits * 1.01);
  });

  it("keeps room for a permutation per linear wherever g_idx exists", () => {
    const permuted = layerBytes({ format: { ...gptq4, gIdx: true } });
    expect(permuted - layerBytes({})).toBe((6 * 5120 + 13824) * 4);
  });

  it.each([
    ["f32", 1024],
    ["f16", 512],
    ["q8", 260],
    ["q4", 144],
  ] as const)("takes for an %s cache %d bytes per token and KV head of 128", (type, bytes) => {
    expect(sum(cudaPacking.kv(makeSpec(llama3_8b).layers[0]!, 256, type)) / 256 / 8).toBe(bytes);
  });

  it.each([
    ["q8", 72, 82],
    ["q4", 80, 54],
    ["q4", 24, 18],
  ] as const)("pads the %s rows of heads of %d to whole cells", (type, headDim, bytes) => {
    const layer = makeSpec(llama3_8b).layers[0]!;
    const regions = cudaPacking.kv({ ...layer, attention: { ...layer.attention, headDim } }, 256, type);
    expect(sum(regions) / 256 / 8 / 2).toBe(bytes);
  });

  it("keeps embeddings on the host, and counts every expert", () => {
    expect(sum(cudaPacking.embedding(makeSpec(llama13b)))).toBe(0);
    expect(layerBytes({ experts: 8 })).toBeGreaterThan(7 * layerBytes({}) * 0.66);
  });

  it.each([
    [256, 32],
    [512, 32],
    [1024, 48],
    [2048, 96],
    [8192, 96],
  ])("expands weights through a slab that grows with a step of %i tokens to %i MiB", (prefillChunk, mebibytes) => {
    const spec = makeSpec({ ...llama13b, layers: 1 });
    const stage = { layers: spec.layers, first: true, last: true };
    const slab = cudaPacking.scratch(spec, stage, { ...run, prefillChunk }).find(({ name }) => name === "scratch.expanded")!;
    // Whole tiles of sixteen outputs of the widest linear, of 13824 or of 5120 inputs.
    expect(slab.bytes).toBeLessThanOrEqual(mebibytes * MiB);
    expect(slab.bytes).toBeGreaterThan(mebibytes * MiB - 16 * 5120 * 2);
  });

  it("names every region of a stage once, and scratch by what the stage does", () => {
    const spec = makeSpec(llama3_8b);
    const part = (first: number, count: number) => new RegionIndex(layout(spec, { first, count }, run, cudaPacking));
    expect(part(16, 16).get("scratch.logits").bytes).toBeGreaterThanOrEqual(2 * 128256 * 4);
    expect(part(0, 16).find("scratch.logits")).toBeNull();
    expect(layout(spec, { first: 0, count: 16 }, run, cudaPacking).scratch).toBeLessThan(256 * MiB);
  });
});

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { packingArbitrary, shapeArbitrary } from "../../test/support/random-models.js";
import { gptq4, llama3_8b, llama7b, llama70b, makeSpec, plain16 } from "../../test/support/shapes.js";
import { simplePacking } from "../../test/support/simple-packing.js";
import { cpuExactPacking } from "../backend/cpu/packing.js";
import { cudaPacking } from "../backend/cuda/packing.js";
import { ArenaTooSmallError } from "./errors.js";
import { type LayerRange, layout } from "./layout.js";
import type { Packing, RunShape } from "./packing.js";
import type { StageLayout } from "./plan.js";
import { arenaOfLayer, RegionIndex } from "./regions.js";
import { MiB } from "./size.js";
import { StageCosts } from "./stage-costs.js";

const run: RunShape = { context: 2048, cacheTokens: 2048, cacheType: "f16", maxSequences: 2, prefillChunk: 512 };
const small = { layers: 3, hidden: 128, heads: 4, kvHeads: 2, headDim: 32, intermediate: 384, vocab: 512 };

/** Regions in order, apart, aligned and inside their arenas; sums that add up to the arenas. */
function expectSound(stage: StageLayout, packing: Packing): void {
  for (const [index, arena] of stage.arenas.entries()) {
    let end = packing.arenaHeader;
    for (const region of stage.regions.filter((one) => one.arena === index)) {
      expect(region.offset).toBeGreaterThanOrEqual(end);
      expect(region.offset % packing.alignment).toBe(0);
      end = region.offset + region.bytes;
    }
    expect(end).toBeLessThanOrEqual(arena.bytes);
    expect(arena.bytes % packing.granularity).toBe(0);
    expect(arena.bytes).toBeLessThanOrEqual(packing.maxArena);
  }
  const bytes = stage.arenas.reduce((sum, arena) => sum + arena.bytes, 0);
  expect(stage.weights + stage.kvCache + stage.scratch).toBe(bytes);
}

describe("layout", () => {
  it("places header, weights, KV and scratch in this order", () => {
    const spec = makeSpec(small);
    const packing = { ...simplePacking(MiB), arenaHeader: 100, alignment: 64, embeddings: "device" as const };
    const stage = layout(spec, { first: 0, count: 3 }, run, packing);
    expectSound(stage, packing);
    expect(stage.regions.map(({ name }) => name)).toEqual([
      ...["embedding", "layers.0", "layers.1", "layers.2", "head"],
      ...["layers.0.kv", "layers.1.kv", "layers.2.kv", "scratch"],
    ]);
    expect(stage.regions[0]).toEqual({ area: "weights", name: "embedding", arena: 0, offset: 128, bytes: 512 * 128 * 2 });
    expect(stage.arenas).toEqual([{ bytes: 4 * MiB, firstLayer: 0, layerCount: 3 }]);
  });

  it("gives the head to the last layer and the embedding to the first", () => {
    const spec = makeSpec(small);
    const packing = { ...simplePacking(), embeddings: "device" as const };
    const names = (range: LayerRange) => layout(spec, range, run, packing).regions.map(({ name }) => name);
    expect(names({ first: 0, count: 1 })).toEqual(["embedding", "layers.0", "layers.0.kv", "scratch"]);
    expect(names({ first: 1, count: 1 })).toEqual(["layers.1", "layers.1.kv", "scratch"]);
    expect(names({ first: 2, count: 1 })).toEqual(["layers.2", "head", "layers.2.kv", "scratch"]);
  });

  it("cuts a stage into arenas between layers, each with its own header and scratch", () => {
    const spec = makeSpec(llama7b);
    const packing = { ...simplePacking(100 * MiB), arenaHeader: 65536, maxArena: 1024 * MiB, embeddings: "device" as const };
    const stage = layout(spec, { first: 0, count: 32 }, run, packing);
    expectSound(stage, packing);
    expect(stage.arenas.length).toBeGreaterThan(3);
    expect(stage.regions.filter(({ name }) => name === "scratch")).toHaveLength(stage.arenas.length);
    let next = 0;
    for (const { firstLayer, layerCount } of stage.arenas) {
      expect(firstLayer).toBe(next);
      next += layerCount;
    }
    expect(next).toBe(32);
    const arenas = new Set(stage.regions.filter(({ name }) => name.startsWith("layers.7")).map(({ arena }) => arena));
    expect([...arenas]).toEqual([arenaOfLayer(stage, 7)]);
  });

  it("gives the head an arena of its own where no room is left beside the last layer", () => {
    const spec = makeSpec(llama3_8b); // a head of 1002 MiB
    const packing = { ...simplePacking(), maxArena: 1100 * MiB };
    const stage = layout(spec, { first: 31, count: 1 }, run, packing);
    expect(stage.arenas.map(({ firstLayer, layerCount }) => [firstLayer, layerCount])).toEqual([
      [31, 1],
      [32, 0],
    ]);
  });

  it("refuses a layer that is larger than an arena may be, with its bytes", () => {
    const spec = makeSpec(llama70b);
    const layer = () => layout(spec, { first: 3, count: 2 }, run, { ...simplePacking(), maxArena: 256 * MiB });
    expect(layer).toThrow(ArenaTooSmallError);
    expect(layer).toThrow(/layer 3 with its cache and scratch needs .* at most 256 MiB/);
  });

  it("counts tied embeddings once where they lie together", () => {
    const packing = { ...simplePacking(), embeddings: "device" as const };
    const weights = (tied: boolean, range: LayerRange) => layout(makeSpec({ ...small, tied }), range, run, packing).weights;
    const table = 512 * 128 * 2;
    const whole = { first: 0, count: 3 };
    expect(weights(false, whole) - weights(true, whole)).toBe(table);
    const apart = weights(true, { first: 0, count: 2 }) + weights(true, { first: 2, count: 1 });
    expect(apart - weights(true, whole)).toBe(table);
  });

  it("never lets regions overlap or leave their arena, whatever the packing", () => {
    fc.assert(
      fc.property(shapeArbitrary, packingArbitrary, (shape, packing) => {
        const spec = makeSpec(shape);
        for (const range of rangesOf(shape.layers)) expectSound(layout(spec, range, run, packing), packing);
      }),
    );
  });
});

describe("RegionIndex", () => {
  const spec = makeSpec(llama7b);
  const stage = layout(spec, { first: 0, count: 32 }, run, { ...simplePacking(), maxArena: 1024 * MiB });

  it("finds regions by name, scratch per arena", () => {
    const index = new RegionIndex(stage);
    expect(index.get("layers.31.kv").arena).toBe(arenaOfLayer(stage, 31));
    expect(index.get("scratch", 1).arena).toBe(1);
    expect(index.find("layers.0", 1)).toBeNull();
    expect(index.find("nothing")).toBeNull();
    expect(() => index.get("nothing", 0)).toThrow(/no region nothing in arena 0/);
    expect(() => arenaOfLayer(stage, 99)).toThrow(/layer 99/);
  });
});

describe("stage costs", () => {
  const packings: [string, Packing][] = [
    ["cuda", cudaPacking],
    ["cpu-exact", cpuExactPacking],
    ["simple", simplePacking()],
  ];
  it.each(packings)("are what layout() takes, for every run of layers: %s", (_, packing) => {
    const windows = [null, 512, null, 512, 256];
    const intermediate = [384, 384, 512, 384, 512];
    for (const format of [gptq4, plain16])
      for (const tied of [false, true]) {
        const shape = { ...small, layers: 5, format, tied, windows, intermediate };
        expectCostsEqualLayout(makeSpec(shape), packing, run);
      }
    expectCostsEqualLayout(makeSpec({ ...small, layers: 4, experts: 3 }), packing, run);
  });

  it("are what layout() takes, whatever the packing", () => {
    fc.assert(
      fc.property(shapeArbitrary, packingArbitrary, (shape, packing) => expectCostsEqualLayout(makeSpec(shape), packing, run)),
      { numRuns: 200 },
    );
  });
});

function expectCostsEqualLayout(spec: ReturnType<typeof makeSpec>, packing: Packing, shape: RunShape): void {
  const all = spec.layers.length;
  const costs = new StageCosts(spec, packing).of(shape);
  const table = costs.table();
  for (const range of rangesOf(all)) {
    const laidOut = bytesOf(spec, range, shape, packing);
    expect(table[range.first * (all + 1) + range.first + range.count]).toBe(laidOut);
    expect(costs.stage(range.first, range.count)).toBe(laidOut);
  }
}

function bytesOf(spec: ReturnType<typeof makeSpec>, range: LayerRange, shape: RunShape, packing: Packing): number {
  try {
    const stage = layout(spec, range, shape, packing);
    return stage.weights + stage.kvCache + stage.scratch;
  } catch (error) {
    if (error instanceof ArenaTooSmallError) return Number.POSITIVE_INFINITY;
    throw error;
  }
}

function rangesOf(layers: number): LayerRange[] {
  const ranges: LayerRange[] = [];
  for (let first = 0; first < layers; first++)
    for (let count = 1; first + count <= layers; count++) ranges.push({ first, count });
  return ranges;
}

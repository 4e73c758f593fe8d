import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fixture } from "../../../test/support/fixtures.js";
import { openCheckpoint } from "../../checkpoint/local.js";
import { RegionIndex } from "../../memory/regions.js";
import { readModel } from "../../model/read.js";
import type { LinearSpec, ModelSpec } from "../../model/spec.js";
import { stagingArea } from "./arena-memory.js";
import { exactStagingBytes } from "./exact-layout.js";
import { cpuExactPacking, cpuPacking } from "./packing.js";
import { packingStagingBytes } from "./quantized-staging.js";
import { linearsOf } from "./scratch.js";
import { planTestModel } from "./test-model.js";

async function model(name: string): Promise<ModelSpec> {
  const checkpoint = await openCheckpoint(fixture(name));
  await checkpoint.close();
  return readModel(checkpoint);
}

/** The model with everything so many times as large. */
function enlarged(spec: ModelSpec, times: number): ModelSpec {
  const linear = (one: LinearSpec) => ({ ...one, in: one.in * times, out: one.out * times });
  return {
    ...spec,
    hiddenSize: spec.hiddenSize * times,
    layers: spec.layers.map((layer) => {
      if (layer.mlp.kind !== "gated") return layer;
      const { q, k, v, o, heads, kvHeads } = layer.attention;
      const { gate, up, down } = layer.mlp;
      return {
        ...layer,
        attention: {
          ...layer.attention,
          heads: heads * times,
          kvHeads: kvHeads * times,
          q: linear(q),
          k: linear(k),
          v: linear(v),
          o: linear(o),
        },
        mlp: { kind: "gated", gate: linear(gate), up: linear(up), down: linear(down) },
      };
    }),
    head: { ...spec.head, in: spec.head.in * times },
  };
}

describe("the CPU packings", () => {
  it("count the cache as it is stored", async () => {
    const [layer] = (await model("demo-gptq-4bit-g128")).layers;
    const bytes = (type: "f32" | "f16" | "q8" | "q4") => cpuPacking.kv(layer!, 512, type).map((region) => region.bytes);
    // 512 tokens × 2 KV heads of 64, keys and values each
    expect(bytes("f16")).toEqual([131072, 131072]);
    expect(bytes("f32")).toEqual([262144, 262144]);
    expect(bytes("q8")).toEqual([67584, 67584]);
    expect(bytes("q4")).toEqual([36864, 36864]);
  });

  it("store tied embeddings once where the head lies beside them, twice where not", async () => {
    const spec = await model("tiny/llama-gqa-tied");
    for (const packing of [cpuPacking, cpuExactPacking]) {
      const sum = (regions: { bytes: number }[]) => regions.reduce((total, { bytes }) => total + bytes, 0);
      const norm = spec.hiddenSize * 4;
      expect(sum(packing.head(spec, true))).toBe(norm);
      expect(sum(packing.head(spec, false))).toBe(norm + sum(packing.embedding(spec)));
    }
    expect(cpuExactPacking.embedding(spec)).toEqual([{ name: "embedding.weights", bytes: 512 * 128 * 4 }]);
  });

  it("keep untied embeddings as the checkpoint has them", async () => {
    const spec = await model("demo-gptq-4bit-g128");
    for (const packing of [cpuPacking, cpuExactPacking])
      expect(packing.embedding(spec)).toEqual([{ name: "embedding.rows", bytes: 4096 * 256 * 2 }]);
  });

  it("need about 4.6 bits for a 4-bit weight, 32 for an exact one", async () => {
    const spec = await model("demo-gptq-4bit-g128");
    const layer = spec.layers[0]!;
    const weights = linearsOf(layer).reduce((sum, linear) => sum + linear.in * linear.out, 0);
    const bits = (packing: typeof cpuPacking) =>
      (packing.layer(spec, layer).reduce((sum, { bytes }) => sum + bytes, 0) * 8) / weights;
    expect(bits(cpuPacking)).toBeLessThan(4.6);
    expect(bits(cpuExactPacking)).toBeLessThan(32.1);
  });

  it("leave room in every arena through which each of its linears can be loaded, however small the step", async () => {
    const specs = await Promise.all(["demo-gptq-4bit-g128-act", "tiny/llama-gqa-tied"].map(model));
    fc.assert(
      fc.property(
        fc.constantFrom(...specs),
        fc.constantFrom(
          { packing: cpuPacking, least: packingStagingBytes },
          { packing: cpuExactPacking, least: exactStagingBytes },
        ),
        fc.integer({ min: 1, max: 24 }),
        fc.integer({ min: 1, max: 64 }),
        (small, { packing, least }, times, prefillChunk) => {
          const spec = enlarged(small, times);
          const { plan } = planTestModel(spec, packing, { context: 256, prefillChunk });
          const stage = plan.devices[0]!.stage!;
          const { bytes } = stagingArea(stage, new RegionIndex(stage), 0);
          for (const linear of [...spec.layers.flatMap(linearsOf), spec.head])
            expect(bytes).toBeGreaterThanOrEqual(least(linear));
        },
      ),
    );
  });
});
